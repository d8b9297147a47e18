"""Optimizers (the update rule) and schedules (the learning rate over time).

Each builder gets `train`, the params section, and takes from it only what means something to it; `uses` says what.
torch is imported inside the builders, so that params can be checked against the names before torch is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Optimizer(Protocol):
    """What training asks of an optimizer. Every optimizer of torch has it; those here are in src/fused.py."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None: ...

    def step(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Rule(NamedTuple):
    """`build(parameters, train)` gives an optimizer; `uses` names the settings it takes, lr aside."""

    build: Callable[[Iterable[Tensor], Any], Optimizer]
    uses: tuple[str, ...]


class Schedule(NamedTuple):
    """`factor(progress, epoch, train)` in (0, 1]; the learning rate of a step is train.lr times it.

    progress: the step's place in the whole training, 0 to below 1. epoch: the same in epochs, a float from 0.
    A function of the step alone has no state to lose: a resumed training goes on at the same rate.
    """

    factor: Callable[[float, float, Any], float]
    uses: tuple[str, ...]


def sgd(parameters: Iterable[Tensor], train: Any) -> Optimizer:
    """Stochastic gradient descent with momentum (Polyak 1964); weight decay is an L2 penalty."""
    from src.fused import SGD

    return SGD(parameters, train.lr, train.momentum, train.weight_decay)


def adam(parameters: Iterable[Tensor], train: Any) -> Optimizer:
    """Adam (Kingma & Ba 2015). No weight decay: its step size would undo an L2 penalty; AdamW is for that."""
    from src.fused import Adam

    return Adam(parameters, train.lr, (train.betas[0], train.betas[1]))


def adamw(parameters: Iterable[Tensor], train: Any) -> Optimizer:
    """Adam with weight decay decoupled from the gradient (Loshchilov & Hutter 2019)."""
    from src.fused import AdamW

    return AdamW(parameters, train.lr, (train.betas[0], train.betas[1]), train.weight_decay)


def constant(progress: float, epoch: float, train: Any) -> float:
    return 1.0


def cosine(progress: float, epoch: float, train: Any) -> float:
    """Linear warm-up, then half a cosine down towards 0 (Loshchilov & Hutter 2017)."""
    warmup = train.warmup_epochs / train.epochs
    if progress < warmup:
        # the first step must not be wasted on a rate of 0
        return max(progress / warmup, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def one_cycle(progress: float, epoch: float, train: Any) -> float:
    """Up from 1/25 over the first 30%, then down to almost 0, both along a cosine (Smith & Topin 2018)."""
    low, peak, rise = 1 / 25, 1.0, 0.3
    start, end, part = (low, peak, progress / rise) if progress < rise else (peak, 0.0, (progress - rise) / (1 - rise))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))


def step(progress: float, epoch: float, train: Any) -> float:
    """Times step_factor after every step_epochs epochs."""
    return train.step_factor ** (int(epoch) // train.step_epochs)


def learning_rate(train: Any, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate as a function of the step, counted from 0 over the whole training."""
    factor = SCHEDULES[train.schedule].factor
    steps = steps_per_epoch * train.epochs
    return lambda number: train.lr * factor(number / steps, number / steps_per_epoch, train)


def unused(train: Any) -> list[str]:
    """Settings that are in params.yaml and mean nothing to the optimizer and schedule chosen."""
    chosen = (*OPTIMIZERS[train.optimizer].uses, *SCHEDULES[train.schedule].uses)
    entries: list[Rule | Schedule] = [*OPTIMIZERS.values(), *SCHEDULES.values()]
    known = dict.fromkeys(name for entry in entries for name in entry.uses)
    return [name for name in known if name not in chosen]


OPTIMIZERS: dict[str, Rule] = {
    "sgd": Rule(sgd, ("momentum", "weight_decay")),
    "adam": Rule(adam, ("betas",)),
    "adamw": Rule(adamw, ("betas", "weight_decay")),
}

SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(constant, ()),
    "cosine": Schedule(cosine, ("warmup_epochs",)),
    "one_cycle": Schedule(one_cycle, ()),
    "step": Schedule(step, ("step_epochs", "step_factor")),
}
