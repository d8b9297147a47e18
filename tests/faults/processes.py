"""Train stages as processes of their own, with a fault in them if one is wanted.

Most of what a stage costs are its imports, and a process that is killed does them for nothing. So a stage is forked
from a server that has done them (warm), or is the command that a user types (cold): the same code from there on.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from tests.conftest import Project

INJECT = Path(__file__).parent / "inject"
STAGE = "stages.train"
LIMIT = 600  # seconds that a stage may take; none needs a tenth of it
# starting one process asks for the exit codes of all others, and each can be asked for by one thread at a time
ASKING = threading.Lock()
IMPORTED = (  # what a stage imports before, or while, it trains; what is not there any more is skipped
    "torch._dynamo",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "sklearn.metrics",
    "src.export",
    "src.progress",
    "src.tracking.artifacts",
    "src.tracking.run",
    STAGE,
)


class Stage:
    """A train stage that has been started. What it says is added to the file `said` in the project."""

    def __init__(self, project: Project, fault: str = "", log: str = "", cold: bool = False, **options: Any) -> None:
        added = {"FAULT": fault, "FAULT_LOG": log, "PYTHONPATH": str(INJECT) if fault or log else ""}
        self.environment = project.environment | {key: value for key, value in added.items() if value}
        self.path, self.began = project.path, time.monotonic()
        self._said_before = len(said(project))
        self._start_cold(**options) if cold or options else self._start_warm()

    def _start_cold(self, **options: Any) -> None:
        words = [str(self.path / ".venv/bin/python"), "-m", STAGE]
        options = {"cwd": self.path, "env": self.environment, "start_new_session": True, **options}
        with (self.path / "said").open("ab") as out:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)
        self.pid, self._code = process.pid, process.poll

    def _start_warm(self) -> None:
        process = server().Process(target=become_a_stage, args=(str(self.path), self.environment))
        with ASKING:
            process.start()
        assert process.pid
        self.pid, self._code = process.pid, lambda: process.exitcode

    @property
    def code(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it lives."""
        with ASKING:
            return self._code()

    def wait(self) -> int:
        deadline = time.monotonic() + LIMIT
        while (code := self.code) is None:
            assert time.monotonic() < deadline, f"still there after {LIMIT} seconds: {self.path}"
            time.sleep(0.01)
        return code

    def kill(self, group: bool = False) -> None:
        """SIGKILL, to the stage alone or to all that it started too."""
        if self.code is None:
            try:
                (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
            except ProcessLookupError:  # so young that it has no group yet
                os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 0) -> bool:
        """Until the condition holds, and so many seconds more; False when the stage ended before."""
        while not condition():
            if self.code is not None:
                return False
            time.sleep(0.005)
        time.sleep(seconds)
        return self.code is None

    @property
    def said(self) -> str:
        return (self.path / "said").read_text(errors="replace")[self._said_before :]


def said(project: Project) -> str:
    path = project.path / "said"
    return path.read_text(errors="replace") if path.exists() else ""


@cache
def server() -> Any:
    """Where stages are forked from: a process with one thread that has imported what they need, and has run nothing."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def become_a_stage(folder: str, environment: dict[str, str]) -> None:
    """In the forked process: what `python -m stages.train` does after the imports."""
    if os.getpid() != os.getsid(0):
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with open("/dev/null") as nothing, open("said", "ab") as out:
        for number, file in enumerate((nothing, out, out)):
            os.dup2(file.fileno(), number)
    sys.argv[:], sys.orig_argv[:] = [STAGE], [sys.executable, "-m", STAGE]
    sys.modules.pop(STAGE, None)
    if "PYTHONPATH" in environment:
        SourceFileLoader("inject", str(INJECT / "sitecustomize.py")).load_module()
    runpy.run_module(STAGE, run_name="__main__", alter_sys=True)
