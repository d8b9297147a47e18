"""Metrics: (outputs, targets) of a whole split → one number, computed where the tensors lie.

outputs: logits [N, classes] for classification, logits [N] for binary, numbers [N] for the regressions.
targets: class numbers [N], 0.0 or 1.0 [N], numbers [N].
Only tensor methods are used, so that params can be checked against METRICS before torch is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Goal = Literal["minimise", "maximise"]


class Metric(NamedTuple):
    """`function` is None for the loss, which training itself computes."""

    function: Callable[[Tensor, Tensor], Tensor] | None
    goal: Goal
    tasks: tuple[str, ...]


def better(name: str, value: float, best: float | None) -> bool:
    """Whether `value` beats `best` by the metric's own goal: the one place where best is decided. NaN never does."""
    return value == value and (best is None or (value < best if METRICS[name].goal == "minimise" else value > best))


def of_task(task: str) -> list[str]:
    return [name for name, metric in METRICS.items() if task in metric.tasks]


def measure(
    task: str, outputs: Tensor, targets: Tensor, in_unit: Callable[[Tensor], Tensor] | None = None
) -> dict[str, float]:
    """Every metric of `task` but the loss.

    `in_unit` turns outputs and targets of a regression, as the model learns them, into the target's own unit.
    A metric that the targets leave undefined (the ROC AUC of one class) is NaN.
    """
    if outputs.device.type == "mps":  # it has no float64
        outputs, targets = outputs.cpu(), targets.cpu()
    if task not in PROBABILISTIC:
        outputs, targets = (in_unit(values) if in_unit else values.double() for values in (outputs, targets))
    return {
        name: float(function(outputs, targets))
        for name, (function, _, tasks) in METRICS.items()
        if function is not None and task in tasks
    }


def predicted(outputs: Tensor) -> Tensor:
    """Class numbers [N] from logits [N, classes] or [N]."""
    return outputs.argmax(1) if outputs.ndim == 2 else (outputs > 0).long()


def decisions(outputs: Tensor, threshold: float) -> Tensor:
    """Logits [N] of a binary task moved so that those above 0 are the positives, float64."""
    return outputs.double() - math.log(threshold / (1 - threshold))


def confusion(outputs: Tensor, targets: Tensor) -> Tensor:
    """Counts [actual, predicted], int64."""
    classes = outputs.shape[1] if outputs.ndim == 2 else 2
    cells = targets.long() * classes + predicted(outputs)
    return cells.bincount(minlength=classes * classes).view(classes, classes)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (predicted(outputs) == targets).double().mean()


def macro_f1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over classes of F1; a class that neither occurs nor is predicted is left out, as scikit-learn does."""
    counts = confusion(outputs, targets).double()
    actual_and_predicted = counts.sum(0) + counts.sum(1)
    seen = actual_and_predicted > 0
    return (2 * counts.diagonal()[seen] / actual_and_predicted[seen]).mean()


def roc_auc(outputs: Tensor, targets: Tensor) -> Tensor:
    """Probability that a positive scores above a negative, ties half: the Mann-Whitney U over its maximum."""
    _, groups, sizes = outputs.unique(return_inverse=True, return_counts=True)
    ranks = sizes.cumsum(0).double() - (sizes.double() - 1) / 2  # the mean rank within a group of ties
    positives = targets.double().sum()
    negatives = len(targets) - positives
    rank_sum = (ranks[groups] * targets.double()).sum()
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over thresholds of precision x gain in recall, ties taken together, as in scikit-learn."""
    _, groups, sizes = (-outputs).unique(return_inverse=True, return_counts=True)
    hits = sizes.double().zero_().scatter_add_(0, groups, targets.double())
    precision = hits.cumsum(0) / sizes.cumsum(0)
    return (precision * hits).sum() / hits.sum()


def f1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of the positive class; 0 where there is neither a positive nor a prediction of one, as in scikit-learn."""
    counts = confusion(outputs, targets).double()
    return 2 * counts[1, 1] / (counts[1].sum() + counts[:, 1].sum()).clamp(min=1)


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes that occur of the share that was found."""
    counts = confusion(outputs, targets).double()
    seen = counts.sum(1) > 0
    return (counts.diagonal()[seen] / counts.sum(1)[seen]).mean()


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


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean().sqrt()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean()


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of the variance explained; 0 is what the mean would reach. NaN where the targets are all the same."""
    variation = (targets - targets.mean()).square().sum()
    return 1 - (outputs - targets).square().sum() / variation.masked_fill(variation == 0, float("nan"))


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
