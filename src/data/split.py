"""Which row goes to which split: seeded, and stratified where the target is classes."""

import numpy as np

from src.errors import InputError


def split(rows: int, fractions: tuple[float, float, float], seed: int, strata: np.ndarray | None) -> list[np.ndarray]:
    """Row numbers of train, val and test, each ascending, int64.

    strata: class number of each row [rows], or None. Each class is divided by the fractions on its own, and has
    at least one row in each split; InputError names a class that has too few rows for that.
    """
    generator = np.random.default_rng(seed)
    groups = [np.arange(rows)] if strata is None else [np.flatnonzero(strata == value) for value in np.unique(strata)]
    parts: list[list[np.ndarray]] = [[], [], []]
    for group in groups:
        shuffled = generator.permutation(group)
        bounds = np.cumsum(counts(len(group), fractions))
        for part, piece in zip(parts, np.split(shuffled, bounds[:-1]), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def counts(rows: int, fractions: tuple[float, float, float]) -> list[int]:
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
