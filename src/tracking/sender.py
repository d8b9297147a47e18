"""Tells MLflow what the outboxes hold: the process beside a stage (see src/tracking/courier.py).

It ends when its stage has: after a last attempt, which is given up when MLflow takes nothing for some seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from src import cli, locks
from src.errors import InputError, RunError
from src.sections import Tracking
from src.tracking import machine, outbox, store
from src.tracking.courier import BEGIN, KILLED, REGULAR
from src.tracking.outbox import Outbox
from src.tracking.replica import Replica

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAUSE = 3.0  # seconds between two looks at first, so that short epochs share a batch
LONGEST = 30.0  # seconds between two attempts when MLflow cannot be reached
PATIENCE, HASTE = 10.0, 4.0  # seconds without an answer after which the last attempt is given up
IMPORTS = 60.0  # seconds that importing MLflow may take on a busy machine
BUSY = 30.0  # seconds to wait for another process that tells MLflow of the same run
LAST_READING = 1.0  # seconds to wait for the last reading of the machine's load
UNSENT = 3  # exit code
NICE = 10  # of 19


class Sender:
    """Repeats the outboxes of one store to MLflow: that of the run `first`, which the stage beside it has open, and
    then those that nobody has. `got_on(seconds)` is called after each step, with the time that the next may need."""

    def __init__(self, tracking: Tracking, first: str | None = None, got_on: Callable[[float], None] = lambda _: None):
        self._tracking, self._first, self._got_on = tracking, first, got_on
        self._client: MlflowClient | None = None
        self._own: Replica | None = None
        self._held = ExitStack()
        self.run_id: str | None = None  # of the first run, once MLflow has it

    def send(self) -> list[str]:
        """Tell MLflow all there is; returns why others than the first run could not be told, a line for each. Raises
        what MLflow raises for the first; the next call goes on from there."""
        refused = []
        for box in self.waiting():
            self._got_on(0)
            if box.key == self._first:
                self._send_own(box)
                continue
            try:
                self.send_other(box)
            except Exception as error:  # one that cannot be told must not hold up the next
                refused.append(f"MLflow could not be told of {box.path} ({store.reason(error)})")
        return refused

    def connect(self) -> MlflowClient:
        """The client, made at the first call. InputError when the store does not answer."""
        if self._client is None:
            self._got_on(IMPORTS)
            self._client = store.connect(self._tracking)
            self._got_on(0)
        return self._client

    def _send_own(self, box: Outbox) -> None:
        try:
            if self._own is None:
                # the process beside a stage that was killed just now may still be at it
                self._got_on(BUSY)
                self._held.enter_context(locks.held(box.path / "sending", "tells MLflow of this run", BUSY))
                self._own = Replica(self.connect(), box, self._tracking, self._got_on)
            is_over = self._own.send()
            self.run_id = self._own.run_id
        except Exception:
            self._own = None  # how far MLflow got is to be asked anew
            self._held.close()
            raise
        if is_over:
            self._held.close()
            outbox.remove(box)

    def send_other(self, box: Outbox) -> str | None:
        """Tell MLflow of a run that nobody has open, unless another process does; its id."""
        try:
            with locks.held(box.path / "sending", "tells MLflow of this run"):
                if not box.header_path.exists():  # another process was quicker
                    return None
                replica = Replica(self.connect(), box, self._tracking, self._got_on)
                is_over = replica.send()
        except RunError:
            return None
        except FileNotFoundError:
            if not box.header_path.exists():  # another process told it, and removed the folder with the lock in it
                return None
            raise
        if is_over:
            outbox.remove(box)
        return replica.run_id

    def waiting(self) -> list[Outbox]:
        """The outboxes of this store: the first, runs that nobody has open, and then the runs under others."""
        here = store.redact(store.uri(self._tracking))
        ours = []
        for box in outbox.found():
            # damaged, which src.doctor tells; or another user's, or just removed by another process
            with suppress(InputError, OSError):
                header, is_first = box.header, box.key == self._first
                if header["tracking_uri"] == here and (is_first or not outbox.is_held(box)):
                    ours.append((not is_first, header["parent"] is not None, box))
        return [box for *_, box in sorted(ours, key=lambda one: one[:2])]


class Stage:
    """The stage beside this process, heard through stdin: a thread waits for its last word, and then ends this process
    when MLflow takes nothing any more. A call to a server that hangs ends by no other way."""

    def __init__(self) -> None:
        line = sys.stdin.readline()
        if not line:  # it has ended without a run
            sys.exit(0)
        asked = json.loads(line)
        self.key, self.is_training = asked["key"], asked["is_training"]
        self.tracking = Tracking.model_validate(asked["tracking"])
        self.wanted, self.over, self.is_failing = threading.Event(), threading.Event(), False
        self._step, self._needs = time.monotonic(), 0.0
        threading.Thread(target=self._listen, name="stage", daemon=True).start()

    def _allowed(self, limit: float) -> float:
        return (PATIENCE if limit == REGULAR and not self.is_failing else HASTE) + self._needs

    def got_on(self, seconds: float) -> None:
        """A step is done; the next may need so many seconds."""
        self._step, self._needs = time.monotonic(), seconds

    def _listen(self) -> None:
        while (word := sys.stdin.readline()) and json.loads(word) == BEGIN:
            self.wanted.set()
        limit = float(word or KILLED)
        self.over.set()
        self.wanted.set()
        importlib.import_module("mlflow")  # at which the main thread may be: the limit is on what comes after it
        self._step = time.monotonic()
        end = self._step + limit
        while time.monotonic() < min(self._step + self._allowed(limit), end):
            time.sleep(0.1)
        tell("say", "MLflow does not answer")
        os._exit(UNSENT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m src.tracking.sender", description=__doc__)
    parser.add_argument("--later", type=float, default=0.0, help="seconds into the run before MLflow is imported (0)")
    later = parser.parse_args().later
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    step_back()
    store.configure()
    if not later:
        importlib.import_module("mlflow")  # the stage has imports of its own to do before it has a run
    stage = Stage()
    stage.wanted.wait(later)
    begun = time.monotonic()
    sender, pause, told = Sender(stage.tracking, stage.key, stage.got_on), 0.0, set[str]()
    watching = machine.watch(Outbox(stage.key), stage.over) if stage.is_training else None
    while True:
        is_last = stage.over.wait(pause)
        if is_last and watching:
            watching.join(LAST_READING)
        try:
            if is_last or not pause:  # at first, and of a stage that could not say how it ended
                outbox.bury()
            for line in sender.send():
                if line not in told:
                    tell("say", f"{line}. See: python -m src.doctor")
                told.add(line)
            if stage.is_failing:
                tell("say", "MLflow is back, and has been told all")
            stage.is_failing, pause = False, machine.gap(PAUSE, begun)
        except Exception as error:  # whatever a store raises: what is in the outbox is safe, and is told again
            if not stage.is_failing:
                tell("say", f"MLflow cannot be told ({store.reason(error)}); all is kept, and is told later")
            stage.is_failing, pause = True, min(2 * max(pause, PAUSE), LONGEST)
        tell("run_id", sender.run_id or "")
        if is_last:
            return UNSENT if stage.is_failing else 0


def step_back() -> None:
    """Leave the processor to the training where both want it: on Linux a session counts as one, whatever its own
    processes are to each other."""
    os.nice(NICE)
    with suppress(OSError):  # another system, or a Linux that does not weigh sessions
        Path("/proc/self/autogroup").write_text(str(NICE))


def tell(kind: str, words: str) -> None:
    """A line for the stage, if it is still there."""
    try:
        print(kind, words.replace("\n", " "), flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # nor must the end of this process trip over it


if __name__ == "__main__":
    with cli.few_collections():
        sys.exit(main())
