"""Files that a process was writing when it ended, and that nobody will rename any more: `.NAME.PID.partial`, and
`.NAME.partial` of prepared data, which has no number."""

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import psutil

from src import paths
from src.doctor.finding import Finding, ok, wrong
from src.params import Params


def partial_files(_: Params) -> Iterator[Finding]:
    """Those in models, reports and prepared data; checkpoints have a check of their own."""
    found = [
        path
        for folder in (paths.MODELS, paths.REPORTS, paths.PREPARED)
        for inside, _, names in os.walk(paths.root() / folder)
        for path in sorted(Path(inside) / name for name in names if fnmatch(name, ".*.partial"))
        if not path.is_relative_to(paths.checkpoints())
    ]
    left = [path for path in found if is_left(path)]
    for path in left:
        yield finding(path)
    if not left:
        yield ok(f"none; {len(found)} files are being written" if found else "none")


def finding(path: Path) -> Finding:
    return wrong(f"{path} was left half-written by a process that is gone", "removes it", partial(remove, path))


def remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return "Removed"


def is_left(path: Path) -> bool:
    """Whether the process that wrote a file is gone: by its number in the name, else by who has the file open."""
    try:
        written = path.stat().st_mtime
    except FileNotFoundError:  # it is written
        return False
    number = re.search(r"\.(\d+)\.partial$", path.name)
    if number:
        try:  # a process that is younger than the file only has the number of the one that wrote it
            return psutil.Process(int(number[1])).create_time() > written + 1
        except psutil.NoSuchProcess:
            return True
    return not any(_has_open(process, path) for process in psutil.process_iter())


def _has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return any(file.path == str(path.resolve()) for file in process.open_files())
    except psutil.Error:
        return False
