"""What a search is to make small or large: metrics of the validation split, and what a model costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from src.errors import InputError
from src.metrics import METRICS, Goal, of_task
from src.mistakes import nearest
from src.params import Params

if TYPE_CHECKING:
    from torch import Tensor, nn

PASSES = 30  # of which the latency is the median
WILCOXON_SEEDS = 5  # with fewer no difference is significant, at Optuna's threshold of 0.1, before the last one


class Objective(NamedTuple):
    """`label`: what it is called where it is shown."""

    name: str
    goal: Goal

    @property
    def label(self) -> str:
        return self.name if self.name in COSTS else f"val {self.name}"


def of(params: Params) -> list[Objective]:
    """Those of tune.objectives, or train.monitor alone; the first one decides where there is one winner."""
    names = params.tune.objectives or [params.train.monitor]
    return [Objective(name, "minimise" if name in COSTS else METRICS[name].goal) for name in names]


def step(params: Params) -> str:
    """After what the pruner judges a trial: an "epoch", of all its seeds, or a "seed", which are then trained one after
    the other."""
    return "seed" if params.tune.pruner == "wilcoxon" else "epoch"


def abreast(params: Params) -> int:
    """Trainings of a trial that are made at once."""
    return 1 if step(params) == "seed" else params.tune.seeds


def check(params: Params) -> None:
    """InputError for objectives that the task does not have, or that sampler and pruner cannot take. The task has to be
    known."""
    names, allowed = params.tune.objectives, [*of_task(params.task), *COSTS]
    for name in names:
        if name not in allowed:
            meant = nearest(name, allowed) or "."
            raise InputError(f"tune.objectives: task {params.task} has no {name}{meant} Use {', '.join(allowed)}")
    if names and (names[0] in COSTS or len(set(names)) < len(names)):
        raise InputError("tune.objectives: begin with a metric, and name each once")
    if len(names) > 1 and params.tune.pruner != "none":
        raise InputError(
            f"tune.pruner = '{params.tune.pruner}' goes by one number, and tune.objectives has {len(names)}: "
            "set it to none"
        )
    if len(names) > 1 and params.tune.sampler == "cmaes":
        raise InputError(f"tune.sampler = 'cmaes' goes by one number, and tune.objectives has {len(names)}: use tpe")
    if step(params) == "seed" and params.tune.seeds < WILCOXON_SEEDS:
        raise InputError(
            f"tune.pruner = 'wilcoxon' compares seeds, and needs tune.seeds of {WILCOXON_SEEDS} at least, not "
            f"{params.tune.seeds}: set that, or use median"
        )


def parameters(network: nn.Module, one: Tensor) -> float:
    """Weights that are trained."""
    return sum(weight.numel() for weight in network.parameters())


def latency(network: nn.Module, one: Tensor) -> float:
    """Milliseconds of a prediction for one sample, the median of PASSES."""
    import torch

    taken = []
    with torch.inference_mode():
        for _ in range(PASSES):
            start = time.perf_counter()
            network.eval()(one).cpu()  # which waits for a GPU
            taken.append(time.perf_counter() - start)
    return 1000 * median(taken)


# of a network and an input [1, *shape], both on the device of training; less is better
COSTS: dict[str, Callable[[nn.Module, Tensor], float]] = {"parameters": parameters, "latency": latency}
