"""Train, val and test of a table by the params of the prepare stage, and what the user must know of them."""

from typing import Any

import numpy as np
import pandas as pd

from src.data import leaks, split
from src.data.split import Parts
from src.errors import InputError
from src.params import Params
from src.sections import Prepare

FEW = 20  # ids


def key_of(column: pd.Series, settings: Prepare, seed: int) -> np.ndarray | pd.Series:
    """What prepare.split needs of the column that decides, in a form that is small: of a group its hash, of an id the
    place it is hashed to. Of a block or of a whole column."""
    if settings.split == "group":
        return leaks.hashes(column.to_frame())
    return split.hashed_place(column, seed) if settings.split == "hash" else column


def divide(
    params: Params,
    features: np.ndarray,
    targets: np.ndarray,
    key: np.ndarray | pd.Series | None,
    strata: np.ndarray | None,
) -> tuple[Parts, list[str]]:
    """The places of the rows of train, val and test, and notes on rows that stand twice.

    features: hash of the columns that are learned from, uint64 [rows]; targets: numbers [rows]; key: as key_of() gives
    it, of all rows; strata: class numbers, None for a regression. InputError when the params do not fit the table.
    """
    settings = params.prepare
    fractions = (settings.fractions.train, settings.fractions.val, settings.fractions.test)
    like = leaks.twins(features)
    alike, contradicting = None, 0
    if like is not None:  # else no two rows are alike, whatever their targets
        rows = leaks.combined(features, targets.astype(np.float64).view(np.uint64))
        alike, contradicting = leaks.twins(rows), leaks.contradictions(like, rows)
    notes = [f"{contradicting} rows have the same values as another, and another target"] if contradicting else []
    method = settings.split
    if method == "auto":
        method = "random" if strata is None else "stratified"
    if method in ("random", "stratified"):
        if method == "stratified" and strata is None:
            raise InputError("prepare.split = 'stratified' needs classes, and the target is a number: use random")
        strata = strata if method == "stratified" else None
        together = _keep_together(settings.duplicates, alike, strata, notes)
        parts = split.split(len(targets), fractions, params.seed, strata, alike if together else None)
    else:
        parts = _by_key(method, key, settings.split_column, fractions, params.seed, strata)
    crossing = 0 if alike is None else leaks.crossing(alike, parts)
    if crossing:
        notes.append(f"{crossing} rows of val and test are also in train")
    return parts, notes


def shared_ids(name: str, ids: np.ndarray, parts: Parts) -> list[str]:
    """A note when rows of val and test have the id of a training row: they may be of the same patient or customer.

    ids: hash of the column called so, uint64 [rows]. A few ids that all rows share are taken for categories.
    """
    like = leaks.twins(ids)
    if like is None or len(np.unique(like)) + int((like == leaks.ALONE).sum()) < FEW:
        return []
    crossing, rows = leaks.crossing(like, parts), len(parts[1]) + len(parts[2])
    if not crossing:
        return []
    return [
        f"{crossing} of the {rows} rows of val and test have a '{name}' that training rows have too. If those of one "
        f"belong together: prepare.split: group, prepare.split_column: {name}"
    ]


def _by_key(
    method: str, key: Any, name: str | None, fractions: split.Fractions, seed: int, strata: np.ndarray | None
) -> Parts:
    if method == "group":
        return split.split(len(key), fractions, seed, None, np.unique(key, return_inverse=True)[1])
    if method == "time":
        return split.by_time(key, fractions)
    if method == "hash":
        return split.by_hash(key, fractions, str(name))
    return split.as_given(key, fractions, seed, strata)


def _keep_together(duplicates: str, alike: np.ndarray | None, strata: np.ndarray | None, notes: list[str]) -> bool:
    """Whether identical rows go to the same split; a note when there are any."""
    if alike is None or duplicates == "apart":
        return False
    repeats = leaks.repeats(alike)
    share = repeats / len(alike)
    different = pd.Series(np.where(alike == leaks.ALONE, np.arange(len(alike)) + len(alike), alike))
    smallest = different.groupby(np.zeros(len(alike)) if strata is None else strata).nunique().min()
    if duplicates == "together" or (share <= leaks.COMMON and smallest >= 3):
        notes.append(f"{repeats} rows repeat an earlier one: identical rows are in the same split")
        return True
    notes.append(
        f"{repeats} rows ({share:.0%}) repeat an earlier one and are taken for different cases with the same values: "
        "there are many, or a class has no others. prepare.duplicates: together keeps them in one split"
    )
    return False
