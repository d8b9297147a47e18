"""A stage ends when the `dvc` that started it is gone: killed outright, dvc takes nothing down with it."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

EVERY = 0.5  # seconds between two looks

_gone = threading.Event()


def is_gone() -> bool:
    """Whether the `dvc` that started this process was seen to be gone."""
    return _gone.is_set()


def watch() -> None:
    """Look from a thread, and end this process as SIGTERM does; nothing where no dvc started it."""
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    import psutil

    parents = psutil.Process().parents()
    dvc = next((process for process in parents if "dvc" in map(os.path.basename, process.cmdline()[:3])), None)
    if dvc is None:  # a program that uses dvc as a library
        return
    with suppress(psutil.NoSuchProcess):  # gone between the two questions
        while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(EVERY)
    _gone.set()
    print(f"dvc (process {dvc.pid}) is gone, and this stage with it", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
