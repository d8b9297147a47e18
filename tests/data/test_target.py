import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from src.data import target
from src.errors import InputError


def column(values, name="y"):
    return pd.Series(values, name=name)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", "c", "a"], "classification", ["a", "b", "c"]),
        ([10, 2, 2, 10], "binary", [2, 10]),
        ([3.0, -1.0, 3.0], "classification", [-1, 3]),
        ([True, False, True], "binary", [0, 1]),
        ([1e30, 0.0, 1e30], "binary", [0, int(1e30)]),
    ],
)
def test_classes_are_the_distinct_values_in_order(values, task, classes):
    found = target.classes_of(column(values), task)
    assert found == classes
    assert {type(value) for value in found} == {type(classes[0])}
    numbers = target.class_numbers(column(values), found)
    assert numbers.dtype == np.int64
    assert [classes[number] for number in numbers] == values


@given(st.lists(st.one_of(st.integers(-(2**40), 2**40)), min_size=2) | st.lists(st.text(), min_size=2))
def test_a_class_number_leads_back_to_its_value(values):
    assume(len({str(value).strip() for value in values}) > 1)
    classes = target.classes_of(column(values), "classification")
    plain = [value.strip() if isinstance(value, str) else value for value in values]
    assert classes == sorted(set(plain))
    assert [classes[number] for number in target.class_numbers(column(values), classes)] == plain


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([1.0, 2.5, 3.0], "classification", r"'y' holds decimals such as 2.5, .* set task: regression"),
        ([0.0, 0.5, 1.0], "binary", r"'y' holds decimals such as 0.5"),
        ([1, 2, 3], "binary", r"'y' has 3 classes; task binary needs 2. Set task: classification"),
        (["a", "b", "c"], "binary", r"'y' has 3 classes; task binary needs 2. Set task: classification"),
        ([4, 4], "binary", r"'y' has one value only \(4\)"),
        (["a", "a"], "classification", r"'y' has one value only \('a'\): there is nothing to learn"),
        ([1.0, np.inf], "classification", r"column 'y', row 2: 'inf' is not a finite number"),
    ],
)
def test_a_target_that_is_no_classes_is_refused(values, task, message):
    with pytest.raises(InputError, match=message):
        target.classes_of(column(values), task)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 5, "b": 1}, r"'y': class 'b' has 1 row; train, val and test need one each. Add rows of it"),
        ({"a": 2, "b": 5}, r"'y': class 'a' has 2 rows; .* Add rows of it, or leave it out$"),
        ({"a": 1, "b": 5, "c": 2}, r"class 'a' has 1 row; .* So do 1 more classes. .* set task: regression$"),
    ],
)
def test_a_class_with_too_few_rows_is_refused(counts, message):
    values = column([name for name, count in counts.items() for _ in range(count)])
    classes = sorted(counts)
    with pytest.raises(InputError, match=message):
        target.check_strata(values, target.class_numbers(values, classes), classes)


def test_three_rows_of_a_class_are_enough():
    values = column(["a", "b"] * 3)
    numbers = target.class_numbers(values, ["a", "b"])
    target.check_strata(values, numbers, ["a", "b"])
    with pytest.raises(InputError, match="class 'a' has 2 rows"):
        target.check_strata(values, numbers[1:], ["a", "b"])


def test_text_is_no_target_of_a_regression():
    with pytest.raises(InputError, match=r"'y' holds text such as 'n/a\?'; .* set task: classification"):
        target.regression_values(column(["1", "2.5", "n/a?"]))
    with pytest.raises(InputError, match=r"column 'y', row 2: '-inf' is not a finite number"):
        target.regression_values(column([1.0, -np.inf]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=50), st.sampled_from(["standardize", "none"]))
def test_a_regression_target_can_be_inverted_and_is_standardised_by_training_rows(values, transform):
    train = np.arange(len(values) // 2 + 1)
    known = np.array(values)[train]
    assume(np.ptp(known) > 1e-3)
    goal = target.fit_regression(column(values), train, transform)
    scaled = (np.array(values) - goal.offset) / goal.scale
    assert scaled * goal.scale + goal.offset == pytest.approx(values, abs=1e-6)
    if transform == "none":
        assert (goal.offset, goal.scale) == (0, 1)
    else:
        assert scaled[train].mean() == pytest.approx(0, abs=1e-6)
        assert scaled[train].std() == pytest.approx(1)
    others = [value if row in train else 7.0 for row, value in enumerate(values)]
    assert target.fit_regression(column(others), train, transform) == goal


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -1 / 3])
@pytest.mark.parametrize("rows", [3, 7, 100])
def test_equal_target_values_are_refused(value, rows):
    with pytest.raises(InputError, match=r"'y' has one value only \(.*\): nothing to learn"):
        target.fit_regression(column([value] * rows), np.arange(rows), "standardize")
