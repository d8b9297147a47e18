"""Losses: what training makes small. Each is the mean over the samples of a batch.

torch is imported inside the builders, so that params can be checked against LOSSES before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn

DEFAULT_LOSS = {
    "classification": "cross_entropy",
    "binary": "bce_with_logits",
    "regression": "mse",
    "robust_regression": "l1",
}


class Loss(NamedTuple):
    """`build()` gives a module that maps (outputs, targets) to a scalar tensor, for the tasks named."""

    build: Callable[[], nn.Module]
    tasks: tuple[str, ...]


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
