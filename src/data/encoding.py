"""Raw rows → numbers for a model, by what src/data/fitting.py learned from the training rows, which is plain JSON.

The same `encode` serves preparation, prediction and the served model.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from src.data import columns as kinds
from src.data.schema import Boolean, Categorical, Column, Datetime, Numeric, Ordinal, Pixels, Text
from src.errors import InputError


def encode(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """float32 [rows, width]. InputError for a column that is missing, and for a value of another kind, with its row."""
    wanted = [name for column in columns for name in (column.names if isinstance(column, Pixels) else [column.name])]
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise InputError(
            f"the rows lack column {missing[0]!r}" + (f" and {len(missing) - 1} more" * (len(missing) > 1))
        )
    inputs = np.zeros((len(frame), sum(_width(column) for column in columns)), np.float32)
    start = 0
    for column in columns:
        _encode(frame, column, inputs[:, start : start + _width(column)])
        start += _width(column)
    return inputs


def compact(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """What prepared data holds: as `encode` gives it, but images of uint8 stay so, and are scaled on the device."""
    if is_uint8(frame):
        return frame.to_numpy()
    return encode(frame, columns)


def is_uint8(frame: pd.DataFrame) -> bool:
    return bool((frame.dtypes == np.uint8).all())


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)


def by_value(column: pd.Series, function: Callable[[pd.Series], np.ndarray], missing: float = np.nan) -> np.ndarray:
    """function(the distinct values) [distinct, ...] for each row [rows, ...]; `missing` where there is no value."""
    codes, distinct = kinds.codes_of(column)
    values = function(pd.Series(distinct))
    gap = np.full((1, *values.shape[1:]), missing, values.dtype)
    return np.concatenate([values, gap])[codes]


def numbers(column: pd.Series) -> np.ndarray:
    """float64 with NaN for missing; InputError names the first value that is no number, or that float32 cannot hold."""
    converted = kinds.floats(column) if is_number(column) else by_value(column, _numbers_in)
    low, high = np.fmin.reduce(converted, initial=0), np.fmax.reduce(converted, initial=0)
    if max(-low, high) > np.finfo(np.float32).max:
        _refuse(column, np.abs(converted) > np.finfo(np.float32).max, "not a finite number (float32)")
    return converted


def _numbers_in(words: pd.Series) -> np.ndarray:
    """float64: NaN for a word that stands for a missing value, infinity for one that is no number."""
    stripped = words.astype(str).str.strip()
    values = pd.to_numeric(stripped, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    blank = stripped.str.lower().isin(kinds.BLANKS).to_numpy()
    return np.where(np.isnan(values) & ~blank, np.inf, values)


def booleans(column: pd.Series) -> np.ndarray:
    """1, 0 or NaN for missing, float64; InputError for another word or number."""
    if is_number(column):  # true and false of a column with gaps come as 1.0 and 0.0
        values = kinds.floats(column)
        values = np.where((values == 1) | (values == 0), values, np.nan)
    else:
        values = by_value(column, _booleans_in)
    spellings = ", ".join("/".join(pair) for pair in kinds.SPELLINGS)
    _refuse(column, np.isnan(values) & column.notna().to_numpy(), f"neither yes nor no ({spellings})")
    return values


def _booleans_in(words: pd.Series) -> np.ndarray:
    lower = words.astype(str).str.strip().str.lower()
    yes, no = (lower.isin([pair[place] for pair in kinds.SPELLINGS]) for place in (0, 1))
    return np.where(yes, 1.0, np.where(no, 0.0, np.nan))


def places(column: pd.Series, order: list[str], others: float = np.nan) -> np.ndarray:
    """The place of each word in `order`, NaN for none, `others` for one that is not in it, float64."""

    def look_up(distinct: pd.Series) -> np.ndarray:
        found = pd.Index(order, dtype=object).get_indexer(pd.Index(words(distinct), dtype=object))
        return np.where(found < 0, others, found.astype(np.float64))

    return by_value(column, look_up)


def ordinals(column: pd.Series, order: list[str]) -> np.ndarray:
    """The place of each word in `order`, NaN for missing, float64; InputError for another word."""
    values = places(column, order)
    strange = np.isnan(values) & column.notna().to_numpy()
    _refuse(column, strange, f"none of {', '.join(order)} (prepare.columns.{column.name})")
    return values


def words(column: pd.Series) -> pd.Series:
    """Values as words, without space around them."""
    text = column.astype(str).str.strip()
    # whole numbers with a gap among them come as 1.0 and are the same category as 1
    return text.str.removesuffix(".0") if pd.api.types.is_float_dtype(column.dtype) else text


def dates(column: pd.Series, layout: str | None) -> np.ndarray:
    """float64 [rows, 5]: days since 1970, year, month, weekday, hour; NaN for missing. InputError for what is no date.

    layout: the strptime format of words, None where they are dates already.
    """

    def split(distinct: pd.Series) -> np.ndarray:
        distinct = distinct.astype(str).str.strip() if kinds.is_text(distinct) else distinct
        moments = pd.to_datetime(distinct, format=layout, errors="coerce", utc=True).dt.tz_localize(None)
        days = (moments - pd.Timestamp(0)) / pd.Timedelta(days=1)
        parts = [days, moments.dt.year, moments.dt.month, moments.dt.day_of_week, moments.dt.hour]
        return np.column_stack([part.to_numpy(np.float64, na_value=np.nan) for part in parts])

    values = by_value(column, split)
    wanted = f"not of the format {layout}" if layout else "no date"
    _refuse(column, np.isnan(values[:, 0]) & column.notna().to_numpy(), wanted)
    return values


def hashed(column: pd.Series, width: int) -> np.ndarray:
    """float32 [rows, width]: hashed counts of words, each row of length 1 (or 0)."""
    from sklearn.feature_extraction.text import HashingVectorizer

    def vectorize(distinct: pd.Series) -> np.ndarray:
        return HashingVectorizer(n_features=width).transform(distinct.astype(str)).toarray().astype(np.float32)

    return by_value(column, vectorize, missing=0.0)


def _refuse(column: pd.Series, wrong: np.ndarray, what: str) -> None:
    """InputError that names the first row that is wrong [rows]."""
    if wrong.any():
        raise InputError(f"{first(column, wrong)} is {what}")


def first(column: pd.Series, chosen: np.ndarray) -> str:
    """The first value of those chosen, bool [rows], for people: its column, its row, counted from 1, and itself."""
    place = int(chosen.argmax())
    label = column.index[place]
    row = label + 1 if isinstance(label, int | np.integer) else label
    return f"column '{column.name}', row {row}: '{column.iloc[place]}'"


def _width(column: Column) -> int:
    return len(column.names) if isinstance(column, Pixels) else column.width


def _encode(frame: pd.DataFrame, column: Column, inputs: np.ndarray) -> None:
    """Write a column's inputs [rows, width], which are 0 before."""
    if isinstance(column, Pixels):
        part = frame[column.names]
        values = part.to_numpy() if is_uint8(part) else np.column_stack([numbers(part[name]) for name in part])
        inputs[:] = np.nan_to_num((values - column.mean) / column.std)
        return
    raw = frame[column.name]
    if isinstance(column, Text):
        inputs[:] = hashed(raw, column.width)
        return
    if isinstance(column, Categorical):
        count = len(column.categories)
        place = places(raw, column.categories, others=count if column.other else np.nan)
        known = ~np.isnan(place)
        inputs[known, place[known].astype(np.intp)] = 1
        if column.indicator:
            inputs[:, -1] = raw.isna()
        return
    values = number_of(raw, column)
    missing = np.isnan(values[:, 0])
    scaled = values - column.mean
    scaled /= column.std
    if missing.any():
        scaled[missing] = 0
    inputs[:, : values.shape[1]] = scaled
    if column.indicator:
        inputs[:, -1] = missing


def number_of(raw: pd.Series, column: Numeric | Boolean | Ordinal | Datetime) -> np.ndarray:
    """float64 [rows, numbers a row], NaN for missing."""
    if isinstance(column, Datetime):
        return dates(raw, column.format)
    if isinstance(column, Boolean):
        return booleans(raw)[:, None]
    if isinstance(column, Ordinal):
        return ordinals(raw, column.order)[:, None]
    return numbers(raw)[:, None]
