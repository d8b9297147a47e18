"""The process beside a stage that tells MLflow what the outbox holds, as the stage sees it: started, and ended.

A process and no thread: importing MLflow and waiting for a server must not take the interpreter from the training
loop, and what a training that is killed has left can still be told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from src import cli, paths
from src.sections import Tracking

COMMAND = [sys.executable, "-m", "src.tracking.sender"]
SOURCES = Path(__file__).resolve().parents[2]
# how long it may go on at most, in seconds: the last thing it is told. Nothing at all: this process is KILLED
REGULAR, INTERRUPTED, ORPHANED, KILLED = 3600.0, 30.0, 2.0, 4.0
LATER = 30.0  # seconds: a search that is over sooner has the processor to itself, and MLflow is told after it
BEGIN = "begin"  # what it is told when it need wait no more
WAITS = "what MLflow was not told waits in models/outbox. The next stage tells it, or: python -m src.doctor --sync"

_started: list[subprocess.Popen[str]] = []


def start(later: float = 0.0) -> None:
    """Start the process before there is a run for it: it imports MLflow while this one imports torch, or so many
    seconds into the run (see `Courier.begin`) where others want the processor first."""
    # a session of its own: Ctrl-C is for the stage, and what it leaves is still to be told
    process = subprocess.Popen(
        [*COMMAND, "--later", str(later)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=SOURCES,
        env={**os.environ, "DVC_ROOT": str(paths.root())},
    )
    _started.append(process)


class Courier:
    """Tells MLflow of the run `key`, and of whatever else waits, until `close`."""

    def __init__(self, key: str, tracking: Tracking, is_training: bool) -> None:
        self._run_id: str | None = None
        if not _started:
            start()
        self._process = _started.pop()
        self._listening = threading.Thread(target=self._listen, name="courier", daemon=True)
        self._listening.start()
        # by this way, and not by its command line, which others can see: the address may have a password
        self._send({"key": key, "tracking": tracking.model_dump(), "is_training": is_training})

    def begin(self) -> None:
        """Let it wait no more: there is little else to do now."""
        self._send(BEGIN)

    def close(self, patience: float = REGULAR) -> str | None:
        """Wait until all is told, or cannot be told now; returns the run's id in MLflow, if it has one."""
        self._send(patience)
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        if patience == ORPHANED:
            cli.say(WAITS)  # for it is to go at once, and the other follows in seconds
            return None
        try:
            code = self._process.wait(cli.EVERY)
        except subprocess.TimeoutExpired:
            cli.say("telling MLflow")
            code = self._process.wait()
        self._listening.join()
        if code:
            cli.say(WAITS)
        return self._run_id

    def _send(self, message: Any) -> None:
        with suppress(BrokenPipeError):  # it has ended before its time; its exit code tells
            print(json.dumps(message), file=self._process.stdin, flush=True)

    def _listen(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "run_id":
                self._run_id = rest or self._run_id
            elif word == "say":  # libraries print there too, addresses among it
                cli.say(rest)
