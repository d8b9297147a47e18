import bz2
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data import csv
from src.errors import InputError


def read(content, name="mine.csv", missing=()):
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table, notes = csv.read({path: None}, list(missing))
    return table.frame().to_dict("list"), notes


@pytest.mark.parametrize("delimiter", csv.DELIMITERS)
def test_the_delimiter_is_found(workspace, delimiter):
    lines = ["name,a b", "x,1", '"p,q",2', "y,3"]
    swapped = "\n".join(line.replace(",", delimiter) for line in lines)
    found, _ = read(swapped)
    assert found == {"name": ["x", f"p{delimiter}q", "y"], "a b": [1, 2, 3]}


def test_commas_within_words_do_not_hide_the_delimiter(workspace):
    assert read("a;b\n1,5;x, y\n2,5;z\n")[0] == {"a": [1.5, 2.5], "b": ["x, y", "z"]}


def test_the_decimal_sign_is_found(workspace):
    assert read("a;b\n1,5;2\n-0,25;3\n")[0] == {"a": [1.5, -0.25], "b": [2, 3]}
    assert read("a;b\n1.5;2\n-0.25;3\n")[0] == {"a": [1.5, -0.25], "b": [2, 3]}


def test_numbers_with_a_comma_among_words_for_missing_ones_are_numbers(workspace):
    found, _ = read("a;b\n1,5;2\n?;3\n-0,25;1,2e3\nsee 3,5;4\n,5;5\n-6,;6\n")
    assert found == {"a": ["1.5", "?", "-0.25", "see 3,5", ".5", "-6."], "b": [2, 3, 1200, 4, 5, 6]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_is_found_and_a_guess_is_told(workspace, encoding):
    found, notes = read("größe,y\n1,é\n2,ü\n".encode(encoding))
    assert found == {"größe": [1, 2], "y": ["é", "ü"]}
    assert [note.split(" and ")[0] for note in notes] == ["mine.csv is not UTF-8"] * (encoding == "cp1252")


def test_another_encoding_far_into_the_file_is_found_too(workspace):
    content = b"a,y\n" + b"1,x\n" * csv.HEAD + "2,é\n".encode("cp1252")
    found, notes = read(content)
    assert found["y"][-1] == "é"
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("zst", lambda content: pa.Codec("zstd").compress(content, asbytes=True)),
    ],
)
def test_compressed_files_are_read(workspace, suffix, pack):
    packed = pack(b"a,y\n1,x\n2,z\n")
    assert read(packed, f"mine.csv.{suffix}")[0] == {"a": [1, 2], "y": ["x", "z"]}
    with pytest.raises(InputError, match=rf"mine.csv.{suffix} (cannot be read|is not a well-formed CSV file|is empty)"):
        read(packed[: len(packed) // 2], f"mine.csv.{suffix}")


def test_line_breaks_in_quotes_belong_to_the_value(workspace):
    assert read('a,y\n"p\nq",1\nr,2\n')[0] == {"a": ["p\nq", "r"], "y": [1, 2]}


def test_words_for_missing_values_are_those_known_and_those_named(workspace):
    found, _ = read("a,b,y\n1,NA,x\n,null,y\n-9,n/a,z\n", missing=["-9"])
    assert found["a"][0] == 1
    assert all(value != value for value in found["a"][1:])
    assert found["b"] == [None] * 3


def test_a_column_is_what_all_of_its_rows_are(workspace):
    rows = 400_000
    found, _ = read("a,b,c\n" + "1,2,3\n" * rows + "2.5,x,4\n")
    assert found["a"][-2:] == [1.0, 2.5]
    assert found["b"][-2:] == ["2", "x"]
    assert found["c"][-2:] == [3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine.csv is empty"),
        (" \n\n", "mine.csv is empty"),
        ("a,b\n1,2\n3\n", "mine.csv is not a well-formed CSV file: line 3: Expected 2 columns, got 1: 3"),
        ("a,b\n" + "1,2\n" * 300_000 + "3,4,5\n", "line 300002: Expected 2 columns, got 3: 3,4,5"),
        ('a,b\n1,"2\n3,4\n', "mine.csv ends inside a quoted value of column 'b'"),
        ("1,2.5\n3,4\n", r"mine.csv has no header: its first line holds numbers only \(1,2.5\)"),
        (b"PK\x03\x04\x00\x00", "mine.csv is no text file: set prepare.format to what it is, or save it as CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(workspace, content, message):
    with pytest.raises(InputError, match=message):
        read(content)


def refusal(content, folder):
    """What the file is refused with; None when it is read."""
    path = folder / "fuzz.csv"
    path.write_bytes(content)
    try:
        table, _ = csv.read({path: None}, [])
    except InputError as error:
        return str(error).removeprefix(f"{path} ")
    return None if table.names or not table.rows else "no column"


REFUSALS = ("is empty", "is no text file", "is not ", "has no header", "ends inside a quoted value", "cannot be read")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, content):
    assert (refusal(content, tmp_path_factory.getbasetemp()) or "is empty").startswith(REFUSALS)


VALID = b'name;size;day\n"a;b";1,5;2020-01-01\nc;2,5;2020-01-02\n\xc3\xa9;;\n'


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path_factory, changes):
    damaged = bytearray(VALID)
    for place, value in changes:
        damaged[place] = value
    assert (refusal(bytes(damaged), tmp_path_factory.getbasetemp()) or "is empty").startswith(REFUSALS)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(csv, "CHUNK", 64)


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        ("1", "2.5", [1.0, 2.5]),
        ("1", "x", ["1", "x"]),
        ("1.5", "x", ["1.5", "x"]),
        ("1", "true", ["1", "true"]),
        ("", "7", [np.nan, 7]),
        ("NA", "x", [np.nan, "x"]),
        ("2020-01-31", "2020-01-31 10:00:00", [pd.Timestamp("2020-01-31"), pd.Timestamp("2020-01-31 10:00")]),
        ("2020-01-31", "soon", ["2020-01-31", "soon"]),
        ("007", "x", ["007", "x"]),
        ("2020-01-31", "9999-12-31", [pd.Timestamp("2020-01-31"), pd.Timestamp("9999-12-31")]),
        ("2020-01-31 10:00:00.5", "9999-12-31 10:00:00", ["2020-01-31 10:00:00.5", "9999-12-31 10:00:00"]),
    ],
)
def test_what_a_column_is_may_show_late(workspace, small_chunks, early, late, expected):
    found, _ = read("a,b,c\n" + f"1,{early},1\n" * 400 + f"1,{late},2.5\n")
    assert found["a"] == [1] * 401
    assert found["c"][-1] == 2.5
    for one, other in zip((found["b"][0], found["b"][-1]), expected, strict=True):
        assert one == other or (pd.isna(one) and pd.isna(other))


def test_the_line_is_counted_over_all_chunks(workspace, small_chunks):
    with pytest.raises(InputError, match=r"line 1002: Expected 2 columns, got 3: 3,4,5"):
        read("a,b\n" + "1,2\n" * 1000 + "3,4,5\n" + "1,2\n" * 9)


CELLS = st.sampled_from(["1", "2.5", "", "x", '"q"', '"two\nlines"', '"a ""b"""', '5" pipe', '"x, y"', "é"])


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=40), st.integers(1, 200))
def test_where_chunks_end_makes_no_difference(tmp_path_factory, rows, chunk):
    path = tmp_path_factory.getbasetemp() / "chunks.csv"
    path.write_text("a,b\n" + "".join(f"{one},{other}\n" for one, other in rows), encoding="utf-8")
    found = []
    for size in (chunk, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv, "CHUNK", size)
            try:
                found.append(csv.read({path: None}, [])[0].frame().astype(object).to_dict("list"))
            except InputError as error:
                found.append(str(error))
    assert repr(found[0]) == repr(found[1])


def test_a_value_may_end_in_a_line_break(workspace):
    assert read('a,b\n1,"x\n"\n')[0] == {"a": [1], "b": ["x\n"]}


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(workspace, small_chunks, monkeypatch):
    monkeypatch.setattr(csv, "LONGEST", 1000)
    with pytest.raises(InputError, match=r"mine.csv has a row of over 0 MB. Is a quote missing\? See '\"open"):
        read('a,b\n1,2\n1,"open\n' + "1,2\n" * 1000)
