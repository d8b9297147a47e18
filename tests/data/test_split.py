import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.split import as_given, by_hash, by_time, counts, hashed_place, split
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
        assert part.dtype.kind == "i"
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


GROUPS = st.lists(st.integers(1, 12), min_size=3, max_size=40)  # rows of each group


@given(GROUPS, FRACTIONS, SEEDS)
def test_a_group_is_in_one_split_and_no_split_is_empty(sizes, fractions, seed):
    groups = strata_of(sizes)
    parts = split(len(groups), fractions, seed, None, groups)
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    assert all(len(part) for part in parts)
    found = [set(groups[part].tolist()) for part in parts]
    assert len(set.union(*found)) == sum(map(len, found))


@given(SEEDS)
def test_groups_are_divided_by_the_fractions_in_rows(seed):
    groups = strata_of([5] * 100 + [1] * 100)
    sizes = [len(part) for part in split(600, (0.7, 0.15, 0.15), seed, None, groups)]
    assert sizes == pytest.approx([420, 90, 90], abs=5)


@given(CLASSES, SEEDS)
def test_groups_of_one_row_change_nothing(sizes, seed):
    strata = strata_of(sizes)
    alone = split(len(strata), (0.6, 0.2, 0.2), seed, strata)
    grouped = split(len(strata), (0.6, 0.2, 0.2), seed, strata, np.arange(len(strata)))
    assert all(np.array_equal(one, two) for one, two in zip(alone, grouped, strict=True))


def test_fewer_groups_than_splits_are_refused():
    with pytest.raises(InputError, match=r"6 rows are in only 2 groups .* prepare.duplicates: apart"):
        split(6, (0.7, 0.15, 0.15), 0, None, np.array([0, 0, 0, 1, 1, 1]))


@pytest.mark.parametrize(
    "times",
    [
        [5, 3, 9, 1, 7, 2, 8, 4, 6, 0],
        [f"2020-01-{day + 10}" for day in (5, 3, 9, 1, 7, 2, 8, 4, 6, 0)],
        pd.to_datetime([f"2020-01-{day + 10}" for day in (5, 3, 9, 1, 7, 2, 8, 4, 6, 0)]),
    ],
)
def test_the_test_split_is_the_newest(times):
    parts = by_time(pd.Series(times, name="t"), (0.6, 0.2, 0.2))
    assert [part.tolist() for part in parts] == [[0, 1, 3, 5, 7, 9], [4, 8], [2, 6]]


def test_rows_of_one_time_stay_together():
    parts = by_time(pd.Series([1, 1, 2, 2, 2, 2, 3, 4, 4, 5], name="t"), (0.4, 0.3, 0.3))
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3, 4, 5], [6], [7, 8, 9]]
    with pytest.raises(InputError, match=r"by the time in 't' leaves .* without a row"):
        by_time(pd.Series([1] * 10, name="t"), (0.4, 0.3, 0.3))


@pytest.mark.parametrize(("times", "row"), [([1.0, None, 2.0], 2), (["soon", "later", "2020-01-01"], 1)])
def test_a_row_without_a_time_is_refused(times, row):
    with pytest.raises(InputError, match=rf"prepare.split_column 't', row {row}: .* is no time"):
        by_time(pd.Series(times, name="t"), (0.4, 0.3, 0.3))


@given(st.integers(200, 400), st.integers(0, 100), SEEDS)
def test_by_hash_a_row_stays_where_it_is_when_others_come(rows, more, seed):
    ids = pd.Series([f"customer {number}" for number in range(rows + more)], name="id")
    before = by_hash(hashed_place(ids[:rows], seed), (0.6, 0.2, 0.2), "id")
    shuffled = ids.sample(frac=1, random_state=1)
    after = by_hash(hashed_place(shuffled, seed), (0.6, 0.2, 0.2), "id")
    for one, two in zip(before, after, strict=True):
        assert set(ids.iloc[one]) <= set(shuffled.iloc[two])


def test_by_hash_the_shares_are_the_fractions_and_the_seed_decides():
    ids = pd.Series(range(10_000), name="id")
    parts = by_hash(hashed_place(ids, 0), (0.7, 0.1, 0.2), "id")
    assert [len(part) for part in parts] == pytest.approx([7000, 1000, 2000], rel=0.1)
    assert not np.array_equal(parts[1], by_hash(hashed_place(ids, 1), (0.7, 0.1, 0.2), "id")[1])
    with pytest.raises(InputError, match="by the hash of 'id' leaves val without a row"):
        by_hash(np.zeros(1), (0.98, 0.01, 0.01), "id")


def test_a_column_may_say_the_split():
    column = pd.Series(["train", " Test", "valid", "training", "holdout"], name="part")
    parts = as_given(column, (0.7, 0.15, 0.15), 0, None)
    assert [part.tolist() for part in parts] == [[0, 3], [2], [1, 4]]
    with pytest.raises(InputError, match=r"prepare.split_column 'part', row 6: 'x' is no split: use train, val, test"):
        as_given(pd.concat([column, pd.Series(["x"], index=[5], name="part")]), (0.7, 0.15, 0.15), 0, None)
    with pytest.raises(InputError, match="as 'part' says leaves test without a row"):
        as_given(pd.Series(["train"] * 10, name="part"), (0.7, 0.15, 0.15), 0, None)


def test_where_no_row_is_for_validation_some_are_taken_from_training():
    column = pd.Series(["train"] * 80 + ["test"] * 20, name="part")
    strata = np.arange(100) % 2
    train, val, test = as_given(column, (0.6, 0.2, 0.2), 0, strata)
    assert (len(train), len(val), test.tolist()) == (60, 20, list(range(80, 100)))
    assert strata[val].mean() == 0.5
