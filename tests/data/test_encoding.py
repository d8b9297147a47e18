import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data import encoding, fitting
from src.data.columns import look
from src.data.schema import Boolean, Categorical, Numeric, Pixels
from src.errors import InputError


def fit(frame):
    """The encoding of columns of numbers and words."""
    numbers = {name: encoding.is_number(frame[name]) for name in frame}
    return fit_all(frame, {name: "numeric" if number else "categorical" for name, number in numbers.items()})


def fit_all(frame, wanted):
    """The encoding by all rows of a frame."""
    facts = {name: look(frame[name]) for name in frame}
    fitted = fitting.Fitting(list(frame), wanted, facts)
    return fitted.columns([fitted.see(frame, np.arange(len(frame)))])


def fitted(values, name="c"):
    return fit(pd.DataFrame({name: values}))


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
    assert columns == [Numeric(name="c", mean=2, std=1, low=1, high=3, indicator=True)]
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


def test_rare_categories_share_one_input_with_those_never_seen():
    names = [f"n{number:03}" for number in range(fitting.MAX_CATEGORIES + 10)]
    columns = fitted([*names, *names[-20:]])  # the last twenty are the frequent ones
    assert columns[0].categories == sorted(names[: fitting.MAX_CATEGORIES - 20] + names[-20:])
    assert columns[0].other
    given = encoded([*names, "new", None], columns)
    assert given[:-2].sum(1).tolist() == [1] * len(names)
    assert given[:-2, -1].sum() == 10
    assert (given[-2, -1], given[-2].sum(), given[-1].sum()) == (1, 1, 0)
    assert fitted([*names, *names[-20:]][::-1]) == columns


@given(st.lists(st.sampled_from("abcde"), min_size=1), st.randoms())
def test_the_order_of_the_rows_does_not_change_the_encoding(values, random):
    mixed = list(values)
    random.shuffle(mixed)
    assert fitted(values) == fitted(mixed)


def test_pixels_share_mean_and_deviation():
    frame = pd.DataFrame({"p0": [0.0, 4.0], "p1": [8.0, 4.0]})
    columns = fit_all(frame, None)
    assert columns == [Pixels(names=["p0", "p1"], mean=4, std=frame.to_numpy().std())]
    assert encoding.encode(frame, columns) == pytest.approx((frame.to_numpy() - 4) / frame.to_numpy().std())
    assert encoding.encode(frame[["p1", "p0"]], columns) == pytest.approx(encoding.encode(frame, columns))


def test_a_missing_pixel_becomes_the_mean():
    columns = fit_all(pd.DataFrame({"p0": [0.0, 4.0], "p1": [8.0, 4.0]}), None)
    assert encoding.encode(pd.DataFrame({"p0": [np.nan], "p1": [4.0]}), columns).tolist() == [[0, 0]]


def test_columns_are_found_by_name_and_others_ignored():
    frame = pd.DataFrame({"a": [1.0, 3.0], "b": ["x", "y"]})
    columns = fit(frame)
    other = pd.DataFrame({"b": ["y", "x"], "more": [0, 0], "a": [3.0, 1.0]}, index=["first", "second"])
    assert encoding.encode(other, columns).tolist() == [[1, 0, 1], [-1, 1, 0]]


def test_no_rows_give_no_rows():
    columns = fitted([1.0, 2.0]) + fit(pd.DataFrame({"d": ["x", None]}))
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
    numeric = Numeric(name="c", mean=0, std=1, low=-1, high=1, indicator=False)
    columns = [numeric] if kind == "numeric" else [Pixels(names=["c"], mean=0, std=1)]
    with pytest.raises(InputError, match=message):
        encoded(values, columns)


def test_infinite_training_values_are_refused():
    with pytest.raises(InputError, match=r"column 'c', row 2: 'inf' is not a finite number"):
        fitted([1.0, np.inf])


def test_the_row_named_is_the_sources_row_after_others_were_dropped():
    frame = pd.DataFrame({"c": [1.0, 2.0, 3.0, np.inf]}).iloc[[1, 3]]
    with pytest.raises(InputError, match=r"column 'c', row 4: 'inf'"):
        fit(frame)


def test_missing_columns_are_refused():
    columns = fit(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "d": [1.0, 2.0]}))
    with pytest.raises(InputError, match=r"^the rows lack column 'b'$"):
        encoding.encode(pd.DataFrame({"a": [1.0], "d": [1.0]}), columns)
    with pytest.raises(InputError, match=r"^the rows lack column 'a' and 1 more$"):
        encoding.encode(pd.DataFrame({"d": [1.0]}), columns)


def fit_as(values, kind):
    return fit_all(pd.DataFrame({"c": values}), {"c": kind})


def test_yes_and_no_are_one_input_in_any_spelling():
    for values in ([True, False, None], ["yes", "No", None], [" T", "f", None], [1.0, 0.0, np.nan]):
        columns = fit_as(values, "boolean")
        assert columns == [Boolean(name="c", mean=0.5, std=0.5, indicator=True)]
        assert encoded(values, columns).tolist() == [[1, 0], [-1, 0], [0, 1]]
    with pytest.raises(InputError, match=r"column 'c', row 2: 'perhaps' is neither yes nor no \(true/false, yes/no,"):
        encoded(["yes", "perhaps"], columns)
    with pytest.raises(InputError, match=r"column 'c', row 1: '2' is neither yes nor no"):
        encoded([2, 1], columns)


def test_ordered_words_are_their_places():
    columns = fit_as(["low", "high", " mid", None], ["low", "mid", "high"])
    assert columns[0].mean == 1
    assert encoded(["low", "mid", "high", None], columns)[:, 0] == pytest.approx([-(1.5**0.5), 0, 1.5**0.5, 0])
    with pytest.raises(InputError, match=r"column 'c', row 2: 'top' is none of low, mid, high"):
        encoded(["low", "top"], columns)
    with pytest.raises(InputError, match=r"column 'c', row 2: 'top' is none of low, high"):
        fit_as(["low", "top"], ["low", "high"])


@pytest.mark.parametrize("as_words", [True, False])
def test_dates_become_five_numbers(as_words):
    words = ["2021-03-01 06:00", "2020-02-29 18:00", None]
    columns = fit_as(words if as_words else pd.to_datetime(words), "datetime")
    assert columns[0].format == ("%Y-%m-%d %H:%M" if as_words else None)
    values = encoding.dates(pd.Series(words), "%Y-%m-%d %H:%M")
    assert values[0].tolist() == [18687.25, 2021, 3, 0, 6]
    assert values[1].tolist() == [18321.75, 2020, 2, 5, 18]
    found = encoded(words if as_words else pd.to_datetime(words), columns)
    assert found.tolist() == [[1, 1, 1, -1, -1, 0], [-1, -1, -1, 1, 1, 0], [0, 0, 0, 0, 0, 1]]


def test_words_that_are_no_dates_of_one_format_are_refused_as_dates():
    with pytest.raises(InputError, match=r"column 'c' holds no dates of one format.* its first value is 'spring'"):
        fit_as(["spring", "2020-01-01"], "datetime")


def test_a_date_of_another_format_is_refused_with_its_row():
    columns = fit_as(["2021-03-01", "2020-02-29"], "datetime")
    with pytest.raises(InputError, match=r"column 'c', row 2: '1 March 2021' is not of the format %Y-%m-%d"):
        encoded(["2021-03-01", "1 March 2021"], columns)
    columns = fit_as(pd.to_datetime(["2021-03-01", "2020-02-29"]), "datetime")
    with pytest.raises(InputError, match=r"column 'c', row 1: 'soon' is no date"):
        encoded(["soon"], columns)


def test_texts_that_share_words_are_near_each_other():
    columns = fit_as(["a quick brown fox", None], "text")
    found = encoded(["the quick brown fox", "quick brown foxes", "lorem ipsum dolor", None], columns)
    assert found.shape == (4, fitting.TEXT_WIDTH)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1, 0])
    assert found[0] @ found[1] > 0.5 > abs(found[0] @ found[2])


def test_numbers_may_be_categories_and_words_for_missing_may_be_among_numbers():
    columns = fit_as([10115, 80331, 10115], "categorical")
    assert columns[0].categories == ["10115", "80331"]
    assert encoded([80331, 99999], columns).tolist() == [[0, 1], [0, 0]]
    assert encoded([80331, None], columns).tolist() == [[0, 1], [0, 0]]
    assert fit_as([10115, None, 80331], "categorical")[0].categories == columns[0].categories
    columns = fit_as(["1", "?", "3"], "numeric")
    assert columns == [Numeric(name="c", mean=2, std=1, low=1, high=3, indicator=True)]
    assert encoded(["?", "3"], columns).tolist() == [[0, 1], [1, 0]]
