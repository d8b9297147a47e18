"""Locks between processes, with the number of the one that holds them. They go with their process, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from src.errors import RunError

BLINK = 0.2  # seconds: who just looks whether a lock is held, holds it for a moment


@contextmanager
def held(path: Path, doing: str, wait: float = 0) -> Iterator[None]:
    """Hold the lock in a file. RunError when another process does, after so many seconds: process 123 `doing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=max(wait, BLINK)):
            _number(path).write_text(str(os.getpid()), encoding="ascii")
            yield
            _number(path).unlink(missing_ok=True)  # with its folder, perhaps
    except Timeout:
        raise RunError(f"process {_written(path)} {doing}: wait for it, or end it") from None


def holder(path: Path) -> str | None:
    """The number of the process that holds the lock in a file ("unknown" while it is taking it), or None."""
    if not path.exists():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        return _written(path)


def _written(path: Path) -> str:
    try:
        return _number(path).read_text(encoding="ascii") or "unknown"
    except FileNotFoundError:
        return "unknown"


def _number(path: Path) -> Path:
    return path.with_name(path.name + ".pid")  # beside: on Windows a locked file cannot be read
