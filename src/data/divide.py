"""Train, val and test of a table by the params of the prepare stage, and what the user must know of them."""

from typing import Any

import numpy as np
import pandas as pd

from src.data import leaks, split
from src.data.split import Parts
from src.errors import InputError
from src.params import Params


def divide(
    params: Params, used: pd.DataFrame, wanted: pd.Series, features: pd.DataFrame, strata: np.ndarray | None
) -> tuple[Parts, list[str]]:
    """The places of the rows of train, val and test, and notes on rows that stand twice.

    used: the columns that are learned from; features: all but the target; strata: class numbers, None for a
    regression. InputError when the params do not fit the table.
    """
    settings = params.prepare
    fractions = (settings.fractions.train, settings.fractions.val, settings.fractions.test)
    alike = leaks.twins(pd.concat([used, wanted], axis=1))
    notes = _contradictions(alike, used)
    method = settings.split
    if method == "auto":
        method = "random" if strata is None else "stratified"
    if method in ("random", "stratified"):
        if method == "stratified" and strata is None:
            raise InputError("prepare.split = 'stratified' needs classes, and the target is a number: use random")
        strata = strata if method == "stratified" else None
        together = _keep_together(settings.duplicates, alike, strata, notes)
        parts = split.split(len(wanted), fractions, params.seed, strata, alike if together else None)
    else:
        parts = _by_column(method, _column(settings.split_column, features), fractions, params.seed, strata)
    crossing = leaks.crossing(alike, parts)
    if crossing:
        notes.append(f"{crossing} rows of val and test are also in train")
    return parts, notes


def _by_column(method: str, column: pd.Series, fractions: Any, seed: int, strata: np.ndarray | None) -> Parts:
    if method == "group":
        groups = pd.factorize(column.astype(str))[0]
        return split.split(len(column), fractions, seed, None, groups)
    if method == "time":
        return split.by_time(column, fractions)
    if method == "hash":
        return split.by_hash(column, fractions, seed)
    return split.as_given(column, fractions, seed, strata)


def _column(name: str | None, features: pd.DataFrame) -> pd.Series:
    if name not in features:
        raise InputError(
            f"prepare.split_column = '{name}' is no column. There are: {', '.join(map(str, features))[:300]}"
        )
    return features[name]


def _keep_together(duplicates: str, alike: np.ndarray, strata: np.ndarray | None, notes: list[str]) -> bool:
    """Whether identical rows go to the same split; a note when there are any."""
    repeats = leaks.repeats(alike)
    if not repeats or duplicates == "apart":
        return False
    share = repeats / len(alike)
    smallest = pd.Series(alike).groupby(np.zeros(len(alike)) if strata is None else strata).nunique().min()
    if duplicates == "together" or (share <= leaks.COMMON and smallest >= 3):
        notes.append(f"{repeats} rows repeat an earlier one: identical rows are in the same split")
        return True
    notes.append(
        f"{repeats} rows ({share:.0%}) repeat an earlier one and are taken for different cases with the same values: "
        "there are many, or a class has no others. prepare.duplicates: together keeps them in one split"
    )
    return False


def _contradictions(alike: np.ndarray, used: pd.DataFrame) -> list[str]:
    count = leaks.contradictions(alike, leaks.twins(used))
    return [f"{count} rows have the same values as another, and another target"] if count else []
