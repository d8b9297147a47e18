"""Metrics: what networks gave on a whole split → one number each, computed where the tensors lie.

outputs: logits [N, classes] for classification, logits [N] for binary, numbers [N] for the regressions; in an Outcome,
where K networks are measured with the operations of one, a first dimension K comes before.
targets: class numbers [N], 0.0 or 1.0 [N], numbers [N].
torch is imported inside the functions, so that params can be checked against METRICS before it is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Goal = Literal["minimise", "maximise"]


class Outcome:
    """What K networks gave on the same samples: outputs [K, N, classes] or [K, N], targets [N]."""

    def __init__(self, outputs: Tensor, targets: Tensor) -> None:
        self.outputs, self.targets = outputs, targets

    @cached_property
    def counts(self) -> Tensor:
        """How often each class was taken for each, [K, actual, predicted], float64."""
        from torch import arange

        networks, classes = len(self.outputs), self.outputs.shape[2] if self.outputs.ndim == 3 else 2
        chosen = _predicted(self.outputs)
        network = arange(networks, device=chosen.device).unsqueeze(1)
        cells = (network * classes + self.targets.long()) * classes + chosen
        return cells.flatten().bincount(minlength=networks * classes**2).view(networks, classes, classes).double()

    @property
    def hits(self) -> Tensor:
        """Samples of each class that were taken for it, [K, classes]."""
        return self.counts.diagonal(dim1=1, dim2=2)


class Metric(NamedTuple):
    """`function` gives a number for each network, float64 [K]; None for the loss, which training itself computes."""

    function: Callable[[Outcome], Tensor] | None
    goal: Goal
    tasks: tuple[str, ...]


IDEALS = {"maximise": 1.0, "minimise": 0.0}  # by goal: no model is better


def better(name: str, value: float, best: float | None) -> bool:
    """Whether `value` beats `best` by the metric's own goal: the one place where best is decided. NaN never does."""
    return value == value and (best is None or (value < best if METRICS[name].goal == "minimise" else value > best))


def of_task(task: str) -> list[str]:
    return [name for name, metric in METRICS.items() if task in metric.tasks]


def measure(
    task: str, outputs: Tensor, targets: Tensor, in_unit: Callable[[Tensor], Tensor] | None = None
) -> dict[str, float]:
    """Every metric of `task` but the loss, as `measure_each` of one network."""
    return measure_each(task, outputs.unsqueeze(0), targets, in_unit)[0]


def measure_each(
    task: str, outputs: Tensor, targets: Tensor, in_unit: Callable[[Tensor], Tensor] | None = None
) -> list[dict[str, float]]:
    """Every metric of `task` but the loss, for each of K networks: outputs [K, N, classes] or [K, N].

    `in_unit` turns outputs and targets of a regression, as the model learns them, into the target's own unit.
    A metric that the targets leave undefined (the ROC AUC of one class) is NaN.
    """
    if outputs.device.type == "mps":  # it has no float64
        outputs, targets = outputs.cpu(), targets.cpu()
    if task not in PROBABILISTIC:
        outputs, targets = (in_unit(values) if in_unit else values.double() for values in (outputs, targets))
    outcome = Outcome(outputs, targets)
    found = {
        name: function(outcome).tolist()
        for name, (function, _, tasks) in METRICS.items()
        if function is not None and task in tasks
    }
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def predicted(outputs: Tensor) -> Tensor:
    """Class numbers [N] from logits [N, classes] or [N]."""
    return _predicted(outputs.unsqueeze(0))[0]


def _predicted(outputs: Tensor) -> Tensor:
    """The same [K, N] of K networks, from [K, N, classes] or [K, N]."""
    return outputs.argmax(2) if outputs.ndim == 3 else (outputs > 0).long()


def decisions(outputs: Tensor, threshold: float) -> Tensor:
    """Logits [N] of a binary task moved so that those above 0 are the positives, float64."""
    return outputs.double() - math.log(threshold / (1 - threshold))


def confusion(outputs: Tensor, targets: Tensor) -> Tensor:
    """Counts [actual, predicted] of one network, int64."""
    return Outcome(outputs.unsqueeze(0), targets).counts[0].long()


def accuracy(outcome: Outcome) -> Tensor:
    return outcome.hits.sum(1) / outcome.counts.sum((1, 2))


def macro_f1(outcome: Outcome) -> Tensor:
    """Mean over classes of F1; a class that neither occurs nor is predicted is left out, as scikit-learn does."""
    actual_and_predicted = outcome.counts.sum(1) + outcome.counts.sum(2)
    return (2 * outcome.hits / actual_and_predicted.clamp(min=1)).sum(1) / (actual_and_predicted > 0).sum(1)


def f1(outcome: Outcome) -> Tensor:
    """Of the positive class; 0 where there is neither a positive nor a prediction of one, as in scikit-learn."""
    counts = outcome.counts
    return 2 * counts[:, 1, 1] / (counts[:, 1].sum(1) + counts[:, :, 1].sum(1)).clamp(min=1)


def balanced_accuracy(outcome: Outcome) -> Tensor:
    """Mean over the classes that occur of the share that was found."""
    actual = outcome.counts.sum(2)
    return (outcome.hits / actual.clamp(min=1)).sum(1) / (actual > 0).sum(1)


def one_by_one(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Outcome], Tensor]:
    """A metric from a function that takes the outputs [N] of one network, and the targets [N]."""

    @wraps(function)
    def each(outcome: Outcome) -> Tensor:
        from torch import stack

        return stack([function(outputs, outcome.targets) for outputs in outcome.outputs])

    return each


@one_by_one
def roc_auc(outputs: Tensor, targets: Tensor) -> Tensor:
    """Probability that a positive scores above a negative, ties half: the Mann-Whitney U over its maximum."""
    _, groups, sizes = outputs.unique(return_inverse=True, return_counts=True)
    ranks = sizes.cumsum(0).double() - (sizes.double() - 1) / 2  # the mean rank within a group of ties
    positives = targets.double().sum()
    negatives = len(targets) - positives
    rank_sum = (ranks[groups] * targets.double()).sum()
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


@one_by_one
def average_precision(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over thresholds of precision x gain in recall, ties taken together, as in scikit-learn."""
    _, groups, sizes = (-outputs).unique(return_inverse=True, return_counts=True)
    hits = sizes.double().zero_().scatter_add_(0, groups, targets.double())
    precision = hits.cumsum(0) / sizes.cumsum(0)
    return (precision * hits).sum() / hits.sum()


def best_threshold(name: str, outputs: Tensor, targets: Tensor) -> float:
    """The probability above which to predict a positive for the best accuracy, balanced accuracy or F1.

    Halfway between two neighbouring logits; of those that are equally good, the one nearest to 0.5.
    """
    scores, order = outputs.double().sort()
    wanted = targets.double()[order]
    distinct = (scores.diff() > 0).nonzero()[:, 0]  # a border after each of these places
    borders = (scores[distinct] + scores[distinct + 1]) / 2
    missed = wanted.cumsum(0)[distinct]
    rejected = distinct + 1 - missed
    positives, negatives = wanted.sum(), len(wanted) - wanted.sum()
    hits, alarms = positives - missed, negatives - rejected
    values = {
        "accuracy": (hits + rejected) / len(wanted),
        "balanced_accuracy": (hits / positives + rejected / negatives) / 2,
        "f1": 2 * hits / (hits + alarms + positives),
    }[name]
    usable = values.isfinite() & (borders.abs() < 30)  # beyond, a probability is 0 or 1 when it is written
    if not usable.any():  # one score, or one class: nothing to choose by
        return 0.5
    best = borders[usable & (values >= values[usable].max() - 1e-12)]
    return float(best[best.abs().argmin()].sigmoid())


def rmse(outcome: Outcome) -> Tensor:
    return (outcome.outputs - outcome.targets).square().mean(1).sqrt()


def mae(outcome: Outcome) -> Tensor:
    return (outcome.outputs - outcome.targets).abs().mean(1)


def r2(outcome: Outcome) -> Tensor:
    """Share of the variance explained; 0 is what the mean would reach. NaN where the targets are all the same."""
    variation = (outcome.targets - outcome.targets.mean()).square().sum()
    missed = (outcome.outputs - outcome.targets).square().sum(1)
    return 1 - missed / variation.masked_fill(variation == 0, float("nan"))


PROBABILISTIC = ("classification", "binary")
REGRESSIONS = ("regression", "robust_regression")

METRICS: dict[str, Metric] = {
    "loss": Metric(None, "minimise", PROBABILISTIC + REGRESSIONS),
    "accuracy": Metric(accuracy, "maximise", PROBABILISTIC),
    "macro_f1": Metric(macro_f1, "maximise", ("classification",)),
    "roc_auc": Metric(roc_auc, "maximise", ("binary",)),
    "f1": Metric(f1, "maximise", ("binary",)),
    "balanced_accuracy": Metric(balanced_accuracy, "maximise", ("binary",)),
    "average_precision": Metric(average_precision, "maximise", ("binary",)),
    "rmse": Metric(rmse, "minimise", REGRESSIONS),
    "mae": Metric(mae, "minimise", REGRESSIONS),
    "r2": Metric(r2, "maximise", REGRESSIONS),
}
