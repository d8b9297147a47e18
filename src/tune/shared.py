"""A study in a database, which searches on other machines may have too: each says that it is alive, and the trials of
one that is not are made by others."""

from __future__ import annotations

import sys
import threading
import time
import uuid
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from importlib.util import find_spec

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src import files, paths

BEAT, GRACE = 30, 150  # seconds between two signs of life, and without one, after which a trial is made elsewhere
SEARCHER = "searcher"  # attribute of a trial: who makes it
ALIVE = "alive"  # another: its last sign of life, seconds since 1970, where the storage keeps none
PROXY = "grpc://"  # begins the address of Optuna's proxy, which stands before a database
ANSWER = 10  # seconds that the proxy may take to be there
FIRST_TRY = "failed_trial"  # of one that is made again: the number that it had at first, as Optuna itself notes it
PASSED_ON = ("fixed_params", "grid_id", "search_space")  # what it keeps besides


def storage(address: str) -> BaseStorage:
    """Any database that Optuna knows, or its gRPC proxy. ValueError, or what the driver raises, when there is none."""
    if address.startswith(PROXY):
        return _proxy(address)
    warnings.filterwarnings("ignore", message="Heartbeat of storage")  # which are Study.optimize's; here see `alive`
    beats = {"heartbeat_interval": BEAT, "grace_period": GRACE, "heartbeat_stale_trial_callback": _again}
    return optuna.storages.get_storage(RDBStorage(address, {"pool_pre_ping": True}, **beats))  # type: ignore[arg-type]


def ask(study: Study) -> optuna.Trial:
    """The next trial: one that waits, or a new one."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    _beat(study, waiting[:4])  # the last sign of one that was put back is old, and others ask at the same time
    asked = study.ask()
    _beat(study, [asked])
    asked.set_user_attr(SEARCHER, searcher())
    return asked


def recover(study: Study) -> None:
    """Have the trials of searches that have died wait again: under a new number, or, where nobody has said yet that it
    is his, under the same."""
    if not _has_beats(study):
        _fail_silent(study)
        return
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


def gone() -> tuple[type[Exception], ...]:
    """What a storage raises that does not answer any more."""
    grpc = sys.modules.get("grpc")
    return (StorageInternalError, grpc.RpcError) if grpc else (StorageInternalError,)


def why(error: Exception) -> str:
    """What a storage that cannot be used says, in a line."""
    if isinstance(error.__cause__, ModuleNotFoundError):
        return f"{error.__cause__}. Install the database's driver"
    details = getattr(error, "details", None)  # of gRPC
    return str(details() if details else error).partition("\n")[0]


def _proxy(address: str) -> BaseStorage:
    host, _, port = address.removeprefix(PROXY).rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError(f"a proxy is told as {PROXY}host:port")
    if find_spec("grpc") is None:
        raise ValueError("gRPC is not installed. Install it: python -m pip install grpcio")
    warnings.filterwarnings("ignore", message="GrpcStorageProxy is experimental")
    proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(ANSWER)
    return proxy


def _has_beats(study: Study) -> bool:
    """Whether the storage keeps signs of life by its own clock."""
    return hasattr(study._storage, "record_heartbeat")


def _fail_silent(study: Study) -> None:
    """As Optuna does where the storage keeps signs of life: end the trials that have given none, to be made again."""
    for trial in _running(study):
        if ALIVE not in trial.user_attrs:  # its time runs from now on
            _beat(study, [trial])
        elif time.time() - trial.user_attrs[ALIVE] > GRACE:
            with suppress(UpdateFinishedTrialError):  # another machine was first
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                _again(study, trial)


def _running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _beat(study: Study, trials: Iterable[FrozenTrial | optuna.Trial]) -> None:
    for trial in trials:
        if _has_beats(study):
            study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        else:
            with suppress(UpdateFinishedTrialError):
                study._storage.set_trial_user_attr(trial._trial_id, ALIVE, time.time())


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
