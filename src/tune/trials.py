"""Trials on their way: what their trainings have given so far, and which are trained together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import optuna

from src.journal import Record
from src.params import Params
from src.tracking.sweep import Trial
from src.tune import objectives

DEATHS = 3  # of its worker, after which a trial is given up

# what lanes of one program may have each of their own; trials that differ in anything else are other programs
OF_A_LANE = {
    "model.dropout",
    "train.lr",
    "train.optimizer",
    "train.momentum",
    "train.betas",
    "train.weight_decay",
    "train.schedule",
    "train.warmup_epochs",
    "train.step_epochs",
    "train.step_factor",
    "train.clip_norm",
    "train.patience",
}


@dataclass
class Training:
    """One training of a trial, which has as many as there are seeds."""

    records: list[Record] = field(default_factory=list)  # an epoch each
    best_epoch: int = 0  # 0: none had a monitor that is a number
    is_over: bool = False
    costs: dict[str, float] = field(default_factory=dict)

    def hear(self, told: dict[str, Any]) -> None:
        self.records.append(told["record"])
        self.best_epoch, self.is_over, self.costs = told["best_epoch"], told["over"], told["costs"]

    def at(self, epoch: int, name: str) -> float:
        """A metric of validation after an epoch, or where training had ended before, after its last."""
        return self.records[min(epoch, len(self.records)) - 1][f"val/{name}"]

    def value(self, name: str) -> float:
        """What is sought: a metric in its best epoch, or a cost."""
        return self.costs[name] if name in objectives.COSTS else self.at(self.best_epoch, name)


@dataclass
class Running:
    """A trial that is trained, or waits for a worker."""

    asked: optuna.Trial
    values: dict[str, Any]
    trainings: list[Training]
    started: float = 0.0
    deaths: int = 0
    reported: int = 0  # the last epoch, or seed, that the study knows

    @property
    def epochs(self) -> int:
        """How far it is: epochs of a training, in the mean."""
        return sum(len(training.records) for training in self.trainings) // len(self.trainings)

    def begin_again(self) -> None:
        """Its worker has died: what it gave is made again."""
        self.trainings, self.deaths = [Training() for _ in self.trainings], self.deaths + 1

    def news(self, name: str, step: str) -> list[tuple[int, float]]:
        """(step, value) that the study does not know yet. The value of an epoch is the mean of the trainings that have
        begun; that of a seed is what its training came to."""
        if step == "seed":
            over = [training.value(name) for training in self.trainings if training.is_over and training.best_epoch]
            return list(enumerate(over, 1))[self.reported :]
        last = max(len(training.records) for training in self.trainings)
        steps = range(self.reported + 1, last + 1)
        return [(step, fmean(own.at(step, name) for own in self.trainings if own.records)) for step in steps]

    def results(self, names: list[str]) -> dict[str, list[float]] | None:
        """Of each objective the value of each training; None where one of them is no finite number."""
        if not all(training.best_epoch for training in self.trainings):
            return None
        found = {name: [training.value(name) for training in self.trainings] for name in names}
        return found if all(math.isfinite(value) for values in found.values() for value in values) else None

    def told(self, state: str, names: list[str], error: str | None) -> Trial:
        """What MLflow keeps of it: what is sought, and the other metrics of its best epoch; where it did not complete,
        what the trainings that it had came to."""
        had = [training for training in self.trainings if training.best_epoch]
        known = [key.removeprefix("val/") for key in had[0].records[0] if key.startswith("val/")] if had else []
        metrics = {}
        for name in dict.fromkeys([*names, *known]):
            values = [training.value(name) for training in had if training.is_over or name not in objectives.COSTS]
            if not values or not all(map(math.isfinite, values)):
                continue
            metrics[key_of(name)] = fmean(values)
            if len(values) > 1:
                metrics[f"{key_of(name)}_standard_error"] = standard_error(values)
        best = metrics.get(key_of(names[0]))
        return Trial(self.asked.number, self.values, state, self.started, self._records(), metrics, best, error)

    def _records(self) -> list[Record]:
        """An epoch each, the means of the trainings that have it."""
        if len(self.trainings) == 1:
            return self.trainings[0].records
        rows = range(max(len(training.records) for training in self.trainings))
        return [mean([own.records[row] for own in self.trainings if len(own.records) > row]) for row in rows]


def key_of(name: str) -> str:
    """What MLflow calls a metric of the best epoch, or a cost."""
    return name if name in objectives.COSTS else f"best_val/{name}"


def standard_error(values: list[float]) -> float:
    """Of the mean of two values or more."""
    return stdev(values) / len(values) ** 0.5


def mean(records: list[Record]) -> Record:
    return {key: fmean(record[key] for record in records) for key in records[0]} | {"epoch": records[0]["epoch"]}


@dataclass(eq=False)
class Job:
    """Trials that a worker trains together: those that it still has, and what became of the others. They count once
    all have ended, so that which are chosen next does not depend on when a search was killed."""

    trials: dict[int, Running]  # by number
    ended: list[Trial] = field(default_factory=list)
    asked: list[optuna.Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = self.asked or [trial.asked for trial in self.trials.values()]

    def rounds(self, params: Params) -> list[list[dict[str, Any]]]:
        """What the worker is handed: trainings that may be made at once, then the next of them. A training is known by
        a number of its own, number of the trial times seeds, and its place among them."""
        seeds, once = params.tune.seeds, objectives.abreast(params)
        return [
            [
                {"number": number * seeds + place, "values": {**trial.values, "seed": (params.seed + place) % 2**32}}
                for number, trial in self.trials.items()
                for place in range(first, first + once)
            ]
            for first in range(0, seeds, once)
        ]
