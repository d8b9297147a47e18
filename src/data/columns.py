"""What each column is: numbers, categories, yes or no, dates, ordered words, free text, or nothing to learn from."""

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from src.errors import InputError

KINDS = ("numeric", "categorical", "boolean", "datetime", "text", "ignore")
SPELLINGS = (("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("1", "0"))
# words that people write into a column of numbers where one is missing
BLANKS = ("?", "-", "--", ".", "*", "n.a.", "unknown", "missing", "none")
ID_NAMES = re.compile(r"(.*[_. ])?id|rownames?|row|index|unnamed: \d+", re.IGNORECASE)
MANY = 64  # distinct words: more than these, in more than half of the rows, are free text

NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
THOUSANDS = r"[-+]?\d{1,3}([,' ]\d{3})+(\.\d+)?"
WITH_UNIT = rf"[$€£]?\s?(?:{THOUSANDS}|{NUMBER})\s?(%|[$€£°]|[a-zA-Z]{{1,4}})?"


def describe(frame: pd.DataFrame, wanted: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(kind, reason) of every column, the reason being empty unless the kind is "ignore".

    wanted: what the user says, name → kind, or the list of an ordinal's words in their order, which is kept as it is.
    InputError for a name that is no column, and for numbers that are written as text.
    """
    unknown = [name for name in wanted if name not in frame]
    if unknown:
        raise InputError(f"prepare.columns.{unknown[0]} is no column. There are: {', '.join(map(str, frame))[:300]}")
    described = {}
    for name in frame:
        kind = wanted.get(str(name))
        if kind == "ignore":
            described[str(name)] = ("ignore", "prepare.columns says so")
        elif kind is not None:
            described[str(name)] = ("ordinal" if isinstance(kind, list) else kind, "")
        else:
            described[str(name)] = _infer(frame[name])
    return described


def _infer(column: pd.Series) -> tuple[str, str]:
    known = column.dropna()
    if known.empty:
        raise InputError(
            f"column '{column.name}' is missing in every row: delete it, or set prepare.columns.{column.name}: ignore"
        )
    if pd.api.types.is_bool_dtype(known.infer_objects()):
        return _unless_constant(known, "boolean")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ("ignore", "an id") if _is_number_id(column) else _unless_constant(known, "numeric")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _unless_constant(known, "datetime")
    if not is_text(column):
        return _infer_objects(known)
    return _infer_text(known.str.strip(), len(column))


def _infer_objects(known: pd.Series) -> tuple[str, str]:
    sample = known.iloc[0]
    if isinstance(sample, (list, dict, np.ndarray)):
        return "ignore", "its values are lists or records"
    if hasattr(sample, "year"):
        return "datetime", ""
    return _infer_text(known.astype(str), len(known))


def _infer_text(known: pd.Series, rows: int) -> tuple[str, str]:
    distinct = pd.Index(known.unique())
    if len(distinct) == 1:
        return "ignore", "one value only"
    if any(set(distinct.str.lower()) == set(pair) for pair in SPELLINGS):
        return "boolean", ""
    plain = np.array([bool(re.fullmatch(NUMBER, word)) for word in distinct])
    blank = distinct.str.lower().isin(BLANKS)
    if plain.any() and (plain | blank).all():
        return "numeric", ""
    _refuse_disguised_numbers(known, distinct, plain)
    if date_format(known) is not None:
        return "datetime", ""
    if len(known) == len(distinct) == rows and rows >= 20:
        return "ignore", "a different value in every row: an id, or free text"
    if len(distinct) > MANY and len(distinct) > len(known) / 2:
        return "ignore", f"free text: {len(distinct)} different values. prepare.columns.{known.name}: text takes it in"
    return "categorical", ""


def _refuse_disguised_numbers(known: pd.Series, distinct: pd.Index, plain: np.ndarray) -> None:
    """InputError for a column of numbers most of which have thousands separators, or one and the same unit."""
    if len(distinct) <= 20:
        return
    found = [re.fullmatch(WITH_UNIT, word) for word in distinct]
    units = {match.groups()[-1] for match in found if match} - {None}
    all_numbers = sum(match is not None for match in found) >= 0.9 * len(distinct) and len(units) <= 1
    if all_numbers and plain.sum() < len(distinct) / 2:
        example = next(word for word, is_plain in zip(distinct, plain, strict=True) if not is_plain)
        row = known.index[known == example][0]
        raise InputError(
            f"column '{known.name}', row {row + 1}: '{example}' is a number written as text. Write plain numbers, "
            f"or set prepare.columns.{known.name} to categorical or ignore"
        )


def _is_number_id(column: pd.Series) -> bool:
    """A different whole number in each row, in a column that is called an id or that is the row's own number."""
    if column.isna().any() or len(column) < 20:
        return False
    values = column.to_numpy(np.float64)
    whole = bool(np.isfinite(values).all() and (values == np.floor(values)).all())
    return whole and ID_NAMES.fullmatch(str(column.name)) is not None and len(np.unique(values)) == len(values)


def _unless_constant(known: pd.Series, kind: str) -> tuple[str, str]:
    return ("ignore", "one value only") if known.nunique() == 1 else (kind, "")


def is_text(column: pd.Series) -> bool:
    """Whether the values are words: pandas' own string type, or objects that all are."""
    if isinstance(column.dtype, pd.StringDtype):
        return True
    return bool(column.dtype == object and column.dropna().map(lambda value: isinstance(value, str)).all())


def date_format(known: pd.Series) -> str | None:
    """The one strptime format that all words of a column have; None when they are no dates."""
    from pandas.tseries.api import guess_datetime_format

    first = str(known.iloc[0])
    if not re.search(r"\d", first) or len(first) < 6:
        return None
    for day_first in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # that a format contradicts dayfirst, which is only a hint here
            guess: str | None = guess_datetime_format(first, dayfirst=day_first)
        if guess and not pd.to_datetime(known, format=guess, errors="coerce").isna().any():
            return guess
    return None


def blank_to_missing(column: pd.Series) -> pd.Series:
    """A column of numbers that came as words, those for a missing value (BLANKS) taken out."""
    stripped = column.str.strip()
    return stripped.mask(stripped.str.lower().isin(BLANKS))
