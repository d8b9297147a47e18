"""Which MLflow store, and a client for it that fails fast and in words."""

from __future__ import annotations

import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from src import files, paths
from src.errors import InputError
from src.sections import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # those that MLflow can use
PATIENCE = 10  # seconds to wait for a server before saying that it does not answer


def uri(tracking: Tracking) -> str:
    """tracking.uri, else MLFLOW_TRACKING_URI, else mlflow.db in the project's root.

    A relative SQLite path starts at the root too: in a temporary workspace it would vanish with it.
    """
    chosen = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if chosen.startswith(SQLITE):
        return f"{SQLITE}{paths.root() / chosen[len(SQLITE) :]}"
    if re.search(r"\s", chosen):
        raise InputError("tracking.uri, or MLFLOW_TRACKING_URI, has a space in it: write it as %20")
    if urlsplit(chosen).scheme in ("", "file"):
        raise InputError(f"tracking.uri = '{chosen}' is a folder, which MLflow no longer takes: use sqlite:///FILE.db")
    return chosen


def exists(tracking: Tracking) -> bool:
    """Whether there is a store to look into: to connect to an SQLite file would make it. A server may still be down."""
    path = _file(uri(tracking))
    return path is None or path.exists()


def _file(address: str) -> Path | None:
    """The file of an SQLite store."""
    return Path(address[len(SQLITE) :].partition("?")[0]) if address.startswith(SQLITE) else None


def is_database(address: str) -> bool:
    """Whether a store is one, and no server."""
    return urlsplit(address).scheme.partition("+")[0] in DATABASES


def redact(text: str) -> str:
    """An address, or words with addresses in them, without user and password: what may be shown or written."""
    text = re.sub(r"(?<=://)(?:[^/\s]*|[^/\s:@]*:\S*)@", "***@", text)  # a database's password may hold a slash
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token)=)[^&\s]*", r"\1***", text)


def connect(tracking: Tracking) -> MlflowClient:
    """A client for the store, once it has answered. InputError when it does not."""
    address = uri(tracking)
    if address.startswith("http"):
        _knock(address)
    configure()
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(address)
    try:
        path = _file(address)
        folder = path.parent if path else paths.root()
        folder.mkdir(parents=True, exist_ok=True)
        # two processes that make a new SQLite store at once would trip over each other's migrations
        with FileLock(folder / ".mlflow.lock"):
            if path and not path.exists():
                _make(path)
            client = mlflow.MlflowClient(address)
            client.search_experiments(max_results=1)
    except Exception as error:  # MLflow lets through whatever its database driver raises
        raise refused(address, error) from error
    return client


def refused(address: str, error: BaseException) -> InputError:
    """What to raise when a store has failed."""
    said = f"the MLflow store {redact(address)} cannot be used: {reason(error).splitlines()[0]}"
    is_driver = isinstance(error, ModuleNotFoundError)
    return InputError(
        f"{said}. " + ("Install its driver" if is_driver else "Check tracking.uri or MLFLOW_TRACKING_URI")
    )


def _make(path: Path) -> None:
    """An SQLite store in one step. MLflow makes its tables one after the other, and cannot use a store again whose
    making was cut short."""
    import mlflow

    beside = path.with_name(f"{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    mlflow.MlflowClient(f"{SQLITE}{beside / path.name}").search_experiments(max_results=1)
    if not path.exists():  # by a program that knows nothing of the lock
        (beside / path.name).replace(path)
    files.sync_folder(path.parent)
    shutil.rmtree(beside)


def configure() -> None:
    """Settings that MLflow reads when it is imported, unless the user has chosen others."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each small file
    # MLflow waits about four minutes a call for a server that is gone; the outbox makes a short wait safe
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(PATIENCE))  # PostgreSQL's own setting


def reason(error: BaseException) -> str:
    """Why MLflow failed, without passwords. Below a connection that failed lies the system's own error; MLflow's
    message repeats every layer above it."""
    deepest: BaseException = error
    while inner := deepest.__cause__ or deepest.__context__:
        deepest = inner
    return redact(str(deepest if isinstance(deepest, OSError) else error))


def experiment(client: MlflowClient, tracking: Tracking) -> str:
    """The id of tracking.experiment, made when it is not there yet."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(tracking.experiment)
    if found is None:
        # a local store would put artifacts beside the process's folder, which may be a temporary one
        local = uri(tracking).startswith("sqlite")
        location = _artifacts(tracking.experiment).as_uri() if local else None
        try:
            return client.create_experiment(tracking.experiment, artifact_location=location)
        except MlflowException:  # another process was quicker
            found = client.get_experiment_by_name(tracking.experiment)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise InputError(
            f"MLflow experiment '{tracking.experiment}' was deleted: set another tracking.experiment, or restore it "
            f"with: mlflow experiments restore -x {found.experiment_id}"
        )
    return found.experiment_id


def _artifacts(experiment_name: str) -> Path:
    return paths.root() / "mlartifacts" / "".join(c if c.isalnum() or c in "-_." else "-" for c in experiment_name)


def _knock(address: str) -> None:
    parts = urlsplit(address)
    # urllib takes user and password for a part of the host's name; a server answers this without them
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/") + "/health"))
    try:
        urllib.request.urlopen(bare, timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return  # it answers; what it thinks of us comes later, in words of its own
    except (OSError, ValueError, HTTPException) as error:
        raise InputError(
            f"the MLflow server {redact(address)} does not answer ({error}). Start it, or set tracking.uri: null"
        ) from None
