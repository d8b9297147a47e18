"""Rows that stand twice: what a split must keep together, and what it lets through.

Rows are told apart by a hash of 64 bits: two of a hundred million different rows share one with a chance of 0.03%.
"""

import numpy as np
import pandas as pd

from src.data import columns as kinds
from src.data import encoding
from src.data.table import in_order

COMMON = 0.2  # share of rows that repeat an earlier one: above it they are no copies, there are just few values
ALONE = -1


def hashes(block: pd.DataFrame) -> np.ndarray:
    """uint64 [rows], equal for identical rows. Space around words, and how a whole number is written, make no
    difference."""
    total = np.zeros(len(block), np.uint64)
    for place, name in enumerate(block):
        column = block[name]
        if encoding.is_number(column):
            values = (kinds.floats(column) + 0.0).view(np.uint64)  # -0.0 is 0.0
        else:
            values = encoding.by_value(column, _hashed_words, missing=0)
        total = combined(total, values, place)
    return total


def combined(one: np.ndarray, other: np.ndarray, place: int = 0) -> np.ndarray:
    """One hash of two, uint64 [rows]; which column (`place`) a value is in matters."""
    odd = np.uint64((0x9E3779B97F4A7C15 * (2 * place + 1)) % 2**64 | 1)
    mixed = other * odd
    mixed ^= one
    mixed *= np.uint64(0xFF51AFD7ED558CCD)  # of MurmurHash3's finaliser
    mixed ^= mixed >> np.uint64(33)
    return mixed


def twins(rows: np.ndarray) -> np.ndarray | None:
    """The number of the group of equal hashes that each row is in, ALONE for one that is like no other, int64 [rows];
    None when all are."""
    half = np.uint64(1 << 63)
    ordered = np.concatenate(list(in_order(np.sort, [rows[rows < half], rows[rows >= half]])))  # on two cores
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return None
    place = np.minimum(np.searchsorted(twice, rows), len(twice) - 1)
    return np.where(twice[place] == rows, place, ALONE)


def repeats(groups: np.ndarray) -> int:
    """Rows that are like an earlier one."""
    among = groups[groups != ALONE]
    return len(among) - len(np.unique(among))


def crossing(groups: np.ndarray, parts: list[np.ndarray]) -> int:
    """Rows of val and test that are in train too."""
    seen = np.zeros(int(groups.max()) + 2, bool)
    seen[groups[parts[0]]] = True
    seen[ALONE] = False
    return int(sum(seen[groups[part]].sum() for part in parts[1:]))


def contradictions(groups: np.ndarray, rows: np.ndarray) -> int:
    """Rows that are like another but for the target: in a group by their features, with different hashes of all."""
    among = groups != ALONE
    pairs = pd.DataFrame({"features": groups[among], "row": rows[among]})
    different = pairs.groupby("features")["row"].nunique()
    return int((pairs["features"].map(different) > 1).sum())


def _hashed_words(distinct: pd.Series) -> np.ndarray:
    return pd.util.hash_array(encoding.words(distinct).to_numpy(object), categorize=False)
