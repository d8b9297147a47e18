"""The search: ask for values, have workers train with them, report each epoch, tell the result."""

import math
import shutil
import time
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from src import cli
from src import params as all_params
from src.errors import InputError
from src.params import Params
from src.tracking.sweep import Sweep, Trial
from src.tune import objectives, space, study
from src.tune.crew import Crew, Heard
from src.tune.study import Tuning
from src.tune.trials import DEATHS, OF_A_LANE, Job, Running, Training

PAUSE = 5.0  # seconds between two looks at what other machines make


def total(params: Params) -> int:
    """Trials in all: tune.trials, or as many as a grid has."""
    wanted = params.tune.trials
    return min(wanted, math.prod(map(len, space.grid(params).values()))) if params.tune.sampler == "grid" else wanted


def why_done(running: Study, params: Params) -> str | None:
    """Why no trial is to be made of a study, if none is."""
    ended = len(study.finished(running))
    if ended >= total(params):
        return f"{ended} trials have ended, and no more are asked for (--trials N, in all)"
    if is_stuck(running, params.tune.patience):
        return f"{ended} trials have ended, the last {params.tune.patience} no better than one before (tune.patience)"
    return None


def is_stuck(running: Study, patience: int | None) -> bool:
    """Whether the last `patience` trials were no better than one before them."""
    return patience is not None and study.since_best(running) >= patience


def most_lanes(params: Params) -> int:
    """Trainings that a worker may make at once: where trials are chosen or pruned by those that are over, half of all
    are begun with nothing to go by."""
    tune = params.tune
    goes_by_others = tune.sampler in ("tpe", "gp", "cmaes") or tune.pruner in ("median", "patient", "wilcoxon")
    return max(total(params) // (tune.workers * (2 if goes_by_others else 1)), 1) * objectives.abreast(params)


class Search:
    """A search while it runs. `total`: trials that shall have ended, over all calls on the study."""

    def __init__(self, tuning: Tuning, params: Params, crew: Crew, total: int, sweep: Sweep) -> None:
        self._tuning, self._params, self._crew, self._total, self._sweep = tuning, params, crew, total, sweep
        self._start = time.monotonic()
        tuning.note_lanes(most_lanes(params), crew.lanes)
        self._together = max(crew.lanes // objectives.abreast(params), 1)
        self._objectives = [objective.name for objective in objectives.of(params)]
        # whether a training may have to end before a worker knows it: workers wait for nothing otherwise
        self._drops = params.tune.seeds > 1 or params.tune.pruner != "none"
        self._has_waited = False
        self._waiting: list[Job] = []
        self._unwritten: list[Trial] = []
        self._jobs: list[Job] = []  # that workers have

    @property
    def running(self) -> list[int]:
        """How many epochs each trial has that is being trained."""
        return [trial.epochs for job in self._jobs for trial in job.trials.values()]

    def trials(self) -> Iterator[Trial | None]:
        """Run trials until there are enough, yielding each that this call runs once the study and MLflow's outbox have
        it, and None when some have one epoch more, or to say that they go on. What is still running when the caller
        stops, or is interrupted, is put back."""
        try:
            while True:
                self._hand_out()
                yield from self._write()  # while the workers train
                if self._jobs or not self._crew.idle:
                    heard = self._crew.hear(cli.EVERY)
                    if heard:
                        self._hear(heard)
                elif not self._goes_on():
                    return
                yield None
        finally:
            self._save()
            self._tuning.put_back()

    def _goes_on(self) -> bool:
        """Whether there is more to come though no worker has anything: waits while other machines make what is left."""
        elsewhere = self._tuning.elsewhere()  # first: trials of a machine that has died are left to be made then
        if self._is_over():
            return False
        if self._waiting or self._left():
            return True
        if elsewhere:
            if not self._has_waited:
                cli.say(f"other machines make the last {elsewhere} trials: waiting for them")
            self._has_waited = True
            time.sleep(PAUSE)
        return elsewhere > 0

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
            rounds = job.rounds(self._params)
            self._crew.hand(job, rounds, self._tuning.checkpoints, self._tuning.weights, self._drops)

    def _ask(self) -> None:
        """The trials of the next jobs: as many as a worker trains at once."""
        groups: dict[str, dict[int, Running]] = {}
        for _ in range(min(self._together, self._left())):
            if self._is_over() or not (self._tuning.can_hold or self._left()):  # other machines ask too
                break
            asked = self._tuning.ask()
            values = space.suggest(asked, self._params)
            asked.set_user_attr("values", values)
            trial = Running(asked, values, [Training() for _ in range(self._params.tune.seeds)])
            try:
                all_params.changed(self._params, values)
            except InputError as error:  # each value is allowed, but not these together
                trial.started = time.time()
                self._unwritten.append(self._end(trial, TrialState.FAIL, str(error)))
                continue
            shared = {key: value for key, value in values.items() if key not in OF_A_LANE}
            groups.setdefault(repr(shared), {})[asked.number] = trial
        self._waiting += map(Job, groups.values())

    def _left(self) -> int:
        """Trials that may still be begun."""
        begun = len(study.finished(self._tuning.study)) + len(study.running(self._tuning.study))
        return 0 if self._is_over() else max(self._total - begun, 0)

    def _is_over(self) -> bool:
        """Whether no trial is begun any more, by the time or for want of better ones."""
        settings = self._params.tune
        if settings.minutes is not None and time.monotonic() - self._start > 60 * settings.minutes:
            return True
        return is_stuck(self._tuning.study, settings.patience)

    def _hear(self, heard: Heard) -> None:
        worker, words = heard
        job: Job | None = worker.job
        if words is None and job:
            self._again(job)
        elif words and "told" in words:
            assert job
            over, seeds = [], self._params.tune.seeds
            lost = self._tuning.lost(job.trials)
            for number in lost:
                cli.say(f"trial {number} is made by another machine, which had heard nothing of this one")
                del job.trials[number]
            drop = [number * seeds + place for number in lost for place in range(seeds)]
            news: dict[int, dict[int, Any]] = {}
            for training, told in words["told"].items():
                number, place = divmod(int(training), seeds)
                news.setdefault(number, {})[place] = told
            for number, own in news.items():
                if number not in job.trials:
                    continue
                trial = job.trials[number]
                state, error = self._report(trial, own)
                if state is not None:
                    over.append((trial, state, error))
                    drop += range(number * seeds, (number + 1) * seeds) if state != TrialState.COMPLETE else []
            if self._drops and not words["done"]:
                worker.say({"drop": drop})
            for trial, state, error in over:
                del job.trials[trial.asked.number]
                (job.ended if self._tuning.can_hold else self._unwritten).append(self._end(trial, state, error))
            if words["done"]:
                worker.job = None
                self._close(job)

    def _again(self, job: Job) -> None:
        """Have the trials of a worker that has died trained by another, from a checkpoint if there is one: each a job
        of its own from the second time on, as one of them may be what kills it."""
        for number, trial in list(job.trials.items()):
            trial.begin_again()
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
        for asked in over:
            for name in self._tuning.trainings(asked.number):
                shutil.rmtree(self._tuning.checkpoints / name, ignore_errors=True)  # there are none of most
        self._unwritten += job.ended

    def _report(self, trial: Running, told: dict[int, dict[str, Any]]) -> tuple[TrialState | None, str | None]:
        """Report an epoch of a trial, by its seeds; how the trial has ended, if it has, and why it failed."""
        for place, words in told.items():
            if "error" in words:
                return TrialState.FAIL, words["error"]
            trial.trainings[place].hear(words)
        news = trial.news(self._objectives[0], objectives.step(self._params)) if len(self._objectives) == 1 else []
        for step, value in news:
            trial.asked.report(value, step)
            trial.reported = step
        if all(training.is_over for training in trial.trainings):
            return TrialState.COMPLETE, None
        return (TrialState.PRUNED if news and trial.asked.should_prune() else None), None

    def _end(self, trial: Running, state: TrialState, error: str | None) -> Trial:
        """Tell the study how a trial ended, so that the next ones are chosen by it."""
        results = trial.results(self._objectives) if state == TrialState.COMPLETE else None
        if state == TrialState.COMPLETE and results is None:
            state, error = TrialState.FAIL, f"{', '.join(self._objectives)}: not a number in the best epoch"
        if error:
            trial.asked.set_user_attr("error", error)
        trial.asked.set_user_attr("best_epochs", [training.best_epoch for training in trial.trainings])
        trial.asked.set_user_attr("by_seed", results)
        shown = trial.told(state.name.lower(), self._objectives, error)
        if not self._tuning.can_hold:
            self._sweep.log([shown])
        values = [fmean(each) for each in results.values()] if results else None
        self._tuning.study.tell(trial.asked, values, state)
        return shown

    def _write(self) -> Iterator[Trial]:
        """Have on disk what has ended, and pass it on."""
        written = self._unwritten
        self._save()
        yield from written

    def _save(self) -> None:
        """Have on disk what has ended, for MLflow first: a trial that the study counts is one that MLflow will have."""
        written, self._unwritten = self._unwritten, []
        if written and self._tuning.can_hold:
            self._sweep.log(written)
        self._tuning.flush()
        if written:
            self._tuning.remove_others()
