import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data import encoding
from src.data.schema import Categorical, Numeric, Pixels
from src.errors import InputError


def fitted(values, name="c"):
    """The encoding of one column."""
    return encoding.fit(pd.DataFrame({name: values}), pixels=False)


def encoded(values, columns):
    return encoding.encode(pd.DataFrame({"c": values}), columns)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40).filter(lambda values: np.ptp(values) > 1e-3))
def test_numbers_get_mean_0_and_deviation_1(values):
    columns = fitted(values)
    found = encoded(values, columns)
    assert columns[0].indicator is False
    assert found.dtype == np.float32
    assert found.shape == (len(values), 1)
    assert found.mean() == pytest.approx(0, abs=1e-4)
    assert found.std() == pytest.approx(1, abs=1e-4)
    assert found[:, 0] * columns[0].std + columns[0].mean == pytest.approx(values, rel=1e-4, abs=1e-1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -1 / 3])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_a_constant_column_becomes_0_and_stays_of_its_size(value, rows):
    columns = fitted([value] * rows)
    assert columns[0].std == 1
    assert encoded([value], columns) == pytest.approx(0, abs=1e-6)
    assert encoded([value + 1], columns) == pytest.approx(1, abs=1e-6)


def test_a_missing_number_becomes_the_mean_and_sets_the_indicator():
    columns = fitted([1.0, np.nan, 3.0])
    assert columns == [Numeric(name="c", mean=2, std=1, indicator=True)]
    assert encoded([np.nan, 3.0], columns).tolist() == [[0, 1], [1, 0]]


def test_a_number_missing_only_later_becomes_the_mean():
    columns = fitted([1.0, 3.0])
    assert encoded([np.nan, 3.0], columns).tolist() == [[0], [1]]


def test_a_number_missing_in_every_training_row_still_has_its_indicator():
    columns = fitted([np.nan, np.nan])
    assert encoded([np.nan, 5.0], columns).tolist() == [[0, 1], [5, 0]]


def test_a_category_sets_the_one_input_that_is_its_own():
    columns = fitted(["red", "blue", "red"])
    assert columns == [Categorical(name="c", categories=["blue", "red"], indicator=False)]
    assert encoded(["red", "blue"], columns).tolist() == [[0, 1], [1, 0]]


def test_a_category_never_seen_sets_no_input():
    columns = fitted(["red", "blue", "red"])
    assert encoded(["green", None], columns).tolist() == [[0, 0], [0, 0]]


def test_a_missing_category_sets_the_indicator_alone():
    columns = fitted(["red", None, "nan"])
    assert columns == [Categorical(name="c", categories=["nan", "red"], indicator=True)]
    assert encoded([None, "nan", "red", "green"], columns).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_rare_categories_are_as_if_never_seen():
    names = [f"n{number:03}" for number in range(encoding.MAX_CATEGORIES + 10)]
    columns = fitted([*names, *names[-20:]])  # the last twenty are the frequent ones
    assert columns[0].categories == sorted(names[: encoding.MAX_CATEGORIES - 20] + names[-20:])
    assert encoded(names, columns).sum() == encoding.MAX_CATEGORIES
    assert fitted([*names, *names[-20:]][::-1]) == columns


@given(st.lists(st.sampled_from("abcde"), min_size=1), st.randoms())
def test_the_order_of_the_rows_does_not_change_the_encoding(values, random):
    mixed = list(values)
    random.shuffle(mixed)
    assert fitted(values) == fitted(mixed)


def test_pixels_share_mean_and_deviation():
    frame = pd.DataFrame({"p0": [0.0, 4.0], "p1": [8.0, 4.0]})
    columns = encoding.fit(frame, pixels=True)
    assert columns == [Pixels(names=["p0", "p1"], mean=4, std=frame.to_numpy().std())]
    assert encoding.encode(frame, columns) == pytest.approx((frame.to_numpy() - 4) / frame.to_numpy().std())
    assert encoding.encode(frame[["p1", "p0"]], columns) == pytest.approx(encoding.encode(frame, columns))


def test_a_missing_pixel_becomes_the_mean():
    columns = encoding.fit(pd.DataFrame({"p0": [0.0, 4.0], "p1": [8.0, 4.0]}), pixels=True)
    assert encoding.encode(pd.DataFrame({"p0": [np.nan], "p1": [4.0]}), columns).tolist() == [[0, 0]]


def test_columns_are_found_by_name_and_others_ignored():
    frame = pd.DataFrame({"a": [1.0, 3.0], "b": ["x", "y"]})
    columns = encoding.fit(frame, pixels=False)
    other = pd.DataFrame({"b": ["y", "x"], "more": [0, 0], "a": [3.0, 1.0]}, index=["first", "second"])
    assert encoding.encode(other, columns).tolist() == [[1, 0, 1], [-1, 1, 0]]


def test_no_rows_give_no_rows():
    columns = fitted([1.0, 2.0]) + encoding.fit(pd.DataFrame({"d": ["x", None]}), pixels=False)
    assert encoding.encode(pd.DataFrame({"c": [], "d": []}), columns).shape == (0, 3)


def test_numbers_written_as_text_are_numbers():
    columns = fitted([1.0, 3.0])
    assert encoded(["3", " 1.0"], columns).tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.inf], r"^column 'c', row 2: 'inf' is not a finite number"),
        ([-np.inf, 1.0], r"^column 'c', row 1: '-inf' is not a finite number"),
        ([1.0, 1e300], r"^column 'c', row 2: '1e\+300' is not a finite number"),
        (["1", "2", "tall"], r"^column 'c', row 3: 'tall' is not a finite number"),
    ],
)
@pytest.mark.parametrize("kind", ["numeric", "pixels"])
def test_what_is_no_number_is_refused_with_its_row(values, message, kind):
    numeric = Numeric(name="c", mean=0, std=1, indicator=False)
    columns = [numeric] if kind == "numeric" else [Pixels(names=["c"], mean=0, std=1)]
    with pytest.raises(InputError, match=message):
        encoded(values, columns)


def test_infinite_training_values_are_refused():
    with pytest.raises(InputError, match=r"column 'c', row 2: 'inf' is not a finite number"):
        fitted([1.0, np.inf])


def test_the_row_named_is_the_sources_row_after_others_were_dropped():
    frame = pd.DataFrame({"c": [1.0, 2.0, 3.0, np.inf]}).iloc[[1, 3]]
    with pytest.raises(InputError, match=r"column 'c', row 4: 'inf'"):
        encoding.fit(frame, pixels=False)


def test_missing_columns_are_refused():
    columns = encoding.fit(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "d": [1.0, 2.0]}), pixels=False)
    with pytest.raises(InputError, match=r"^the rows lack column 'b'$"):
        encoding.encode(pd.DataFrame({"a": [1.0], "d": [1.0]}), columns)
    with pytest.raises(InputError, match=r"^the rows lack column 'a' and 1 more$"):
        encoding.encode(pd.DataFrame({"d": [1.0]}), columns)
