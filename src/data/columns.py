"""What each column is: numbers, categories, yes or no, dates, ordered words, free text, or nothing to learn from."""

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from src.errors import InputError

SPELLINGS = (("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("1", "0"))
# words that people write into a column of numbers where one is missing
BLANKS = ("?", "-", "--", ".", "*", "n.a.", "unknown", "missing", "none")
NAMED_ID = re.compile(r"(.*[_. ])?id", re.IGNORECASE)
ID_NAMES = re.compile(rf"{NAMED_ID.pattern}|rownames?|row|index|unnamed: \d+", re.IGNORECASE)
WORDS = 65_536  # distinct words of a column that are looked at; beyond them it is judged by the rows that had these
MANY = 64  # distinct words: more than these, in more than half of the rows, are free text

NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
THOUSANDS = r"[-+]?\d{1,3}([,' ]\d{3})+(\.\d+)?"
WITH_UNIT = rf"[$€£]?\s?(?:{THOUSANDS}|{NUMBER})\s?(%|[$€£°]|[a-zA-Z]{{1,4}})?"


@dataclass
class Facts:
    """What has been seen of a column. `low` and `high`: of numbers, booleans and dates. `words`: the distinct ones and
    the first row of each, up to WORDS, in the first `counted` rows that have one; `layouts`: date formats that fit
    them all. `whole`: the values, in a column that is called an id, while they are different whole numbers."""

    name: str
    rows: int = 0
    missing: int = 0
    kind: str = ""  # boolean, number, date, words or nested
    low: float = np.inf
    high: float = -np.inf
    words: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    layouts: list[str] | None = None
    whole: list[np.ndarray] | None = None

    def add(self, later: "Facts") -> None:
        """Take in what was seen in the rows after these."""
        self.rows += later.rows
        self.missing += later.missing
        if not later.kind:
            return
        first = not self.kind
        self.kind = later.kind if first or self.kind == later.kind else "words"
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)
        if len(self.words) < WORDS:
            self.words = later.words | self.words  # of a word that both have, the first row counts
            self.counted += later.counted
            if first:
                self.layouts = later.layouts
            elif self.layouts:
                self.layouts = [layout for layout in self.layouts if layout in (later.layouts or [])]
        known = later.whole if first else self.whole
        if not first and known is not None:
            known = None if later.whole is None else known + later.whole
        self.whole = known


def look(column: pd.Series) -> Facts:
    """What one block shows of a column."""
    name, missing = str(column.name), int(column.isna().sum())
    facts = Facts(name, len(column), missing)
    if missing == len(column):
        return facts
    if pd.api.types.is_numeric_dtype(column.dtype):
        _look_at_numbers(facts, floats(column), pd.api.types.is_bool_dtype(column.dtype))
        return facts
    known = column.dropna()
    if isinstance(known.iloc[0], (list, dict, np.ndarray)):
        facts.kind = "nested"
    elif pd.api.types.is_datetime64_any_dtype(column.dtype) or hasattr(known.iloc[0], "year"):
        facts.kind = "date"
        moments = pd.to_datetime(known, utc=True).dt.as_unit("ns").astype("int64")
        facts.low, facts.high = moments.min(), moments.max()
    elif pd.api.types.is_bool_dtype(known.infer_objects()):  # booleans with gaps
        _look_at_numbers(facts, known.to_numpy(np.float64), boolean=True)
    else:
        _look_at_words(facts, known)
    return facts


def _look_at_numbers(facts: Facts, values: np.ndarray, boolean: bool) -> None:
    """values: float64 [rows], NaN for missing."""
    facts.kind = "boolean" if boolean else "number"
    facts.low, facts.high = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
    facts.whole = [values] if not facts.missing and _are_ids(facts.name, values) else None


def _look_at_words(facts: Facts, known: pd.Series) -> None:
    facts.kind, facts.counted = "words", len(known)
    codes, distinct = codes_of(known)
    first = np.empty(len(distinct), np.int64)
    first[codes[::-1]] = known.index.to_numpy()[::-1]
    words = pd.Index(distinct.astype(str)).str.strip()
    for word, row in zip(words[::-1], first[::-1], strict=True):
        facts.words[word] = int(row)
    facts.layouts = date_formats(pd.Series(list(facts.words)))


def codes_of(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """(place of each row's value among the distinct ones, -1 where missing; the distinct ones)."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    return pd.factorize(column)


def floats(column: pd.Series) -> np.ndarray:
    """A column of numbers as float64 [rows], NaN for missing; its own memory where it is that already."""
    if pd.api.types.is_extension_array_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.to_numpy(np.float64)


def describe(seen: dict[str, Facts], wanted: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(kind, reason) of every column, the reason being empty unless the kind is "ignore".

    wanted: what the user says, name → kind, or the list of an ordinal's words in their order, which is kept as it is.
    InputError for a name that is no column, and for numbers that are written as text.
    """
    unknown = [name for name in wanted if name not in seen]
    if unknown:
        raise InputError(f"prepare.columns.{unknown[0]} is no column. There are: {', '.join(seen)[:300]}")
    described = {}
    for name, facts in seen.items():
        kind = wanted.get(name)
        if kind == "ignore":
            described[name] = ("ignore", "prepare.columns says so")
        elif kind is not None:
            described[name] = ("ordinal" if isinstance(kind, list) else kind, "")
        else:
            described[name] = _infer(facts)
    return described


def _infer(facts: Facts) -> tuple[str, str]:
    if not facts.kind:
        raise InputError(
            f"column '{facts.name}' is missing in every row: delete it, or set prepare.columns.{facts.name}: ignore"
        )
    if facts.kind == "nested":
        return "ignore", "its values are lists or records"
    if facts.kind == "words":
        return _infer_words(facts)
    if facts.low == facts.high:
        return "ignore", "one value only"
    if facts.whole is not None and facts.rows >= 20:
        values = np.concatenate(facts.whole)
        if len(np.unique(values)) == len(values):
            return "ignore", "an id"
    return {"boolean": "boolean", "number": "numeric", "date": "datetime"}[facts.kind], ""


def _infer_words(facts: Facts) -> tuple[str, str]:
    distinct = pd.Index(facts.words)
    if len(distinct) == 1:
        return "ignore", "one value only"
    if any(set(distinct.str.lower()) == set(pair) for pair in SPELLINGS):
        return "boolean", ""
    plain = np.array([bool(re.fullmatch(NUMBER, word)) for word in distinct])
    blank = distinct.str.lower().isin(BLANKS)
    if plain.any() and (plain | blank).all():
        return "numeric", ""
    _refuse_disguised_numbers(facts, distinct, plain)
    if facts.layouts:
        return "datetime", ""
    if facts.counted == len(distinct) and not facts.missing and facts.rows >= 20:
        return "ignore", "a different value in every row: an id, or free text"
    if len(distinct) > MANY and len(distinct) > facts.counted / 2:
        many = f"{len(distinct)}{'+' if len(distinct) >= WORDS else ''}"
        return "ignore", f"free text: {many} different values. prepare.columns.{facts.name}: text takes it in"
    return "categorical", ""


def _refuse_disguised_numbers(facts: Facts, distinct: pd.Index, plain: np.ndarray) -> None:
    """InputError for a column of numbers most of which have thousands separators, or one and the same unit."""
    if len(distinct) <= 20:
        return
    found = [re.fullmatch(WITH_UNIT, word) for word in distinct]
    units = {match.groups()[-1] for match in found if match} - {None}
    all_numbers = sum(match is not None for match in found) >= 0.9 * len(distinct) and len(units) <= 1
    if all_numbers and plain.sum() < len(distinct) / 2:
        example = min(
            (word for word, is_plain in zip(distinct, plain, strict=True) if not is_plain),
            key=lambda word: facts.words[word],
        )
        raise InputError(
            f"column '{facts.name}', row {facts.words[example] + 1}: '{example}' is a number written as text. Write "
            f"plain numbers, or set prepare.columns.{facts.name} to categorical or ignore"
        )


def _are_ids(name: str, values: np.ndarray) -> bool:
    """Different whole numbers, in a column that is called an id or that is the row's own number."""
    if not ID_NAMES.fullmatch(name) or not np.isfinite(values).all() or (values != np.floor(values)).any():
        return False
    return len(np.unique(values)) == len(values)


def is_text(column: pd.Series) -> bool:
    """Whether the values are words: pandas' own string type, categories of it, or objects that all are."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return is_text(column.cat.categories.to_series())
    if isinstance(column.dtype, pd.StringDtype):
        return True
    return bool(column.dtype == object and column.dropna().map(lambda value: isinstance(value, str)).all())


def date_formats(known: pd.Series) -> list[str]:
    """The strptime formats that all words of a column have, day before month or after; none when they are no dates."""
    from pandas.tseries.api import guess_datetime_format

    first = str(known.iloc[0])
    if not re.search(r"\d", first) or len(first) < 6:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a format contradicts dayfirst, which is only a hint here
        guesses = dict.fromkeys(guess_datetime_format(first, dayfirst=day_first) for day_first in (False, True))
    return [
        guess for guess in guesses if guess and not pd.to_datetime(known, format=guess, errors="coerce").isna().any()
    ]


def joined(parts: list[Any]) -> Any:
    """The pieces of a column as one: Series, words still as categories, or arrays."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        codes = pd.api.types.union_categoricals([part.array for part in parts])
        index = pd.RangeIndex(sum(map(len, parts)))
        return pd.Series(codes, index, name=parts[0].name)
    return pd.concat(parts)
