"""Rows to predict for that are not like anything that was learned from.

What cannot be encoded is refused by src/data/encoding.py; this names what can be, by what the schema says of the
training rows."""

from collections.abc import Iterator, Sequence

import pandas as pd

from src.data import encoding
from src.data.schema import Categorical, Column, Numeric


def unlike(frame: pd.DataFrame, columns: Sequence[Column]) -> list[str]:
    """One line for each column that has a number outside the range of the training rows, or a category that was not
    among them: the first such row, its value, and how many more there are."""
    return [line for column in columns for line in _unlike(frame, column)]


def _unlike(frame: pd.DataFrame, column: Column) -> Iterator[str]:
    if isinstance(column, Numeric):
        values = encoding.numbers(frame[column.name])
        outside = (values < column.low) | (values > column.high)
        what = f"outside {column.low:g} to {column.high:g}, the range of the training rows"
    elif isinstance(column, Categorical) and not column.other:
        outside = encoding.places(frame[column.name], column.categories, others=-1) == -1
        what = "not among the categories of the training rows"
    else:
        return
    if outside.any():
        others = int(outside.sum()) - 1
        more = f", and {others} more row{'s' * (others > 1)}" if others else ""
        yield f"{encoding.first(frame[column.name], outside)} is {what}{more}"
