"""The search: ask for values, have workers train with them, report each epoch, tell the result."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from src import params as all_params
from src.errors import InputError
from src.journal import Record
from src.params import Params
from src.tracking.sweep import Sweep, Trial
from src.tune import space, study
from src.tune.crew import Crew, Heard, Job
from src.tune.study import Tuning

# what lanes of one program may have each of their own; trials that differ in anything else are other programs
OF_A_LANE = {
    "seed",
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
DEATHS = 3  # of its worker, after which a trial is given up


def total(params: Params) -> int:
    """Trials in all: tune.trials, or as many as a grid has."""
    wanted = params.tune.trials
    return min(wanted, math.prod(map(len, space.grid(params).values()))) if params.tune.sampler == "grid" else wanted


def most_lanes(params: Params) -> int:
    """Trials that a worker may train at once: of those that learn from others, half of all are begun with nothing to
    learn from."""
    learns = params.tune.sampler in ("tpe", "gp", "cmaes")
    return max(total(params) // (params.tune.workers * (2 if learns else 1)), 1)


@dataclass
class Running:
    """A trial that is trained, or waits for a worker."""

    asked: optuna.Trial
    values: dict[str, Any]
    params: Params
    started: float = 0.0
    records: list[Record] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    deaths: int = 0


class Search:
    """A search while it runs. `total`: trials that shall have ended, over all calls on the study."""

    def __init__(self, tuning: Tuning, params: Params, crew: Crew, total: int, sweep: Sweep) -> None:
        self._tuning, self._params, self._crew, self._total, self._sweep = tuning, params, crew, total, sweep
        self._start = time.monotonic()
        self._ended = len(study.finished(tuning.study))
        self._waiting: list[Job] = []
        self.running: dict[int, Running] = {}

    def trials(self) -> Iterator[Trial]:
        """Run trials until there are enough, yielding each that this call runs once the study and MLflow's outbox have
        it. What is still running when the caller stops, or is interrupted, is put back."""
        try:
            while True:
                yield from self._hand_out()
                if not self.running and self._crew.idle:  # for want of trials
                    return
                yield from self._hear(self._crew.hear())
        finally:
            self._tuning.put_back()

    def _hand_out(self) -> Iterator[Trial]:
        """Give every worker that waits something to do, as long as there is."""
        while self._crew.idle:
            if not self._waiting:
                yield from self._ask()
            if not self._waiting:
                return
            job = self._waiting.pop(0)
            for number in job:
                self.running[number].started = time.time()
            self._crew.hand(job)

    def _ask(self) -> Iterator[Trial]:
        """The trials of the next jobs: as many as a worker trains at once."""
        groups: dict[str, Job] = {}
        for _ in range(min(self._crew.lanes, self._left())):
            asked = self._tuning.ask()
            values = space.suggest(asked, self._params)
            asked.set_user_attr("values", values)
            try:
                trial = Running(asked, values, all_params.changed(self._params, values))
            except InputError as error:  # each value is allowed, but not these together
                yield self._end(Running(asked, values, self._params), TrialState.FAIL, str(error))
                continue
            self.running[asked.number] = trial
            shared = {key: value for key, value in trial.params.flat().items() if key not in OF_A_LANE}
            groups.setdefault(repr(shared), {})[asked.number] = values
        self._waiting += groups.values()

    def _left(self) -> int:
        """Trials that may still be begun."""
        settings = self._params.tune
        if settings.minutes is not None and time.monotonic() - self._start > 60 * settings.minutes:
            return 0
        if settings.patience is not None and study.since_best(self._tuning.study) >= settings.patience:
            return 0
        return max(self._total - self._ended - len(self.running), 0)

    def _hear(self, heard: Heard) -> Iterator[Trial]:
        worker, words = heard
        if words is None:
            yield from self._again(worker.job)
        elif "told" in words:
            over, drop = [], []
            for number, told in words["told"].items():
                state = self._report(self.running[int(number)], told)
                if state is not None:
                    over.append((int(number), state, told.get("error")))
                    drop += [int(number)] * (state == TrialState.PRUNED)
            worker.say({"drop": drop})  # it trains on while these are written
            for number, state, error in over:
                del worker.job[number]
                yield self._end(self.running.pop(number), state, error)

    def _again(self, job: Job) -> Iterator[Trial]:
        """Have the trials of a worker that has died trained by another, from their first epoch: each a job of its own
        from the second time on, as one of them may be what kills it."""
        for number in job:
            trial = self.running[number]
            trial.records, trial.best, trial.deaths = [], None, trial.deaths + 1
        for number in [number for number in job if self.running[number].deaths == DEATHS]:
            del job[number]
            yield self._end(self.running.pop(number), TrialState.FAIL, f"its process died {DEATHS} times")
        if job:
            alone = any(self.running[number].deaths > 1 for number in job)
            self._waiting[:0] = [{number: values} for number, values in job.items()] if alone else [job]

    def _report(self, trial: Running, told: dict[str, Any]) -> TrialState | None:
        """Report an epoch of a trial; how the trial has ended, if it has."""
        if "error" in told:
            return TrialState.FAIL
        record = told["record"]
        trial.records.append(record)
        trial.best, trial.best_epoch = told["best"], told["best_epoch"]
        trial.asked.report(record[f"val/{self._params.train.monitor}"], record["epoch"])
        if told["over"]:
            return TrialState.COMPLETE
        return TrialState.PRUNED if trial.asked.should_prune() else None

    def _end(self, trial: Running, state: TrialState, error: str | None) -> Trial:
        """Tell the study and MLflow how a trial ended."""
        if state == TrialState.COMPLETE and trial.best is None:
            state, error = TrialState.FAIL, f"{self._params.train.monitor} was not a number in any epoch"
        if error:
            trial.asked.set_user_attr("error", error)
        else:
            trial.asked.set_user_attr("best_epoch", trial.best_epoch)
        number, records = trial.asked.number, trial.records
        shown = Trial(number, trial.values, trial.params, state.name.lower(), trial.started, records, trial.best, error)
        # on disk for MLflow first: a trial that the study counts is one that MLflow will have
        self._sweep.log(shown)
        self._tuning.study.tell(trial.asked, trial.best if state == TrialState.COMPLETE else None, state)
        self._tuning.flush()
        self._ended += 1
        return shown
