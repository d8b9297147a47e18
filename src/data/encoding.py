"""Raw rows → numbers for a model. What is learned (means, categories) comes from training rows and is plain JSON.

The same `encode` serves preparation, prediction and the served model.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.data import columns as kinds
from src.data.schema import Boolean, Categorical, Column, Datetime, Numeric, Ordinal, Pixels, Text
from src.errors import InputError

MAX_CATEGORIES = 64  # of a column with an input of their own; the rest share one
TEXT_WIDTH = 64


def fit(frame: pd.DataFrame, wanted: dict[str, str | list[str]] | None) -> list[Column]:
    """Learn the encoding of every column from the training rows.

    wanted: the kind of each column (a list: the words of an ordinal in their order); None for the pixels of images.
    """
    if wanted is None:
        return [_pixels(frame)]
    return [_fit(frame[name], wanted[str(name)]) for name in frame]


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


def compact(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """What prepared data holds: as `encode` gives it, but images of uint8 stay so, and are scaled on the device."""
    if is_uint8(frame):
        return frame.to_numpy()
    return encode(frame, columns)


def is_uint8(frame: pd.DataFrame) -> bool:
    return bool((frame.dtypes == np.uint8).all())


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)


def numbers(column: pd.Series) -> np.ndarray:
    """float64 with NaN for missing; InputError names the first value that is no number, or that float32 cannot hold."""
    if kinds.is_text(column):
        column = kinds.blank_to_missing(column)
    converted = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isnan(converted) & ~column.isna().to_numpy() | (np.abs(converted) > np.finfo(np.float32).max)
    if wrong.any():
        place = int(wrong.argmax())
        label = column.index[place]
        row = label + 1 if isinstance(label, int | np.integer) else label
        raise InputError(f"column '{column.name}', row {row}: '{column.iloc[place]}' is not a finite number (float32)")
    return converted


def booleans(column: pd.Series) -> np.ndarray:
    """1, 0 or NaN, float64."""
    words = column.astype(str).str.strip().str.lower()
    yes, no = (words.isin([pair[place] for pair in kinds.SPELLINGS]) for place in (0, 1))
    if is_number(column):  # true and false of a column with gaps come as 1.0 and 0.0
        yes, no = column == 1, column == 0
    known = column.notna()
    return np.where(yes & known, 1.0, np.where(no & known, 0.0, np.nan))


def places(column: pd.Series, order: list[str]) -> np.ndarray:
    """The place of each word in `order`, NaN for one that is not in it, float64."""
    found = pd.Index(order).get_indexer(pd.Index(_words(column))).astype(np.float64)
    return np.where(found < 0, np.nan, found)


def dates(column: pd.Series, layout: str | None) -> np.ndarray:
    """float64 [rows, 5]: days since 1970, year, month, weekday, hour; NaN for what is no date."""
    if kinds.is_text(column):
        column = column.str.strip()
    moments = pd.to_datetime(column, format=layout, errors="coerce", utc=True).dt.tz_localize(None)
    days = (moments - pd.Timestamp(0)) / pd.Timedelta(days=1)
    parts = [days, moments.dt.year, moments.dt.month, moments.dt.day_of_week, moments.dt.hour]
    return np.column_stack([part.to_numpy(np.float64, na_value=np.nan) for part in parts])


def hashed(column: pd.Series, width: int) -> np.ndarray:
    """float32 [rows, width]: hashed counts of words, each row of length 1 (or 0)."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = column.fillna("").astype(str)
    return HashingVectorizer(n_features=width).transform(texts).toarray().astype(np.float32)


def _pixels(frame: pd.DataFrame) -> Pixels:
    if is_uint8(frame):  # by counts of the 256 values: exact, and no copy in float64
        counts = np.bincount(frame.to_numpy().ravel(), minlength=256)
        values, weights = np.arange(256), counts / counts.sum()
        mean = float(values @ weights)
        return Pixels(names=list(frame), mean=mean, std=float(np.sqrt((values - mean) ** 2 @ weights)) or 1.0)
    values = frame.to_numpy(np.float64)
    return Pixels(names=list(frame), mean=float(values.mean()), std=_spread(values))


def _fit(column: pd.Series, kind: str | list[str]) -> Column:
    name = str(column.name)
    if isinstance(kind, list):
        values = places(column, kind)
        strange = column[np.isnan(values) & column.notna().to_numpy()]
        if len(strange):
            raise InputError(
                f"column '{name}', row {strange.index[0] + 1}: '{strange.iloc[0]}' is not in prepare.columns.{name}: "
                f"{', '.join(kind)}"
            )
        return Ordinal(name=name, order=kind, **_moments(values))
    if kind == "numeric":
        return Numeric(name=name, **_moments(numbers(column)))
    if kind == "boolean":
        return Boolean(name=name, **_moments(booleans(column)))
    if kind == "datetime":
        return _fit_dates(column)
    if kind == "text":
        return Text(name=name, width=TEXT_WIDTH)
    return _categorical(column)


def _fit_dates(column: pd.Series) -> Datetime:
    layout = None
    known = column.dropna()
    if kinds.is_text(column) and len(known):
        layout = kinds.date_format(known.str.strip())
        if layout is None:
            raise InputError(
                f"column '{column.name}' holds no dates of one format, such as 2026-01-31: its first value is "
                f"'{known.iloc[0]}'. Set prepare.columns.{column.name} to categorical, text or ignore"
            )
    moments = [_moments(part) for part in dates(column, layout).T]
    return Datetime(
        name=str(column.name),
        format=layout,
        mean=[moment["mean"] for moment in moments],
        std=[moment["std"] for moment in moments],
        indicator=moments[0]["indicator"],
    )


def _moments(values: np.ndarray) -> dict[str, float | bool]:
    """Mean and deviation of the known values [rows], and whether any is missing."""
    known = values[~np.isnan(values)]
    return {
        "mean": float(known.mean()) if len(known) else 0.0,
        "std": _spread(known) if len(known) else 1.0,
        "indicator": len(known) < len(values),
    }


def _categorical(column: pd.Series) -> Categorical:
    counts = _words(column.dropna()).value_counts()
    # by count, then by name: value_counts alone leaves ties in the order of the rows
    frequent = sorted(counts.index, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    return Categorical(
        name=str(column.name),
        categories=sorted(frequent),
        other=len(counts) > len(frequent),
        indicator=bool(column.isna().any()),
    )


def _words(column: pd.Series) -> pd.Series:
    words = column.astype(str).str.strip()
    # whole numbers with a gap among them come as 1.0 and are the same category as 1
    return words.str.removesuffix(".0") if pd.api.types.is_float_dtype(column.dtype) else words


def _spread(values: np.ndarray) -> float:
    # a constant column carries nothing: dividing by 1 leaves it at 0. Rounding can give equal values a spread
    return float(values.std()) * (values.min() < values.max()) or 1.0


def _encode(frame: pd.DataFrame, column: Column) -> np.ndarray:
    if isinstance(column, Pixels):
        part = frame[column.names]
        values = part.to_numpy() if is_uint8(part) else np.column_stack([numbers(part[name]) for name in part])
        return np.nan_to_num((values - column.mean) / column.std)
    raw = frame[column.name]
    if isinstance(column, Text):
        return hashed(raw, column.width)
    if isinstance(column, Categorical):
        missing = raw.isna().to_numpy()
        place = pd.Index(column.categories).get_indexer(pd.Index(_words(raw)))
        place[place < 0] = len(column.categories)  # the last input: all others
        inputs = np.zeros((len(raw), len(column.categories) + 1), np.float32)
        inputs[~missing, place[~missing]] = 1
        inputs = inputs[:, : len(column.categories) + column.other]
    else:
        values = _values(raw, column)
        missing = np.isnan(values[:, 0])
        inputs = np.nan_to_num((values - column.mean) / column.std)
    return np.column_stack([inputs, missing]) if column.indicator else inputs


def _values(raw: pd.Series, column: Numeric | Boolean | Ordinal | Datetime) -> np.ndarray:
    """float64 [rows, numbers a row], NaN for missing."""
    if isinstance(column, Datetime):
        return dates(raw, column.format)
    if isinstance(column, Boolean):
        return booleans(raw)[:, None]
    if isinstance(column, Ordinal):
        return places(raw, column.order)[:, None]
    return numbers(raw)[:, None]
