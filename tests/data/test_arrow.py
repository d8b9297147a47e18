import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data import arrow
from src.data.sources import read
from src.errors import InputError
from src.sections import Prepare


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(arrow, "CHUNK", 64)


def lines(path, objects):
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
    return read(Prepare(source=str(path), target="n")).frame


@pytest.mark.parametrize(
    ("early", "late", "expected"),
    [
        (1, 2.5, [1.0, 2.5]),
        (None, "x", [np.nan, "x"]),
        ("x", None, ["x", np.nan]),
        (True, None, [True, np.nan]),
        ("2020-01-31 10:00:00", "soon", ["2020-01-31 10:00:00", "soon"]),
        ([1], [1.5, 2.5], [[1.0], [1.5, 2.5]]),
        ({"a": 1}, {"a": 2, "b": "x"}, [{"a": 1, "b": None}, {"a": 2, "b": "x"}]),
    ],
)
def test_what_a_key_holds_may_show_late(tmp_path, small_chunks, early, late, expected):
    found = lines(tmp_path / "mine.jsonl", [{"n": 0, "c": early}] * 100 + [{"n": 0, "c": late}])
    for one, other in zip((found["c"].iloc[0], found["c"].iloc[-1]), expected, strict=True):
        assert np.array_equal(one, other) or (pd.isna(one) and pd.isna(other))


def test_a_key_may_come_late_and_be_lacking_later(tmp_path, small_chunks):
    found = lines(tmp_path / "mine.jsonl", [*[{"n": 0}] * 50, *[{"n": 1, "late": "x"}] * 50, *[{"n": 2}] * 50])
    assert list(found) == ["n", "late"]
    assert found["late"].isna().tolist() == [True] * 50 + [False] * 50 + [True] * 50


@pytest.mark.parametrize("late", ["x", {"a": 1}, [1]])
def test_values_that_no_type_holds_are_refused(tmp_path, small_chunks, late):
    with pytest.raises(InputError, match=r"mine.jsonl is not a JSON Lines file that can be read: .*c"):
        lines(tmp_path / "mine.jsonl", [{"n": 0, "c": 1}] * 50 + [{"n": 0, "c": late}])


NUMBERS = st.integers(0, 9)
VALUES = {"a": st.integers(-5, 5), "b": st.sampled_from(["x", "ü", ""]), "c": st.booleans(), "d": st.none()}


@given(
    st.lists(st.fixed_dictionaries({"n": NUMBERS, "m": NUMBERS}, optional=VALUES), min_size=1, max_size=30),
    st.integers(1, 200),
)
def test_where_chunks_end_makes_no_difference(tmp_path_factory, objects, chunk):
    path = tmp_path_factory.getbasetemp() / "chunks.jsonl"
    found = []
    for size in (chunk, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrow, "CHUNK", size)
            found.append(lines(path, objects))
    assert sorted(found[0]) == sorted(found[1])
    for name in found[1]:
        one, other = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for frame in found)
        assert one == other
