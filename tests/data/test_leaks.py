import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from src.data import leaks

FRAME = pd.DataFrame({"a": [1.0, 2.0, 1.0, np.nan, np.nan], "b": ["x", "y", " x", None, "x"]})


def groups(frame):
    """Rows by the group of identical ones that they are in, as lists."""
    numbers = leaks.twins(leaks.hashes(frame))
    return (
        [] if numbers is None else [np.flatnonzero(numbers == number).tolist() for number in range(numbers.max() + 1)]
    )


def test_identical_rows_are_twins_however_they_are_written():
    assert groups(FRAME) == [[0, 2]]
    assert groups(FRAME.astype({"b": "category"})) == [[0, 2]]
    assert groups(pd.DataFrame({"a": [1, 2, 1], "b": [True, False, True]})) == [[0, 2]]
    assert groups(pd.DataFrame({"a": [1, 2], "b": [2, 1]})) == []


def test_a_block_has_the_hashes_of_the_whole():
    parts = [leaks.hashes(FRAME.iloc[rows]) for rows in (slice(0, 2), slice(2, 5))]
    assert np.concatenate(parts).tolist() == leaks.hashes(FRAME).tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=40))
def test_twins_are_the_rows_that_are_equal(rows):
    numbers = leaks.twins(leaks.hashes(pd.DataFrame(rows, columns=["a", "b"])))
    if len(set(rows)) == len(rows):
        assert numbers is None
        return
    for number, row in zip(numbers, rows, strict=True):
        same = {place for place, other in enumerate(rows) if other == row}
        assert (number == leaks.ALONE) == (len(same) == 1)
        assert number == leaks.ALONE or set(np.flatnonzero(numbers == number)) == same
    assert leaks.repeats(numbers) == len(rows) - len(set(rows))


def test_rows_of_val_and_test_that_are_in_train_are_counted():
    numbers = np.array([0, leaks.ALONE, 0, leaks.ALONE, 0, leaks.ALONE])
    assert leaks.crossing(numbers, [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])]) == 2
    assert leaks.crossing(numbers, [np.array([0, 2, 4]), np.array([1, 3]), np.array([5])]) == 0


def test_rows_that_differ_in_the_target_alone_are_counted():
    features = leaks.hashes(pd.DataFrame({"a": [5, 5, 6, 7, 5]}))
    assert (
        leaks.contradictions(leaks.twins(features), leaks.combined(features, np.array([0, 1, 2, 3, 0], np.uint64))) == 3
    )
    features = leaks.hashes(pd.DataFrame({"a": [5, 6, 5]}))
    assert leaks.contradictions(leaks.twins(features), leaks.combined(features, np.array([0, 1, 0], np.uint64))) == 0
