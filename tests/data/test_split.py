import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.split import counts, split
from src.errors import InputError

FRACTIONS = st.tuples(*[st.integers(1, 100)] * 3).map(lambda parts: tuple(part / sum(parts) for part in parts))
SEEDS = st.integers(0, 2**32 - 1)
CLASSES = st.lists(st.integers(3, 40), min_size=1, max_size=5)  # rows of each class


def strata_of(sizes):
    """Class numbers, mixed up, with sizes[c] rows of class c."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


@given(CLASSES, FRACTIONS, SEEDS, st.booleans())
def test_splits_are_disjoint_and_cover_every_row_in_order(sizes, fractions, seed, stratified):
    rows = sum(sizes)
    parts = split(rows, fractions, seed, strata_of(sizes) if stratified else None)
    assert len(parts) == 3
    assert sorted(np.concatenate(parts)) == list(range(rows))
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


@given(CLASSES, FRACTIONS, SEEDS)
def test_each_class_is_divided_by_the_fractions(sizes, fractions, seed):
    strata = strata_of(sizes)
    parts = split(len(strata), fractions, seed, strata)
    for number, size in enumerate(sizes):
        found = [int((strata[part] == number).sum()) for part in parts]
        assert min(found) >= 1
        assert found == counts(size, fractions)


@given(st.integers(3, 10_000), FRACTIONS)
def test_counts_are_the_fractions_rounded(rows, fractions):
    found = counts(rows, fractions)
    assert sum(found) == rows
    assert min(found) >= 1
    exact = [fraction * rows for fraction in fractions]
    for count, wanted in zip(found, exact, strict=True):
        # a split raised to one row takes up to one from each other
        assert abs(count - wanted) < (1 + 1e-9 if min(exact) >= 1 else 2)


@pytest.mark.parametrize(
    ("rows", "fractions", "wanted"),
    [
        (100, (0.7, 0.15, 0.15), [70, 15, 15]),
        (10, (0.7, 0.15, 0.15), [7, 2, 1]),
        (3, (0.98, 0.01, 0.01), [1, 1, 1]),
        (100, (0.29, 0.42, 0.29), [29, 42, 29]),
    ],
)
def test_counts_by_hand(rows, fractions, wanted):
    assert counts(rows, fractions) == wanted


@given(SEEDS)
def test_the_seed_decides_the_split(seed):
    strata = strata_of([50, 50])
    fractions = (0.6, 0.2, 0.2)
    for groups in (strata, None):
        first, again, other = (split(100, fractions, value, groups) for value in (seed, seed, (seed + 1) % 2**32))
        assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
        assert not np.array_equal(first[0], other[0])


def test_every_row_can_come_into_every_split():
    seen = np.zeros((3, 12), bool)
    for seed in range(100):
        for number, part in enumerate(split(12, (0.5, 0.25, 0.25), seed, None)):
            seen[number, part] = True
    assert seen.all()


@pytest.mark.parametrize("strata", [None, np.array([0, 0])])
def test_too_few_rows_are_refused(strata):
    with pytest.raises(InputError, match=r"2 rows cannot be divided into train, val and test: at least 3 are needed"):
        split(2, (0.7, 0.15, 0.15), 0, strata)
