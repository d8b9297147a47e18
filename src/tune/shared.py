"""A study in a database, which searches on other machines may have too: each says that it is alive, and takes over the
trials of one that is not."""

from __future__ import annotations

import platform
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src import paths

BEAT, GRACE = 30, 150  # seconds between two signs of life, and without one, after which a trial is made elsewhere
SEARCHER = "searcher"  # attribute of a trial: who makes it


def storage(address: str) -> BaseStorage:
    """Any database that Optuna knows."""
    warnings.filterwarnings("ignore", message="Heartbeat of storage")  # which are Study.optimize's; here see `alive`
    again = RetryHeartbeatStaleTrialCallback()
    database = RDBStorage(address, heartbeat_interval=BEAT, grace_period=GRACE, heartbeat_stale_trial_callback=again)
    return optuna.storages.get_storage(database)


def ask(study: Study) -> optuna.Trial:
    """The next trial: one that waits, as that of a search that died, or a new one."""
    optuna.storages.fail_stale_trials(study)
    asked = study.ask()
    asked.set_user_attr(SEARCHER, _searcher())
    _beat(study, [asked._trial_id])
    return asked


def own(study: Study) -> list[FrozenTrial]:
    """The trials that are running, or were when their process died, in this project on this machine."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if trial.user_attrs.get(SEARCHER) == _searcher()]


@contextmanager
def alive(study: Study) -> Iterator[None]:
    """Say of the own trials that they are being trained, as long as they are."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with suppress(Exception):  # a database that is gone: the search meets it too, and says so
                _beat(study, [trial._trial_id for trial in own(study)])

    beating = threading.Thread(target=beat, name="heartbeat", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


def _beat(study: Study, trials: Iterable[int]) -> None:
    for trial in trials:
        study._storage.record_heartbeat(trial)  # type: ignore[attr-defined]


def _searcher() -> str:
    """This project on this machine, of which one process at most searches."""
    return f"{platform.node()}:{paths.root()}"
