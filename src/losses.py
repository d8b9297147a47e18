"""Losses: what training makes small. Each is the mean over the samples of a batch.

torch is imported inside the builders, so that params can be checked against LOSSES before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from src.errors import InputError

if TYPE_CHECKING:
    from torch import nn

DEFAULT_LOSS = {
    "classification": "cross_entropy",
    "binary": "bce_with_logits",
    "regression": "mse",
    "robust_regression": "l1",
}


class Loss(NamedTuple):
    """`build()` gives a module that maps (outputs, targets) to a scalar tensor, for the tasks named; as those of torch
    it has `reduction`, "mean", and gives the loss of each sample where that is "none"."""

    build: Callable[[], nn.Module]
    tasks: tuple[str, ...]


def build(name: str, settings: Any = None, target: Any = None) -> nn.Module:
    """The loss `name`; with class weights the mean over samples of weight x loss.

    Not the weighted mean, which would depend on which classes a batch happens to hold.
    settings: class_weights and pos_weight as in the params section train; target: what the schema says of it.
    InputError for a weight of a class that it does not have.
    """
    weights = None
    if target is not None and target.classes:
        positive = {str(target.classes[-1]): settings.pos_weight}
        weights = weights_of(positive if settings.pos_weight else settings.class_weights, target.classes, target.counts)
    import torch
    from torch import Tensor, nn

    loss = LOSSES[name].build()
    if weights is None:
        return loss
    loss.reduction = "none"  # type: ignore[assignment]

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss, self.reduction = loss, "mean"
            self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            each = loss(outputs, targets) * self.get_buffer("weights")[targets.long()]
            return each.mean() if self.reduction == "mean" else each

    return Weighted()


def weights_of(
    wanted: str | dict[str, float], classes: list[str | int] | None, counts: list[int] | None
) -> list[float] | None:
    """What a sample of each class counts for; None where all count the same.

    counts: training rows of each class. "balanced" is rows / (classes x rows of the class); a class that `wanted` does
    not name counts 1.
    """
    if wanted == "none" or classes is None or counts is None:
        return None
    if isinstance(wanted, str):
        return [sum(counts) / (len(counts) * count) for count in counts]
    names = [str(name) for name in classes]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise InputError(f"train.class_weights.{unknown[0]} is no class. There are: {', '.join(names)[:300]}")
    return [wanted.get(name, 1.0) for name in names]


def cross_entropy() -> nn.Module:
    """Outputs: logits [N, classes]; targets: class numbers [N] int64."""
    from torch.nn import CrossEntropyLoss

    return CrossEntropyLoss()


def smoothed_cross_entropy() -> nn.Module:
    """Cross-entropy against targets mixed with 10% of uniform (Szegedy et al. 2016)."""
    from torch.nn import CrossEntropyLoss

    return CrossEntropyLoss(label_smoothing=0.1)


def bce_with_logits() -> nn.Module:
    """Outputs: logits [N]; targets: 0.0 or 1.0 [N]."""
    from torch.nn import BCEWithLogitsLoss

    return BCEWithLogitsLoss()


def mse() -> nn.Module:
    """Outputs and targets: numbers [N]."""
    from torch.nn import MSELoss

    return MSELoss()


def l1() -> nn.Module:
    """Mean absolute error: an outlier pulls no harder than any other row."""
    from torch.nn import L1Loss

    return L1Loss()


def huber() -> nn.Module:
    """Squared up to one (a standard deviation, where the target is standardised), linear beyond (Huber 1964)."""
    from torch.nn import HuberLoss

    return HuberLoss()


REGRESSIONS = ("regression", "robust_regression")

LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, ("classification",)),
    "smoothed_cross_entropy": Loss(smoothed_cross_entropy, ("classification",)),
    "bce_with_logits": Loss(bce_with_logits, ("binary",)),
    "mse": Loss(mse, REGRESSIONS),
    "l1": Loss(l1, REGRESSIONS),
    "huber": Loss(huber, REGRESSIONS),
}
