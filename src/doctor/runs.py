"""Runs: what MLflow has not been told, what it says that is not so, and its curves against the durable histories."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from src import locks, paths
from src.doctor.finding import Finding, ok, wrong
from src.errors import InputError
from src.params import Params
from src.tracking import audit, outbox, run, store
from src.tracking.outbox import Outbox


def told(settings: Params) -> Iterator[Finding]:
    """What waits in the outbox."""
    boxes, here = outbox.found(), store.redact(store.uri(settings.tracking))
    for box in boxes:
        if process := locks.holder(box.path / "lock"):
            yield ok(f"{box.path} is in use by process {process}")
            continue
        try:
            name, waiting = box.header["name"], len(box.said()) - box.sent["events"]
        except InputError as error:
            yield wrong(str(error), "keeps a copy, and leaves out what is damaged", partial(_mend, box))
            continue
        if waiting:
            said = f"MLflow has not been told all of run {name}: {waiting} things wait in {box.path}"
        else:
            said = f"run {name} was left by a process that is gone: its end waits in {box.path}"
        if box.header["tracking_uri"] == here:
            yield wrong(said, "tells MLflow", partial(_sync, settings, box))
        else:
            said = f"{said} for {box.header['tracking_uri']}"
            yield wrong(said, f"python -m src.doctor --adopt tells this store, rm -r {box.path} forgets it")
    if not boxes:
        yield ok("MLflow has been told everything")


def truthful(settings: Params) -> Iterator[Finding]:
    """Runs that are RUNNING in MLflow and nowhere else."""
    client = _client(settings)
    if client is None:
        yield ok("no store yet")
        return
    stale = audit.stale(client, settings.tracking)
    for left in stale:
        said = f"run {left.info.run_name} ({left.info.run_id}) is RUNNING in MLflow, and no process has it open"
        yield wrong(said, "marks it KILLED", partial(_end, client, left))
    if not stale:
        yield ok("none is RUNNING that does not run")


def whole(settings: Params) -> Iterator[Finding]:
    """The curves in MLflow against the histories of the trainings."""
    client, count, points, good = _client(settings), 0, 0, True
    if client is None:
        yield ok("no store yet")
        return
    for folder in sorted(path.parent for path in paths.checkpoints().glob(f"*/{run.NOTE}")):
        if locks.holder(folder / "lock"):
            continue  # MLflow is being told
        try:
            found = audit.curve(client, settings.tracking, folder)
        except InputError as error:
            good = False
            yield wrong(str(error), f"rm {folder / run.NOTE}: the next training there is a new run")
            continue
        if found is None:
            continue
        good = good and not found.missing and not found.repeated
        if found.missing:
            said = f"run {found.name} ({found.run_id}) lacks {found.missing} of {found.points} points of {folder}"
            yield wrong(said, "tells MLflow", partial(_resend, settings, folder))
        elif found.repeated:
            said = f"run {found.name} ({found.run_id}) has {found.repeated} points twice"
            yield wrong(said, f"mlflow runs delete --run-id {found.run_id}: dvc repro -f train opens it anew")
        else:
            count, points = count + 1, points + found.points
    if good:
        yield ok(f"{count} trainings, {points:,} points: each once in MLflow")


def _client(settings: Params) -> Any:
    """For the store, or None where there is none to look into: to look must not make one."""
    return store.connect(settings.tracking) if store.exists(settings.tracking) else None


def _mend(box: Outbox) -> str:
    with locks.held(box.path / "lock", "has it open"):
        box.mend()
    return "What it was lies beside, as .damaged"


def _sync(settings: Params, box: Outbox) -> str:
    audit.sync(settings.tracking)
    if box.header_path.exists():
        raise InputError("another process tells MLflow of it just now")
    return "MLflow has been told"


def _resend(settings: Params, folder: Path) -> str:
    audit.resend(settings.tracking, folder)
    return "MLflow has been told"


def _end(client: Any, left: Any) -> str:
    if audit.is_known(left):
        raise InputError("a process has opened it again")
    audit.end(client, left)
    return "Marked KILLED"
