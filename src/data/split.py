"""Which row goes to which split: at random, by group, by time, by an id's hash, or as a column says.

Each function gives the places of the rows of train, val and test, each ascending; none is empty.
"""

import numpy as np
import pandas as pd

from src.data import columns as kinds
from src.data.leaks import ALONE
from src.errors import InputError

Parts = list[np.ndarray]
Fractions = tuple[float, ...]
WORDS = {
    0: ("train", "training"),
    1: ("val", "valid", "validation", "dev"),
    2: ("test", "testing", "holdout"),
}


def split(
    rows: int, fractions: Fractions, seed: int, strata: np.ndarray | None, groups: np.ndarray | None = None
) -> Parts:
    """A random split, by the fractions as nearly as whole rows and groups allow.

    strata: class number of each row [rows], or None. Each class is divided by the fractions on its own, and has
    at least one row in each split; InputError names a class that has too few rows for that.
    groups: group number of each row [rows], ALONE for a group of one; or None. Rows of one group go to one split.
    """
    generator = np.random.default_rng(seed)
    everything = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)  # of many rows, half the memory counts
    classes = [everything] if strata is None else [everything[strata == value] for value in np.unique(strata)]
    number = np.empty(rows, np.int8)  # of each row's split: cheaper than sorting the pieces
    for members in classes:
        for place, piece in enumerate(_divide(members, fractions, generator, groups)):
            number[piece] = place
    return [np.flatnonzero(number == place) for place in range(len(fractions))]


def by_time(times: pd.Series, fractions: Fractions) -> Parts:
    """The oldest rows to train on, the newest to test with; rows of the same time are not divided."""
    if kinds.is_text(times):
        words = times.astype(str).where(times.notna()).str.strip()
        layouts = kinds.date_formats(words.dropna())
        times = pd.to_datetime(words, format=layouts[0]) if layouts else words
    if kinds.is_text(times) or times.isna().any():
        wrong = times[times.isna()] if times.isna().any() else times
        raise InputError(
            f"prepare.split_column '{times.name}', row {wrong.index[0] + 1}: '{wrong.iloc[0]}' is no time; "
            "prepare.split: time needs a date or a number in every row"
        )
    order = np.argsort(times.to_numpy(), kind="stable")
    values = times.to_numpy()[order]
    # a border among equal times moves up, so that they stay together in the earlier split
    borders = [np.searchsorted(values, values[border - 1], side="right") for border in _borders(len(times), fractions)]
    return _none_empty([np.sort(piece) for piece in np.split(order, borders)], f"by the time in '{times.name}'")


def hashed_place(ids: pd.Series, seed: int) -> np.ndarray:
    """Where each id lies in [0, 1) by its hash, float64: it does not depend on what other rows there are."""
    return pd.util.hash_array(ids.astype(str).to_numpy(object), hash_key=f"{seed:016d}") / 2.0**64


def by_hash(places: np.ndarray, fractions: Fractions, name: str) -> Parts:
    """Each id to a split by its place in [0, 1)."""
    number = np.searchsorted(np.cumsum(fractions)[:-1], places, side="right")
    return _none_empty([np.flatnonzero(number == split) for split in range(3)], f"by the hash of '{name}'")


def as_given(column: pd.Series, fractions: Fractions, seed: int, strata: np.ndarray | None) -> Parts:
    """As the words of a column say: train, val (or valid, validation, dev), test. Where none says val, it is taken
    from train at random."""
    number = np.full(len(column), -1)
    words = column.astype(str).str.strip().str.lower()
    for split_number, spellings in WORDS.items():
        number[words.isin(spellings).to_numpy()] = split_number
    if (number < 0).any():
        place = int((number < 0).argmax())
        raise InputError(
            f"prepare.split_column '{column.name}', row {column.index[place] + 1}: '{column.iloc[place]}' is no split: "
            "use train, val, test"
        )
    parts = [np.flatnonzero(number == split_number) for split_number in WORDS]
    if not len(parts[1]) and len(parts[0]) > 1:
        both = parts[0]
        shares = tuple(fraction / (fractions[0] + fractions[1]) for fraction in fractions[:2])
        parts[:2] = [both[part] for part in split(len(both), shares, seed, None if strata is None else strata[both])]
    return _none_empty(parts, f"as '{column.name}' says")


def counts(rows: int, fractions: Fractions) -> list[int]:
    """`rows` divided by the fractions: whole numbers that sum to it, each at least one."""
    if rows < len(fractions):
        raise InputError(f"{rows} rows cannot be divided into train, val and test: at least 3 are needed")
    exact = np.array(fractions) * rows
    whole = np.maximum(np.floor(exact), 1).astype(int)
    while whole.sum() < rows:  # the rows left over go where the rounding took most
        whole[np.argmax(exact - whole)] += 1
    while whole.sum() > rows:  # a split raised to one row is paid for by the largest
        whole[np.argmax(whole)] -= 1
    return whole.tolist()


def _divide(
    members: np.ndarray, fractions: Fractions, generator: np.random.Generator, groups: np.ndarray | None
) -> Parts:
    """Rows `members`, shuffled and divided; large groups first, each to the split that lacks most."""
    wanted = np.array(counts(len(members), fractions))
    if groups is None:
        return np.split(generator.permutation(members), np.cumsum(wanted)[:-1])
    own = groups[members]
    alone = np.flatnonzero(own == ALONE)
    _, group, sizes = np.unique(own, return_inverse=True, return_counts=True)
    if len(alone):  # a group each, after the others
        group, sizes = group - 1, np.concatenate([sizes[1:], np.ones(len(alone), int)])
        group[alone] = np.arange(len(sizes) - len(alone), len(sizes))
    if len(sizes) < len(fractions):
        raise InputError(
            f"{len(members)} rows are in only {len(sizes)} groups (identical rows are one); train, val and test need "
            "one each. Choose another prepare.split, or prepare.duplicates: apart"
        )
    place = np.empty(len(sizes), int)
    large = generator.permutation(np.flatnonzero(sizes > 1)) if (sizes > 1).any() else np.empty(0, int)
    for number in large[np.argsort(-sizes[large], kind="stable")]:
        place[number] = wanted.argmax()
        wanted[place[number]] -= sizes[number]
    single = generator.permutation(np.flatnonzero(sizes == 1))
    wanted = np.maximum(wanted, 0)
    while wanted.sum() > len(single):  # a large group that overfilled one split is paid for by the others
        wanted[wanted.argmax()] -= 1
    place[single] = np.repeat(np.arange(len(wanted)), wanted)
    for empty in set(range(len(fractions))) - set(place):
        fullest = np.bincount(place, minlength=len(fractions)).argmax()
        candidates = np.flatnonzero(place == fullest)
        place[candidates[sizes[candidates].argmin()]] = empty
    return [members[place[group] == number] for number in range(len(fractions))]


def _borders(rows: int, fractions: Fractions) -> np.ndarray:
    return np.cumsum(counts(rows, fractions))[:-1]


def _none_empty(parts: Parts, how: str) -> Parts:
    empty = [name for name, part in zip(("train", "val", "test"), parts, strict=True) if not len(part)]
    if empty:
        raise InputError(f"splitting {how} leaves {empty[0]} without a row: choose another prepare.split")
    return parts
