"""Locks between processes, with the number of the one that holds them. They go with their process, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from src.errors import RunError


@contextmanager
def held(path: Path, doing: str, wait: float = 0) -> Iterator[None]:
    """Hold the lock in a file. RunError when another process does, after so many seconds: process 123 `doing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(path.name + ".pid")  # the lock's own file is emptied by whoever asks for it
    try:
        with FileLock(path, timeout=wait):
            holder.write_text(str(os.getpid()), encoding="ascii")
            yield
            holder.unlink(missing_ok=True)  # with its folder, perhaps
    except Timeout:
        process = holder.read_text(encoding="ascii") if holder.exists() else "unknown"
        raise RunError(f"process {process} {doing}: wait for it, or end it") from None
