import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import InputError
from src.files import sealed_line
from src.journal import Journal

ROWS = [{"epoch": 1, "loss": 1 / 3, "name": "é\n"}, {"epoch": 2, "loss": float("inf")}]


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "rows.jsonl")
    for row in ROWS:
        journal.append(row)
    return journal


def test_what_was_appended_comes_back_and_reading_goes_on(journal):
    rows, offset = journal.read()
    assert rows == ROWS
    journal.append({"epoch": 3})
    assert journal.read(offset)[0] == [{"epoch": 3}]
    assert Journal(journal.path.with_name("none")).read() == ([], 0)


def test_a_torn_line_is_none_until_it_is_cut_off(journal):
    good = journal.path.read_bytes()
    journal.path.write_bytes(good + sealed_line({"epoch": 3})[:-5])
    assert journal.read() == (ROWS, len(good))
    assert journal.mend()
    assert not journal.mend()
    assert journal.path.read_bytes() == good


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_read_as_something_else(tmp_path_factory, place, bit):
    content = bytearray(b"".join(map(sealed_line, ROWS)))
    content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "rows.jsonl"
    path.write_bytes(content)
    try:
        rows, _ = Journal(path).read()
    except InputError:
        return
    assert rows == ROWS[: len(rows)]  # the last line end: a torn line


def test_a_full_disk_leaves_the_file_as_it_was(journal, monkeypatch):
    good = journal.path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        journal.append({"epoch": 3})
    assert journal.path.read_bytes() == good
