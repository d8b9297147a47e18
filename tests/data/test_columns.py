import numpy as np
import pandas as pd
import pytest

from src.data import columns
from src.errors import InputError


def kind(values, name="c", rows=None):
    """(kind, reason) of one column of `values`, repeated to `rows`."""
    values = list(values) * (1 if rows is None else -(-rows // len(values)))
    return describe(pd.DataFrame({name: values}), {})[name]


def describe(frame, wanted, blocks=1):
    """columns.describe of a frame that is looked at in so many blocks."""
    seen = {name: columns.Facts(name) for name in frame}
    for rows in np.array_split(np.arange(len(frame)), blocks):
        for name in frame:
            seen[name].add(columns.look(frame.iloc[rows][name]))
    return columns.describe(seen, wanted)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.5, 2.5, np.nan], "numeric"),
        ([3, 1, 2], "numeric"),
        (["1.5", "?", "2"], "numeric"),
        (["1", " 2 ", "unknown"], "numeric"),
        ([True, False], "boolean"),
        ([True, None, False], "boolean"),
        (["Yes", "no", None], "boolean"),
        (["T", "F"], "boolean"),
        (["on", "OFF"], "boolean"),
        (["red", "blue", None], "categorical"),
        (["1st", "2nd", "3rd"], "categorical"),
        (["yes", "no", "maybe"], "categorical"),
        (["2020-01-31", "2020-02-01"], "datetime"),
        (["31/01/2020", "01/02/2020"], "datetime"),
        (["2020-01-31 10:30:00", "2020-02-01 11:00:00"], "datetime"),
        (pd.to_datetime(["2020-01-31", "2020-02-01"]), "datetime"),
        (["2020-01-31", "not yet"], "categorical"),
    ],
)
def test_the_kind_is_inferred(values, expected):
    assert kind(values) == (expected, "")


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ([7, 7, 7], "c", "one value only"),
        (["x", "x", None], "c", "one value only"),
        (range(100, 140), "patient_id", "an id"),
        (range(40), "Unnamed: 0", "an id"),
        ([f"name {number}" for number in range(40)], "c", "a different value in every row: an id, or free text"),
        ([[1, 2], [3]], "c", "its values are lists or records"),
    ],
)
def test_what_carries_nothing_is_not_used_and_the_reason_is_told(values, name, reason):
    assert kind(values, name) == ("ignore", reason)


def test_whole_numbers_that_differ_in_each_row_may_be_measurements():
    assert kind(range(1871, 1971), "year") == ("numeric", "")
    assert kind(range(40), "time") == ("numeric", "")


def test_many_different_words_are_free_text():
    words = [f"word {number}" for number in range(80)]
    found = kind([*words, words[0]])
    assert found[0] == "ignore"
    assert found[1] == "free text: 80 different values. prepare.columns.c: text takes it in"
    assert kind(words * 3) == ("categorical", "")


@pytest.mark.parametrize("form", ["{},000", "{} kg", "${}", "{}%", "{}€"])
def test_numbers_written_as_text_are_named(form):
    values = ["1", *(form.format(number) for number in range(10, 60))]
    with pytest.raises(InputError, match=r"^column 'c', row 2: '.*10.*' is a number written as text. Write plain"):
        kind(values)


def test_codes_are_no_numbers_written_as_text():
    assert kind([f"{number}A" if number % 9 == 0 else str(number) for number in range(60)] * 4) == ("categorical", "")
    assert kind([f"{number}{unit}" for number in range(20) for unit in ("a", "b")] * 4) == ("categorical", "")


def test_a_column_that_is_missing_throughout_is_refused():
    with pytest.raises(InputError, match=r"column 'c' is missing in every row: delete it, or set prepare.columns.c:"):
        kind([None, None])


def test_what_the_user_says_holds():
    frame = pd.DataFrame({"zip": [1, 2], "size": ["s", "m"], "note": ["a", "b"], "empty": [None, None]})
    wanted = {"zip": "categorical", "size": ["s", "m"], "note": "text", "empty": "ignore"}
    assert describe(frame, wanted) == {
        "zip": ("categorical", ""),
        "size": ("ordinal", ""),
        "note": ("text", ""),
        "empty": ("ignore", "prepare.columns says so"),
    }
    with pytest.raises(InputError, match=r"prepare.columns.zap is no column. There are: zip, size, note, empty"):
        describe(frame, {"zap": "ignore"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["2020-01-31", "2020-02-01"], "%Y-%m-%d"),
        (["01/31/2020", "02/01/2020"], "%m/%d/%Y"),
        (["01/02/2020", "31/01/2020"], "%d/%m/%Y"),
        (["31 January 2020", "1 February 2020"], "%d %B %Y"),
        (["12", "13"], None),
        (["spring", "autumn"], None),
        (["2020-01-31", "31/01/2020"], None),
    ],
)
def test_dates_have_one_format(words, expected):
    assert columns.date_formats(pd.Series(words))[:1] == [expected] * (expected is not None)
