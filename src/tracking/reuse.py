"""Results that DVC has restored instead of making them: `dvc repro` runs no command then, so somebody must look."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from src import files, paths
from src.errors import InputError
from src.params import Params
from src.tracking import lineage, outbox, run
from src.tracking.courier import Courier
from src.tracking.run import Run


def remember(key: str) -> None:
    """The models in this workspace are those of the run `key`: it is no news any more."""
    files.write_json(paths.USED, key)


@contextmanager
def rejoined(params: Params) -> Iterator[Run]:
    """The run that the train stage named, for a stage that goes on with it. When that fails, it is news again should
    DVC find its results good after all."""
    paths.USED.unlink(missing_ok=True)
    with run.rejoin(params) as tracked:
        yield tracked
    remember(tracked.key)


def note(params: Params) -> str | None:
    """Have MLflow told that the run in models/run.json is in use again, with the time and the commit, if it is not the
    one that was here before. Returns the run's name then. It needs no network: what is said waits in the outbox.

    Where every stage is up to date, the run has passed them all, whatever had stopped it before."""
    if not paths.RUN.exists():
        return None
    origin = files.read_sealed(paths.RUN)
    if origin["key"] == _remembered():
        return None
    facts, tags = run.known(params, origin), lineage.tags()
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    used = {
        "reused.time": when,
        "reused.commit": tags.get("git.commit", "none"),
        "reused.dirty": tags.get("git.dirty", ""),
    }
    has_passed = _is_up_to_date()
    with outbox.opened(facts) as box:
        box.say("tags", values={name: value for name, value in used.items() if value})
        if has_passed:
            box.say("passed")
    Courier(facts["key"], params.tracking, is_training=False).close()
    if has_passed:
        remember(origin["key"])
    return origin["name"]


def _is_up_to_date() -> bool:
    """Whether DVC would run nothing."""
    asked = [sys.executable, "-m", "dvc", "status", "--quiet"]
    return subprocess.run(asked, cwd=paths.root(), stderr=subprocess.DEVNULL).returncode == 0


def _remembered() -> str | None:
    try:
        return files.read_json(paths.USED)
    except InputError:  # a fresh clone, or a file that a crash has torn: then all is news
        return None
