"""What is learned from the training rows, a block at a time: means, spreads, categories, what is missing."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from src.data import columns as kinds
from src.data import encoding
from src.data.columns import Facts
from src.data.schema import Boolean, Categorical, Column, Datetime, Numeric, Ordinal, Pixels, Text
from src.errors import InputError

MAX_CATEGORIES = 64  # of a column with an input of their own; the rest share one
MAX_COUNTED = 1_000_000  # distinct words that are counted at once
TEXT_WIDTH = 64

Kind = str | list[str]  # or an ordinal's words in their order


class Moments:
    """Count, mean and sum of squared deviations of known values, put together as in Chan, Golub and LeVeque 1979."""

    def __init__(self, values: np.ndarray) -> None:
        """values: float64 [rows], NaN for missing."""
        gaps = np.isnan(values)
        known = values[~gaps] if gaps.any() else values
        self.count, self.missing = len(known), len(values) - len(known)
        self.mean = float(known.mean()) if self.count else 0.0
        self.squares = float(np.square(known - self.mean).sum())
        self.low, self.high = (float(known.min()), float(known.max())) if self.count else (np.inf, -np.inf)

    def add(self, other: "Moments") -> None:
        count = self.count + other.count
        if other.count:
            apart = other.mean - self.mean
            self.squares += other.squares + apart**2 * self.count * other.count / count
            self.mean += apart * other.count / count
        self.count, self.missing = count, self.missing + other.missing
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def std(self) -> float:
        # a constant column carries nothing: dividing by 1 leaves it at 0. Rounding can give equal values a spread
        return (self.squares / self.count) ** 0.5 * (self.low < self.high) or 1.0 if self.count else 1.0

    def settings(self) -> dict[str, float | bool]:
        return {"mean": self.mean, "std": self.std, "indicator": self.missing > 0}

    def range(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high} if self.count else {"low": 0.0, "high": 0.0}


class Words:
    """How often each word occurs. Where there are too many, those that were seen least are forgotten, again and again:
    the frequent ones stay (lossy counting, Manku and Motwani 2002)."""

    def __init__(self, column: pd.Series, rows: np.ndarray) -> None:
        codes, distinct = kinds.codes_of(column)
        counts = np.bincount(codes[rows] + 1, minlength=len(distinct) + 1)  # a missing one has the code -1
        self.missing = int(counts[0])
        self.counts: Counter[str] = Counter()
        for word, count in zip(encoding.words(pd.Series(distinct)), counts[1:], strict=True):
            if count:  # not a category that none of these rows has
                self.counts[word] += int(count)

    def add(self, other: "Words") -> None:
        self.counts.update(other.counts)
        self.missing += other.missing
        least = 1
        while len(self.counts) > MAX_COUNTED:
            self.counts = Counter({word: count for word, count in self.counts.items() if count > least})
            least += 1

    def frequent(self) -> list[str]:
        # by count, then by name: ties would be in the order of the rows
        return sorted(self.counts, key=lambda word: (-self.counts[word], word))[:MAX_CATEGORIES]


class Values:
    """How often each of the 256 values of a pixel occurs: exact, and no copy in float64."""

    def __init__(self, block: pd.DataFrame) -> None:
        self.counts = np.bincount(block.to_numpy().ravel(), minlength=256)

    def add(self, other: "Values") -> None:
        self.counts += other.counts

    @property
    def mean(self) -> float:
        return float(np.arange(256) @ (self.counts / self.counts.sum()))

    @property
    def std(self) -> float:
        return float(np.sqrt((np.arange(256) - self.mean) ** 2 @ (self.counts / self.counts.sum()))) or 1.0


Seen = list[list[Any]]  # of one block: of each column the Moments of its numbers, or its Words; of pixels one for all


class Fitting:
    """Learns the encoding of every column from the training rows.

    names: the columns; wanted: the kind of each (a list: the words of an ordinal in their order), None where all are
    the pixels of images; facts: what describe() was given: it knows the format of dates.
    """

    def __init__(self, names: list[str], wanted: dict[str, Kind] | None, facts: dict[str, Facts]) -> None:
        self.names, self.wanted = names, wanted
        self.layouts = {name: _layout(facts[name]) for name, kind in (wanted or {}).items() if kind == "datetime"}

    def see(self, block: pd.DataFrame, rows: np.ndarray) -> Seen:
        """What the training rows of a block show; rows: their places in the block [training rows]."""
        if self.wanted is None:
            own = block[self.names].take(rows)
            return [[Values(own) if encoding.is_uint8(own) else Moments(own.to_numpy(np.float64).ravel())]]
        return [_see(block[name], kind, self.layouts.get(name), rows) for name, kind in self.wanted.items()]

    def columns(self, blocks: Iterable[Seen]) -> list[Column]:
        """The encoding, from what was seen of all blocks, in their order."""
        total: Seen = []
        for seen in blocks:
            if not total:
                total = seen
                continue
            for before, later in zip(total, seen, strict=True):
                for one, other in zip(before, later, strict=True):
                    one.add(other)
        if self.wanted is None:
            return [Pixels(names=self.names, mean=total[0][0].mean, std=total[0][0].std)]
        items = zip(self.wanted.items(), total, strict=True)
        return [_column(name, kind, seen, self.layouts) for (name, kind), seen in items]


def _see(column: pd.Series, kind: Kind, layout: str | None, rows: np.ndarray) -> list[Any]:
    if isinstance(kind, list):
        return [Moments(encoding.ordinals(column, kind)[rows])]
    if kind == "numeric":
        return [Moments(encoding.numbers(column)[rows])]
    if kind == "boolean":
        return [Moments(encoding.booleans(column)[rows])]
    if kind == "datetime":
        return [Moments(part) for part in encoding.dates(column, layout)[rows].T]
    return [] if kind == "text" else [Words(column, rows)]


def _column(name: str, kind: Kind, seen: list[Any], layouts: dict[str, str | None]) -> Column:
    if isinstance(kind, list):
        return Ordinal(name=name, order=kind, **seen[0].settings())
    if kind == "numeric":
        return Numeric(name=name, **seen[0].settings(), **seen[0].range())
    if kind == "boolean":
        return Boolean(name=name, **seen[0].settings())
    if kind == "datetime":
        means, spreads = [part.mean for part in seen], [part.std for part in seen]
        return Datetime(name=name, format=layouts[name], mean=means, std=spreads, indicator=seen[0].missing > 0)
    if kind == "text":
        return Text(name=name, width=TEXT_WIDTH)
    frequent = seen[0].frequent()
    more = len(seen[0].counts) > len(frequent)
    return Categorical(name=name, categories=sorted(frequent), other=more, indicator=seen[0].missing > 0)


def _layout(facts: Facts) -> str | None:
    """The format of a column of dates; None where they are dates already."""
    if facts.kind != "words":
        return None
    if not facts.layouts:
        first = min(facts.words, key=lambda word: facts.words[word])
        raise InputError(
            f"column '{facts.name}' holds no dates of one format, such as 2026-01-31: its first value is '{first}'. "
            f"Set prepare.columns.{facts.name} to categorical, text or ignore"
        )
    return facts.layouts[0]
