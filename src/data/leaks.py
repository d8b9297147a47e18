"""Rows that stand twice: what a split must keep together, and what it lets through."""

import numpy as np
import pandas as pd

COMMON = 0.2  # share of rows that repeat an earlier one: above it they are no copies, there are just few values


def twins(frame: pd.DataFrame) -> np.ndarray:
    """The number of the group of identical rows that each row is in [rows], int64. Space around words, and how a
    whole number is written, make no difference."""
    plain = {}
    for name in frame:
        column = frame[name]
        number = pd.api.types.is_numeric_dtype(column.dtype)
        plain[name] = column.to_numpy(np.float64, na_value=np.nan) if number else column.astype(str).str.strip().array
    hashes = pd.util.hash_pandas_object(pd.DataFrame(plain), index=False)
    return pd.factorize(hashes)[0].astype(np.int64)


def repeats(groups: np.ndarray) -> int:
    """Rows that are like an earlier one."""
    return len(groups) - int(groups.max()) - 1


def crossing(groups: np.ndarray, parts: list[np.ndarray]) -> int:
    """Rows of val and test that are in train too."""
    seen = np.zeros(int(groups.max()) + 1, bool)
    seen[groups[parts[0]]] = True
    return int(sum(seen[groups[part]].sum() for part in parts[1:]))


def contradictions(groups: np.ndarray, features: np.ndarray) -> int:
    """Rows that are like another but for the target. `features`: groups of the features alone."""
    pairs = pd.DataFrame({"row": groups, "features": features})
    different = pairs.groupby("features")["row"].nunique()
    return int((pairs["features"].map(different) > 1).sum())
