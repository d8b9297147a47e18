"""Raw rows → numbers for a model. What is learned (means, categories) comes from training rows and is plain JSON.

The same `encode` serves preparation, prediction and the served model.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.data.schema import Categorical, Column, Numeric, Pixels
from src.errors import InputError

MAX_CATEGORIES = 64  # of a column; rarer ones are treated as never seen


def fit(frame: pd.DataFrame, pixels: bool) -> list[Column]:
    """Learn the encoding of every column from the training rows."""
    if pixels:
        values = frame.to_numpy(np.float64)
        return [Pixels(names=list(frame), mean=float(values.mean()), std=_spread(values))]
    return [_numeric(frame[name]) if is_number(frame[name]) else _categorical(frame[name]) for name in frame]


def encode(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """float32 [rows, width]. InputError for a column that is missing or holds text where numbers were."""
    wanted = [name for column in columns for name in (column.names if isinstance(column, Pixels) else [column.name])]
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise InputError(
            f"the rows lack column {missing[0]!r}" + (f" and {len(missing) - 1} more" * (len(missing) > 1))
        )
    parts = [_encode(frame, column) for column in columns]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)


def numbers(column: pd.Series) -> np.ndarray:
    """float64 with NaN for missing; InputError names the first value that is no number, or that float32 cannot hold."""
    converted = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isnan(converted) & ~column.isna().to_numpy() | (np.abs(converted) > np.finfo(np.float32).max)
    if wrong.any():
        place = int(wrong.argmax())
        label = column.index[place]
        row = label + 1 if isinstance(label, int | np.integer) else label
        raise InputError(f"column '{column.name}', row {row}: '{column.iloc[place]}' is not a finite number (float32)")
    return converted


def _numeric(column: pd.Series) -> Numeric:
    values = numbers(column)
    known = values[~np.isnan(values)]
    return Numeric(
        name=str(column.name),
        mean=float(known.mean()) if len(known) else 0.0,
        std=_spread(known) if len(known) else 1.0,
        indicator=len(known) < len(values),
    )


def _categorical(column: pd.Series) -> Categorical:
    counts = column.dropna().astype(str).value_counts()
    # by count, then by name: value_counts alone leaves ties in the order of the rows
    frequent = sorted(counts.index, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    return Categorical(name=str(column.name), categories=sorted(frequent), indicator=bool(column.isna().any()))


def _spread(values: np.ndarray) -> float:
    # a constant column carries nothing: dividing by 1 leaves it at 0. Rounding can give equal values a spread
    return float(values.std()) * (values.min() < values.max()) or 1.0


def _encode(frame: pd.DataFrame, column: Column) -> np.ndarray:
    if isinstance(column, Pixels):
        values = np.column_stack([numbers(frame[name]) for name in column.names])
        return np.nan_to_num((values - column.mean) / column.std)
    raw = frame[column.name]
    missing = raw.isna().to_numpy()
    if isinstance(column, Numeric):
        inputs = np.nan_to_num((numbers(raw) - column.mean) / column.std)[:, None]
    else:
        inputs = raw.astype(str).to_numpy()[:, None] == np.array(column.categories, dtype=object)
        inputs &= ~missing[:, None]
    return np.column_stack([inputs, missing]) if column.indicator else inputs
