"""A study in a database, which searches on other machines may have too: each says that it is alive, and the trials of
one that is not are made by others."""

from __future__ import annotations

import threading
import uuid
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src import files, paths

BEAT, GRACE = 30, 150  # seconds between two signs of life, and without one, after which a trial is made elsewhere
SEARCHER = "searcher"  # attribute of a trial: who makes it
FIRST_TRY = "failed_trial"  # of one that is made again: the number that it had at first, as Optuna itself notes it
PASSED_ON = ("fixed_params", "grid_id", "search_space")  # what it keeps besides


def storage(address: str) -> BaseStorage:
    """Any database that Optuna knows."""
    warnings.filterwarnings("ignore", message="Heartbeat of storage")  # which are Study.optimize's; here see `alive`
    beats = {"heartbeat_interval": BEAT, "grace_period": GRACE, "heartbeat_stale_trial_callback": _again}
    return optuna.storages.get_storage(RDBStorage(address, {"pool_pre_ping": True}, **beats))  # type: ignore[arg-type]


def ask(study: Study) -> optuna.Trial:
    """The next trial: one that waits, or a new one."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    _beat(study, waiting[:4])  # the last sign of one that was put back is old, and others ask at the same time
    asked = study.ask()
    asked.set_user_attr(SEARCHER, searcher())
    study._storage.record_heartbeat(asked._trial_id)  # type: ignore[attr-defined]
    return asked


def recover(study: Study) -> None:
    """Have the trials of searches that have died wait again: under a new number, or, where nobody has said yet that it
    is his, under the same."""
    optuna.storages.fail_stale_trials(study)
    old = datetime.now() - timedelta(seconds=GRACE)
    for trial in _running(study):
        if SEARCHER not in trial.user_attrs and trial.datetime_start and trial.datetime_start < old:
            study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def own(study: Study) -> list[FrozenTrial]:
    """The trials that are running, or were when their process died, in this project on this machine."""
    return [trial for trial in _running(study) if trial.user_attrs.get(SEARCHER) == searcher()]


def elsewhere(study: Study) -> int:
    """How many trials other machines are making."""
    return len(_running(study)) - len(own(study))


@contextmanager
def alive(study: Study) -> Iterator[None]:
    """Say of the own trials that they are being trained, as long as they are."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with suppress(Exception):  # a database that is gone: the search meets it too, and says so
                _beat(study, own(study))

    beating = threading.Thread(target=beat, name="heartbeat", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


def apart() -> int:
    """A number that is another for each searcher, so that two that ask at once do not draw the same values."""
    return zlib.crc32(searcher().encode()) % 10**9


def searcher() -> str:
    """This clone, of which one process at most searches: a note in models/ has its name."""
    note = paths.root() / "models" / "tune.searcher"
    if not note.exists():
        files.write_bytes(note, uuid.uuid4().hex.encode())
    return note.read_text()


def _running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _beat(study: Study, trials: Iterable[FrozenTrial]) -> None:
    for trial in trials:
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


def _again(study: Study, trial: FrozenTrial) -> None:
    """Have a trial be made again from its values alone, by whoever asks next: what pruners noted of it is void."""
    noted = {key: value for key, value in trial.system_attrs.items() if key in PASSED_ON}
    again = optuna.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs={**noted, FIRST_TRY: trial.system_attrs.get(FIRST_TRY, trial.number)},
    )
    study.add_trial(again)
