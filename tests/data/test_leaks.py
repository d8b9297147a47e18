import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from src.data import leaks

FRAME = pd.DataFrame({"a": [1.0, 2.0, 1.0, np.nan, np.nan], "b": ["x", "y", " x", None, "x"]})


def test_identical_rows_are_twins_however_they_are_written():
    assert leaks.twins(FRAME).tolist() == [0, 1, 0, 2, 3]
    whole = pd.DataFrame({"a": [1, 2, 1], "b": [True, False, True]})
    assert leaks.twins(whole).tolist() == [0, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=40))
def test_twins_are_the_rows_that_are_equal(rows):
    groups = leaks.twins(pd.DataFrame(rows, columns=["a", "b"]))
    assert len(set(zip(groups.tolist(), rows, strict=True))) == len(set(rows)) == len(set(groups.tolist()))
    assert leaks.repeats(groups) == len(rows) - len(set(rows))


def test_rows_of_val_and_test_that_are_in_train_are_counted():
    groups = np.array([0, 1, 0, 2, 0, 3])
    assert leaks.crossing(groups, [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])]) == 2
    assert leaks.crossing(groups, [np.array([0, 2, 4]), np.array([1, 3]), np.array([5])]) == 0


def test_rows_that_differ_in_the_target_alone_are_counted():
    assert leaks.contradictions(np.array([0, 1, 2, 3, 0]), np.array([0, 0, 1, 2, 0])) == 3
    assert leaks.contradictions(np.array([0, 1, 0]), np.array([0, 1, 0])) == 0
