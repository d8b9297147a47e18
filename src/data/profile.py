"""What prepared data looks like, column by column and split by split, and what of it should make one wonder.

It reads the prepared files alone, up to SAMPLE rows of each split, evenly spread.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src import paths
from src.data import prepared
from src.data.schema import (
    Boolean,
    Categorical,
    Column,
    Datetime,
    Numeric,
    Ordinal,
    Pixels,
    Scaled,
    Schema,
    SplitName,
    Text,
)

SAMPLE = 20_000  # rows of a split that are looked at
RUNS = 50  # pieces that they are read in
BINS = 20
DRIFT = 0.1  # distance between two distributions that is told, unless so few rows can be that far apart by chance
PERFECT = 0.98  # share of what there is to explain that one column alone explains
NAMED = 20  # categories with a bar of their own


class Sample(NamedTuple):
    """inputs: [n, ...], as in the prepared file; targets: [n], class numbers or numbers in the target's own unit."""

    inputs: np.ndarray
    targets: np.ndarray


class Profile(NamedTuple):
    """A column, or the target. missing: share of the training rows; summary: range or most frequent categories;
    labels: of the bars; shares: of the rows of each split under each bar; drift: the largest distance of val and test
    from train, 0 to 1; alone: how much of the target it explains on val by itself, at most 1 (NaN for the target)."""

    name: str
    kind: str
    missing: float
    summary: str
    labels: list[str]
    shares: dict[SplitName, list[float]]
    drift: float
    alone: float


def sample(name: SplitName, schema: Schema, folder: Path = paths.PREPARED) -> Sample:
    from safetensors import safe_open

    with safe_open(prepared.path_of(folder, name), "numpy") as file:
        rows, length = schema.rows[name], SAMPLE // RUNS
        runs = [slice(None)]
        if rows > SAMPLE:
            runs = [slice(start, start + length) for start in np.linspace(0, rows - length, RUNS).astype(int)]
        inputs, targets = (np.concatenate([file.get_slice(key)[run] for run in runs]) for key in ("inputs", "targets"))
    target = schema.target
    return Sample(inputs, target.decoded(targets) if target.classes is None else targets.astype(np.int64))


def profiles(schema: Schema, samples: dict[SplitName, Sample]) -> Iterator[Profile]:
    """The target first, then each column in the order of the schema; free text and pixels have no distribution."""
    classes = schema.target.classes
    targets = {name: own.targets for name, own in samples.items()}
    yield _profile(schema.target.name, "target", targets, None if classes is None else [str(name) for name in classes])
    start = 0
    for column in schema.columns:
        if isinstance(column, Pixels):
            return
        part = slice(start, start + column.width)
        start += column.width
        if not isinstance(column, Text):
            values = {name: values_of(column, own.inputs[:, part]) for name, own in samples.items()}
            words = _words(column)
            alone = _explained(values, targets, words is not None, classes is not None)
            found = _profile(column.name, column.kind, values, words, alone)
            exact = f"{column.low:.4g} to {column.high:.4g}" if isinstance(column, Numeric) else found.summary
            yield found._replace(summary=exact)


def values_of(column: Scaled | Datetime | Categorical, inputs: np.ndarray) -> np.ndarray:
    """Encoded inputs [n, width] of a column as what they were: numbers, days since 1970, or the places of categories
    (the one after the last: all others); NaN for missing. float64 [n]."""
    if isinstance(column, Categorical):
        words = len(column.categories) + column.other
        known = inputs[:, :words].any(axis=1)
        return np.where(known, inputs[:, :words].argmax(axis=1), np.nan)
    mean, std = (column.mean[0], column.std[0]) if isinstance(column, Datetime) else (column.mean, column.std)
    values = inputs[:, 0].astype(np.float64) * std + mean
    values = np.rint(values) if isinstance(column, Boolean | Ordinal) else values
    return np.where(inputs[:, -1] == 1, np.nan, values) if column.indicator else values


def warnings(schema: Schema, found: list[Profile]) -> list[str]:
    """What should make one wonder, a line each."""
    lines = list(schema.notes)
    rows = schema.rows
    for profile in found:
        noise = (1 / min(rows["train"], SAMPLE) + 1 / min(rows["val"], rows["test"], SAMPLE)) ** 0.5
        noise *= 1.95 if profile.kind not in ("categorical", "target") else 1 + 0.4 * len(profile.labels) ** 0.5
        if profile.drift > max(DRIFT, noise):
            lines.append(
                f"'{profile.name}' is distributed otherwise in val or test than in train (distance {profile.drift:.2f} "
                "of 1): a metric on them is about other rows than were learned from"
            )
        if profile.alone > PERFECT:
            lines.append(
                f"'{profile.name}' alone predicts the target almost perfectly ({profile.alone:.1%} of what there is to "
                "explain on val): is it known before the target is? If not: prepare.columns: "
                f"{{{profile.name}: ignore}}"
            )
    counts = schema.target.counts
    if counts and min(counts) < 0.05 * sum(counts):
        rare = str((schema.target.classes or [])[counts.index(min(counts))])
        lines.append(
            f"class '{rare}' has {min(counts)} of {sum(counts)} training rows: see train.class_weights, train.sampler"
        )
    return lines


def _profile(
    name: str, kind: str, values: dict[SplitName, np.ndarray], words: list[str] | None, alone: float = np.nan
) -> Profile:
    train = values["train"]
    missing = float(np.isnan(train).mean()) if train.dtype.kind == "f" else 0.0
    known = {split: own[~np.isnan(own)] if own.dtype.kind == "f" else own for split, own in values.items()}
    if words is None:
        low, high = (float(known["train"].min()), float(known["train"].max())) if len(known["train"]) else (0.0, 0.0)
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        labels = [_number(kind, edge) for edge in edges[:-1]]
        counts = {split: np.histogram(own.clip(low, high), edges)[0] for split, own in known.items()}
        summary = f"{_number(kind, low)} to {_number(kind, high)}"
        drift = max((_distance(known["train"], known[split]) for split in ("val", "test")), default=0.0)
    else:
        counts = {split: np.bincount(own.astype(int), minlength=len(words)) for split, own in known.items()}
        ordered = kind == "ordinal" or (kind == "target" and len(words) <= NAMED)
        order = np.arange(len(words)) if ordered else np.argsort(-counts["train"], kind="stable")
        shares = {split: own / max(own.sum(), 1) for split, own in counts.items()}
        drift = max(float(np.abs(shares["train"] - shares[split]).sum() / 2) for split in ("val", "test"))
        labels = [words[place] for place in order[:NAMED]]
        counts = {split: own[order][:NAMED] for split, own in counts.items()}
        frequent = np.argsort(-shares["train"], kind="stable")[:5]
        summary = ", ".join(f"{words[place]} {shares['train'][place]:.0%}" for place in frequent)
    totals = {split: max(len(own), 1) for split, own in known.items()}
    shares = {split: (own / totals[split]).tolist() for split, own in counts.items()}
    return Profile(name, kind, missing, summary, labels, shares, drift, alone)


def _words(column: Column) -> list[str] | None:
    """The names of a column's categories; None for numbers."""
    if isinstance(column, Categorical):
        return [*column.categories, *["(others)"] * column.other]
    if isinstance(column, Ordinal):
        return column.order
    return ["no", "yes"] if isinstance(column, Boolean) else None


def _number(kind: str, value: float) -> str:
    return str(np.datetime64(0, "D") + int(value)) if kind == "datetime" else f"{value:.4g}"


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance of two samples."""
    if not len(one) or not len(other):
        return 0.0
    one, other = np.sort(one), np.sort(other)
    both = np.concatenate([one, other])
    below = [np.searchsorted(own, both, side="right") / len(own) for own in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def _explained(
    values: dict[SplitName, np.ndarray], targets: dict[SplitName, np.ndarray], words: bool, classes: bool
) -> float:
    """How much better than a constant one column predicts the target of val: what most training rows of a bin of it
    have, or their mean. 1 is perfect, 0 no better."""
    train = values["train"]
    known = train[~np.isnan(train)]
    if not len(known):
        return 0.0
    edges = np.unique(known if words else np.quantile(known, np.linspace(0, 1, min(len(known) // 5, 400) + 2)[1:-1]))
    places = {
        split: np.where(np.isnan(own), len(edges) + 1, np.searchsorted(edges, own, side="right"))
        for split, own in values.items()
    }
    wanted, actual, size = targets["train"], targets["val"], len(edges) + 2
    if classes:
        count = int(max(wanted.max(), actual.max())) + 1
        table = np.bincount(places["train"] * count + wanted, minlength=size * count).reshape(size, count)
        usual = table.sum(0).argmax()
        wrong, errors = (actual != usual).sum(), (actual != table.argmax(1)[places["val"]]).sum()
    else:
        sums = np.bincount(places["train"], wanted, size)
        means = np.where(
            counts := np.bincount(places["train"], minlength=size), sums / np.maximum(counts, 1), wanted.mean()
        )
        wrong = ((actual - wanted.mean()) ** 2).sum()
        errors = ((actual - means[places["val"]]) ** 2).sum()
    return float(1 - errors / wrong) if wrong else 0.0
