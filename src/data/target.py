"""The target column as numbers: what each task accepts, and in one message why a column is not that."""

import numpy as np
import pandas as pd

from src.data import columns, encoding
from src.data.schema import Target
from src.errors import InputError

FEW = 10  # distinct whole numbers: up to these, each in at least three rows, are classes


def infer_task(column: pd.Series) -> str:
    """What task: auto stands for: words, and few different whole numbers, are classes; other numbers a regression."""
    if encoding.is_number(column) and column.iloc[:10_000].nunique() > FEW:
        return "regression"
    counts = column.value_counts()
    if encoding.is_number(column) and not pd.api.types.is_bool_dtype(column.dtype):
        values = encoding.numbers(column)
        if len(counts) > FEW or counts.min() < 3 or (values != np.floor(values)).any():
            return "regression"
    return "binary" if len(counts) == 2 else "classification"


def classes_of(column: pd.Series, task: str) -> list[str | int]:
    """The distinct values of a classification or binary target, sorted; whole numbers stay numbers."""
    name = column.name
    if encoding.is_number(column):
        values = encoding.numbers(column)
        fraction = values[values != np.floor(values)]
        if len(fraction):
            raise InputError(
                f"prepare.target '{name}' holds decimals such as {fraction[0]:g}, which are no classes. "
                "For numbers set task: regression"
            )
        classes: list[str | int] = [int(value) for value in np.unique(values)]
    else:
        classes = sorted(set(encoding.words(pd.Series(columns.codes_of(column)[1]))))
    if len(classes) < 2:
        raise InputError(f"prepare.target '{name}' has one value only ({classes[0]!r}): there is nothing to learn")
    if task == "binary" and len(classes) > 2:
        raise InputError(
            f"prepare.target '{name}' has {len(classes)} classes; task binary needs 2. Set task: classification"
        )
    return classes


def class_numbers(column: pd.Series, classes: list[str | int]) -> np.ndarray:
    """The place of each value in `classes`, int64 [rows]."""
    if encoding.is_number(column):
        return np.searchsorted(np.array(classes, np.float64), encoding.numbers(column)).astype(np.int64)
    return encoding.places(column, [str(name) for name in classes]).astype(np.int64)


def check_strata(column: pd.Series, numbers: np.ndarray, classes: list[str | int]) -> None:
    """InputError when a class has too few rows to be in every split."""
    counts = np.bincount(numbers, minlength=len(classes))
    rare = np.flatnonzero(counts < 3)
    if len(rare):
        count = counts[rare[0]]
        others = f"So do {len(rare) - 1} more classes. Is it a number? Then set task: regression"
        raise InputError(
            f"prepare.target '{column.name}': class {classes[rare[0]]!r} has {count} row{'s' if count > 1 else ''}; "
            f"train, val and test need one each. {others if len(rare) > 1 else 'Add rows of it, or leave it out'}"
        )


def check_train(column: pd.Series, numbers: np.ndarray, classes: list[str | int]) -> None:
    """InputError when a class is not among the training rows, whose class numbers these are."""
    absent = sorted(set(range(len(classes))) - set(numbers.tolist()))
    if absent:
        raise InputError(
            f"prepare.target '{column.name}': class {classes[absent[0]]!r} has no row to train on. "
            "Choose another prepare.split, or leave its rows out"
        )


def fit_regression(column: pd.Series, train: np.ndarray, transform: str) -> Target:
    """How a numeric target is learned; offset and scale are those of the training rows."""
    values = regression_values(column)
    if transform == "none":
        return Target(name=str(column.name))
    if transform == "log1p":
        if values.min() <= -1:
            row = column.index[values.argmin()] + 1
            raise InputError(
                f"prepare.target '{column.name}', row {row}: {values.min():g} has no log1p; "
                "set prepare.target_transform: standardize"
            )
        values = np.log1p(values)
    values = values[train]
    scale = float(values.std())
    if scale == 0 or values.min() == values.max():  # rounding can leave equal values a spread
        raise InputError(f"prepare.target '{column.name}' has one value only ({values[0]:g}): nothing to learn")
    return Target(name=str(column.name), log=transform == "log1p", offset=float(values.mean()), scale=scale)


def regression_values(column: pd.Series) -> np.ndarray:
    """float64 [rows]; InputError when the target is text."""
    if not encoding.is_number(column):
        text = column[pd.to_numeric(column, errors="coerce").isna()]
        raise InputError(
            f"prepare.target '{column.name}' holds text such as '{text.iloc[0]}'; a regression needs numbers. "
            "For classes set task: classification"
        )
    return encoding.numbers(column)
