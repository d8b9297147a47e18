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
from src.tune.crew import Crew, Heard
from src.tune.study import Tuning

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
    started: float = 0.0
    records: list[Record] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    deaths: int = 0
    reported: int = 0  # the last epoch that the study knows


@dataclass(eq=False)
class Job:
    """Trials that a worker trains together: those that it still has, and what became of the others. They count once
    all have ended, so that which are chosen next does not depend on when a search was killed."""

    trials: dict[int, Running]  # by number
    ended: list[Trial] = field(default_factory=list)
    asked: list[optuna.Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = self.asked or [trial.asked for trial in self.trials.values()]


class Search:
    """A search while it runs. `total`: trials that shall have ended, over all calls on the study."""

    def __init__(self, tuning: Tuning, params: Params, crew: Crew, total: int, sweep: Sweep) -> None:
        self._tuning, self._params, self._crew, self._total, self._sweep = tuning, params, crew, total, sweep
        self._start, self._lanes = time.monotonic(), tuning.lanes(crew.lanes)
        self._begun = len(study.finished(tuning.study))
        self._waiting: list[Job] = []
        self._unwritten: list[Trial] = []
        self._jobs: list[Job] = []  # that workers have

    @property
    def running(self) -> list[int]:
        """How many epochs each trial has that is being trained."""
        return [len(trial.records) for job in self._jobs for trial in job.trials.values()]

    def trials(self) -> Iterator[Trial | None]:
        """Run trials until there are enough, yielding each that this call runs once the study and MLflow's outbox have
        it, and None when some have one epoch more. What is still running when the caller stops, or is interrupted, is
        put back."""
        try:
            while True:
                self._hand_out()
                yield from self._write()  # while the workers train
                if not self._jobs:
                    return
                self._hear(self._crew.hear())
                yield None
        finally:
            self._save()
            self._tuning.put_back()

    def _hand_out(self) -> None:
        """Give every worker that waits something to do, as long as there is."""
        while self._crew.idle:
            while not self._waiting and self._left():
                self._ask()
            if not self._waiting or self._is_over():
                return
            job = self._waiting.pop(0)
            for trial in job.trials.values():
                trial.started = time.time()
            self._tuning.hold(job.asked)
            self._jobs.append(job)
            self._crew.hand(job, {number: trial.values for number, trial in job.trials.items()})

    def _ask(self) -> None:
        """The trials of the next jobs: as many as a worker trains at once."""
        groups: dict[str, dict[int, Running]] = {}
        for _ in range(min(self._lanes, self._left())):
            asked = self._tuning.ask()
            self._begun += 1
            values = space.suggest(asked, self._params)
            asked.set_user_attr("values", values)
            try:
                all_params.changed(self._params, values)
            except InputError as error:  # each value is allowed, but not these together
                self._unwritten.append(self._end(Running(asked, values), TrialState.FAIL, str(error)))
                continue
            shared = {key: value for key, value in values.items() if key not in OF_A_LANE}
            groups.setdefault(repr(shared), {})[asked.number] = Running(asked, values)
        self._waiting += map(Job, groups.values())

    def _left(self) -> int:
        """Trials that may still be begun."""
        return 0 if self._is_over() else max(self._total - self._begun, 0)

    def _is_over(self) -> bool:
        """Whether no trial is begun any more, by the time or for want of better ones."""
        settings = self._params.tune
        if settings.minutes is not None and time.monotonic() - self._start > 60 * settings.minutes:
            return True
        return settings.patience is not None and study.since_best(self._tuning.study) >= settings.patience

    def _hear(self, heard: Heard) -> None:
        worker, words = heard
        job: Job | None = worker.job
        if words is None and job:
            self._again(job)
        elif words and "told" in words:
            assert job
            over, drop = [], []
            for number, told in words["told"].items():
                trial = job.trials[int(number)]
                state = self._report(trial, told)
                if state is not None:
                    over.append((trial, state, told.get("error")))
                    drop += [int(number)] * (state == TrialState.PRUNED)
            if not words["done"]:
                worker.say({"drop": drop})
            for trial, state, error in over:
                del job.trials[trial.asked.number]
                (job.ended if self._tuning.can_hold else self._unwritten).append(self._end(trial, state, error))
            if words["done"]:
                worker.job = None
                self._close(job)

    def _again(self, job: Job) -> None:
        """Have the trials of a worker that has died trained by another, from their first epoch: each a job of its own
        from the second time on, as one of them may be what kills it."""
        for number, trial in list(job.trials.items()):
            trial.records, trial.best, trial.deaths = [], None, trial.deaths + 1
            if trial.deaths == DEATHS:
                del job.trials[number]
                job.ended.append(self._end(trial, TrialState.FAIL, f"its process died {DEATHS} times"))
        self._close(job)
        if any(trial.deaths > 1 for trial in job.trials.values()):
            self._waiting[:0] = [Job({number: trial}) for number, trial in job.trials.items()]
        elif job.trials:
            self._waiting.insert(0, Job(job.trials))

    def _close(self, job: Job) -> None:
        """What ended of a job that a worker no longer has counts from now on."""
        self._jobs.remove(job)
        over = [asked for asked in job.asked if asked.number not in job.trials]
        self._tuning.let_go(over)
        self._unwritten += job.ended

    def _report(self, trial: Running, told: dict[str, Any]) -> TrialState | None:
        """Report an epoch of a trial; how the trial has ended, if it has."""
        if "error" in told:
            return TrialState.FAIL
        record = told["record"]
        trial.records.append(record)
        trial.best, trial.best_epoch = told["best"], told["best_epoch"]
        is_new = record["epoch"] > trial.reported  # else its worker died since, and it is trained again
        if is_new:
            trial.asked.report(record[f"val/{self._params.train.monitor}"], record["epoch"])
            trial.reported = record["epoch"]
        if told["over"]:
            return TrialState.COMPLETE
        return TrialState.PRUNED if is_new and trial.asked.should_prune() else None

    def _end(self, trial: Running, state: TrialState, error: str | None) -> Trial:
        """Tell the study how a trial ended, so that the next ones are chosen by it."""
        if state == TrialState.COMPLETE and trial.best is None:
            state, error = TrialState.FAIL, f"{self._params.train.monitor} was not a number in any epoch"
        if error:
            trial.asked.set_user_attr("error", error)
        else:
            trial.asked.set_user_attr("best_epoch", trial.best_epoch)
        about = (trial.asked.number, trial.values, state.name.lower(), trial.started, trial.records, trial.best, error)
        shown = Trial(*about)
        if not self._tuning.can_hold:
            self._sweep.log([shown])
        self._tuning.study.tell(trial.asked, trial.best if state == TrialState.COMPLETE else None, state)
        return shown

    def _write(self) -> Iterator[Trial]:
        """Have on disk what has ended, and pass it on."""
        written = self._unwritten
        self._save()
        yield from written

    def _save(self) -> None:
        """Have on disk what has ended, for MLflow first: a trial that the study counts is one that MLflow will have."""
        if not self._unwritten:
            return
        if self._tuning.can_hold:
            self._sweep.log(self._unwritten)
        self._unwritten = []
        self._tuning.flush()
