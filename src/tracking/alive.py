"""Which runs a living process has open. MLflow cannot know: what is killed outright stays RUNNING there for ever.

While a run is open its process holds a lock and touches a note, every BEAT seconds. A note whose lock nobody holds is
of a process that is gone, and when it was touched last is when the run ended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from src import cli, files, locks, paths
from src.errors import RunError
from src.sections import Tracking
from src.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

BEAT = 2.0
WAIT = 10.0  # seconds, for another command that is just marking the run as KILLED


class Pulse:
    """`told`: whether MLflow knows how the run ended; else the note stays, for the next command to tell it."""

    def __init__(self, note: Path) -> None:
        self.told = False
        self._note, self._over = note, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        if self.told:
            self._note.unlink()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            os.utime(self._note)


@contextmanager
def held(run_id: str, tracking: Tracking) -> Iterator[Pulse]:
    """Hold a run while inside. RunError when another process does."""
    note = paths.open_runs() / f"{run_id}.json"
    with locks.held(note.with_suffix(".lock"), f"writes to run {run_id}", WAIT):
        files.write_json(note, {"pid": os.getpid(), "tracking_uri": store.redact(store.uri(tracking))})
        pulse = Pulse(note)
        try:
            yield pulse
        finally:
            pulse.stop()


def bury(client: MlflowClient, tracking: Tracking) -> None:
    """Mark what processes that are gone left RUNNING, and their trials, as KILLED when they last lived."""
    for note in sorted(paths.open_runs().glob("*.json")):
        try:
            with locks.held(note.with_suffix(".lock"), "has it open"):
                facts = files.read_json(note) if note.exists() else {}  # another command may have been quicker
                if facts.get("tracking_uri") == store.redact(store.uri(tracking)):
                    _bury(client, note.stem, note.stat().st_mtime, facts["pid"])
                    note.unlink()
        except RunError:
            continue  # its process lives


def _bury(client: MlflowClient, run_id: str, last: float, pid: int) -> None:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    trials = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    for one in [run, *trials]:
        if one.info.status == "RUNNING":
            client.set_terminated(one.info.run_id, "KILLED", int(last * 1000))
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
            cli.say(f"run {one.info.run_name} was left RUNNING by process {pid}, which is gone: KILLED at {when}")
