"""The study: an Optuna study that survives its process, and that only trials on the same terms may join."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src import cli, files, fingerprint, locks, paths
from src.data.schema import Schema
from src.errors import InputError, RunError
from src.params import Params
from src.tracking import store
from src.tune import journals, kept, objectives, samplers, shared, space, warm
from src.tune.journals import Journal

FIRST = "first"  # attribute of a study: number of the trial to which the others are compared


@contextmanager
def opened(params: Params, schema: Schema, takes_over: bool = False, may_begin: bool = True) -> Iterator["Tuning"]:
    """The study of these params and data, as it was left, or a new one, if it `may_begin`; its first trial is the
    current params. A new one `takes_over` the trials of studies in the same storage that fit it.

    RunError while another process has the study; InputError for a new one that may not begin.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    with locks.held(lock(), "is tuning in this project"):
        tuning = _load(params, name(params, schema))
        try:
            if FIRST not in tuning.study.user_attrs:
                if not may_begin:
                    raise InputError("there is no study with this space, data, code and params yet: leave out --trial")
                _begin(tuning, params, schema, takes_over)
            elif takes_over:
                cli.say("--warm-start: this study has begun already")
            tuning.put_back()
            tuning.tidy()
            with nullcontext() if tuning.can_hold else shared.alive(tuning.study):
                yield tuning
        except shared.gone() as error:
            said = store.redact(shared.why(error))
            raise RunError(
                f"the database of tune.storage has failed: {said}. What it has is kept: the same command goes on"
            ) from error


def lock() -> Path:
    """Who searches holds this, whichever study it is."""
    return paths.root() / "models" / "tune.lock"


class Tuning:
    """A study, and what is done with it. Nobody else writes to its journal, which is on disk after each `flush`."""

    def __init__(self, study: Study, params: Params, journal: Journal | None) -> None:
        self.study, self._params, self._journal = study, params, journal

    def ask(self) -> optuna.Trial:
        """The next trial: one that waits, or a new one. What it is depends on the seed, its number and those before it
        alone, so that a search that was killed goes on as if it had not been."""
        if not self._journal:
            shared.recover(self.study)
        number = len(self.study.get_trials(deepcopy=False)) + (0 if self._journal else shared.apart())
        choose, seed = samplers.SAMPLERS[self._params.tune.sampler], (self._params.seed + number) % 2**32
        self.study.sampler = choose(self._params, seed, self.study.sampler)
        return self.study.ask() if self._journal else shared.ask(self.study)

    def elsewhere(self) -> int:
        """How many trials other machines are making; those of one that has died wait again."""
        if self._journal:
            return 0
        shared.recover(self.study)
        return shared.elsewhere(self.study)

    def lost(self, trials: Collection[int]) -> set[int]:
        """Of the trials that are trained here, by their numbers, those that another machine has taken over, as it heard
        nothing of this one."""
        return set() if self._journal else set(trials) - {trial.number for trial in shared.own(self.study)}

    def lanes(self, most: int) -> int | None:
        """Trainings in one program, as they were measured for an earlier search with the same `most`: a search that was
        killed has to go on with them, as trials that are chosen together do not learn from each other."""
        noted = self.study.user_attrs.get("lanes", {})
        return noted.get("count") if noted.get("most") == most else None

    def note_lanes(self, most: int, measured: int) -> None:
        """Have the searches that follow use them, unless the study is shared with other machines."""
        if self._params.tune.lanes == "auto" and self.lanes(most) is None:
            cli.say(f"tune.lanes: {measured}, as measured")
            if self._journal:
                self.study.set_user_attr("lanes", {"most": most, "count": measured})

    @property
    def can_hold(self) -> bool:
        """Whether what is said of a trial can be kept from being durable: a database has it at once."""
        return self._journal is not None

    def hold(self, trials: Iterable[optuna.Trial]) -> None:
        """Have what comes of these trials not be durable until they are let go: those that are trained together have
        all ended then, or none has."""
        if self._journal:
            self._journal.held |= {trial._trial_id for trial in trials}

    def let_go(self, trials: Iterable[optuna.Trial]) -> None:
        """Have the next `flush` write what came of these trials, and what comes."""
        if self._journal:
            self._journal.let_go(trial._trial_id for trial in trials)

    @property
    def checkpoints(self) -> Path:
        """Where trials that take long keep theirs until they have ended."""
        return paths.root() / "models" / "tune.checkpoints" / self.study.study_name

    @property
    def weights(self) -> Path:
        """Where those of the best trials are, with tune.keep."""
        return paths.root() / "models" / "tune.weights" / self.study.study_name

    def kept(self) -> list[Path]:
        """Of the trials that have their weights, the folders of those that are to be kept, the best first."""
        return kept.best(self.weights, self._durable(front(self.study)), self._params.tune.keep)

    def remove_others(self) -> None:
        """Remove the weights of trials that are not to be kept."""
        if self._params.tune.keep:
            ranked, ended = (self._durable(trials) for trials in (front(self.study), finished(self.study)))
            kept.remove_others(self.weights, ranked, ended, self._params.tune.keep)

    def _durable(self, trials: Iterable[FrozenTrial]) -> list[int]:
        """The numbers of those that would count too if this process died now."""
        held = self._journal.held if self._journal else ()
        return [trial.number for trial in trials if trial._trial_id not in held]

    def put_back(self) -> None:
        """Have the trials that are running, or were when their process died, wait again: each keeps its number. Those
        of another machine that shares the study are its own."""
        for trial in running(self.study) if self._journal else shared.own(self.study):
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self.flush()

    def tidy(self) -> None:
        """Remove checkpoints that no trial of this study waits to go on from."""
        waiting = {trial.number for trial in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))}
        wanted = {self.checkpoints / name for number in waiting for name in self.trainings(number)}
        for folder in self.checkpoints.parent.glob("*/*"):
            if folder not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def trainings(self, number: int) -> list[str]:
        """What the trainings of a trial are called: one for each seed."""
        seeds = self._params.tune.seeds
        return [str(number * seeds + place) for place in range(seeds)]

    def flush(self) -> None:
        """Until everything that was said of the study is durable."""
        if self._journal:
            self._journal.flush()


def name(params: Params, schema: Schema) -> str:
    """Data and task for people, then a digest of all terms: space, objectives, seeds, data, code, and every param that
    is not tuned."""
    terms = asdict(fingerprint.of(params, schema))
    code = fingerprint.closure(["src/tune/together.py"])
    terms["lanes"] = {name: files.sha256(fingerprint.PROJECT / name) for name in code if name not in terms["code"]}
    terms["params"] = {key: value for key, value in terms["params"].items() if key not in params.tune.space}
    terms |= {**params.tune.model_dump(include={"space", "objectives", "seeds"}), "step": objectives.step(params)}
    digest = hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()
    return f"{schema.title}-{params.task}-{digest[:10]}"


def running(study: Study) -> list[FrozenTrial]:
    """Trials that are being trained, here or elsewhere."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def finished(study: Study) -> list[FrozenTrial]:
    """Trials that count: completed, pruned, or failed for a reason of their own (not because a process died), and not
    taken over from another study."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    failed = TrialState.FAIL
    return [
        trial
        for trial in ended
        if (trial.state != failed or "error" in trial.user_attrs) and warm.ORIGIN not in trial.user_attrs
    ]


def taken(study: Study) -> list[FrozenTrial]:
    """Trials taken over from other studies."""
    return [trial for trial in study.get_trials(deepcopy=False) if warm.ORIGIN in trial.user_attrs]


def since_best(study: Study) -> int:
    """Trials that have ended after the best one so far did."""
    leaders = ranking(study)
    ends = [trial.datetime_complete for trial in finished(study)]
    best = leaders[0].datetime_complete if leaders else None
    return sum(best is None or end > best for end in ends if end is not None)


def ranking(study: Study) -> list[FrozenTrial]:
    """Completed trials, the best by the first objective first."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(done, key=lambda trial: (sign * first_value(trial), trial.number))


def front(study: Study) -> list[FrozenTrial]:
    """Completed trials, best first; of several objectives those of the Pareto front alone."""
    found = ranking(study)
    if len(study.directions) == 1:
        return found
    best = {trial.number for trial in study.best_trials}
    return [trial for trial in found if trial.number in best]


def first(study: Study) -> FrozenTrial:
    """The trial to which the others are compared: that of the current params, where they are in the space."""
    trials, number = study.get_trials(deepcopy=False), study.user_attrs[FIRST]
    again = [trial for trial in trials if trial.system_attrs.get(shared.FIRST_TRY) == number]
    return again[-1] if again else trials[number]  # one whose machine died was made again under another number


def first_value(trial: FrozenTrial) -> float:
    """Of a completed trial, that by which it is ranked."""
    return trial.values[0]


def _load(params: Params, study_name: str) -> Tuning:
    goals = [objective.goal for objective in objectives.of(params)]
    try:
        storage, journal = _storage(params.tune.storage)
        study = optuna.create_study(
            study_name=study_name,
            storage=storage,
            load_if_exists=True,
            directions=["minimize" if goal == "minimise" else "maximize" for goal in goals],
            pruner=samplers.PRUNERS[params.tune.pruner](params.train.epochs),
        )
    except Exception as error:  # whatever a database driver or a broken journal raises
        said = f"tune.storage = '{params.tune.storage}' cannot be used: {shared.why(error)}"
        raise InputError(store.redact(said)) from error
    return Tuning(study, params, journal)


def _storage(address: str) -> tuple[BaseStorage, Journal | None]:
    if "://" in address:
        return shared.storage(address), None
    path = paths.root() / address
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        journals.mend(path)
        journals.check(path)
    else:
        journals.unseal(path)
    journal = Journal(path)
    return JournalStorage(journal), journal


def queued(trial: FrozenTrial) -> dict[str, Any] | None:
    """The values that a trial waits to be tried with."""
    return trial.system_attrs.get("fixed_params")


def _begin(tuning: Tuning, params: Params, schema: Schema, takes_over: bool) -> None:
    """Make a study one of these params and data, with the trials of others that fit it if it `takes_over` those."""
    mark = fingerprint.of(params, schema)
    if takes_over:
        cli.say(warm.take_over(tuning.study, params, mark))
    warm.sign(tuning.study, params, mark)
    _queue_current(tuning.study, params)
    for folder in (tuning.weights, tuning.checkpoints):  # of a study of this name whose journal is gone
        shutil.rmtree(folder, ignore_errors=True)


def _queue_current(study: Study, params: Params) -> None:
    """Have the first trial be that of the current params, where there is one and it was not taken over."""
    values, taken = space.current(params), study.get_trials(deepcopy=False)
    if values is None:
        cli.say("the current params lie outside tune.space, so no trial has them")
        study.set_user_attr(FIRST, len(taken))
        return
    kept = {key: space.stored(value, params.tune.space[key]) for key, value in values.items()}
    same = [trial.number for trial in taken if values == trial.user_attrs.get("values") or kept == queued(trial)]
    if not same and params.tune.sampler != "grid":
        study.enqueue_trial(kept)
    study.set_user_attr(FIRST, same[0] if same else len(taken))
