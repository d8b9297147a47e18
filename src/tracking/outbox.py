"""What is said of a run, on disk before MLflow is told: training never waits for MLflow, and nothing is lost with it.

`models/outbox/<key>/` holds `run.json` (which run), `events.jsonl` (what was said, in order) and `files/` (what goes
along). Another process (src/tracking/sender.py) repeats it to MLflow, and removes the folder when all is told. The
process that has the run open holds a lock and touches `heartbeat`: MLflow cannot know that a process was killed, but
whoever finds a run RUNNING here that nobody holds can.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from src import cli, files, locks, paths
from src.errors import InputError, RunError
from src.journal import Journal

BEAT = 2.0  # seconds
WAIT = 10.0  # seconds, for another command that is just marking the run as KILLED
REMEDY = "See: python -m src.doctor"
LIMIT = 5e9  # bytes that files which wait for MLflow may take; what comes beyond is left out, and the run says so

Event = dict[str, Any]


class Outbox:
    """The folder of one run. `key` names the run from its first moment on, before MLflow has given it an id."""

    def __init__(self, key: str) -> None:
        self.key, self.path = key, paths.outbox() / key
        self.header_path, self.heartbeat = self.path / "run.json", self.path / "heartbeat"
        self.events, self.load = Journal(self.path / "events.jsonl"), Journal(self.path / "system.jsonl")
        self.sent_path, self._count_path = self.path / "sent.json", self.path / "count.json"
        self._said: int | None = None  # events so far, once this process has counted them

    @property
    def begun(self) -> float:
        """When its header was written, in seconds since 1970; 0 when another process has just removed it."""
        try:
            return self.header_path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def header(self) -> dict[str, Any]:
        """Which run it is: key, run_id (null until MLflow gave one), tracking_uri, experiment, name, parent (key),
        created (seconds since 1970), history (path or null), tags and params. InputError when it is damaged."""
        return files.read_sealed(self.header_path, REMEDY)

    @property
    def sent(self) -> dict[str, Any]:
        """How far MLflow has got: run_id, events and load (bytes of the files). Lost or damaged, all is told again,
        which changes nothing."""
        try:
            return files.read_sealed(self.sent_path)
        except InputError:
            return {"run_id": None, "events": 0, "load": 0}

    @property
    def status(self) -> str | None:
        """What was said last of how the run is; None for a note on a run that is not open."""
        return status_of(self.said())

    @property
    def history(self) -> Path | None:
        """The folder of the training's history, whose epochs belong to the run."""
        named = self.header["history"]
        return paths.root() / named if named else None

    def say(self, do: str, **facts: Any) -> None:
        """Add an event, for MLflow to be told. Only who holds the outbox, or its lock, may."""
        self.say_all([{"do": do, **facts}])

    def say_all(self, events: list[Event]) -> None:
        """Add several, at the price of one."""
        if self._said is None:
            self._said = len(self.events.read()[0])
        now = time.time()
        self.events.append(*({"time": now, **event} for event in events))
        self._said += len(events)
        self._count(self._said)

    def said(self) -> list[Event]:
        """Every event so far. InputError when one is damaged, or when the last ones are gone."""
        counted = files.read_sealed(self._count_path, REMEDY)["events"] if self._count_path.exists() else 0
        events = self.events.read()[0]  # after the count: another process may be adding to both
        if len(events) < counted:
            raise InputError(
                f"{self.events.path} has lost its end: {len(events)} of {counted} events are there. {REMEDY}"
            )
        return events

    def mend(self) -> None:
        """Set aside what is damaged. A run without its header is no more told of; its epochs are in its history."""
        self.events.salvage()
        self._said = None
        self._count(len(self.events.read()[0]))
        self.sent_path.unlink(missing_ok=True)  # it counts the lines that were there
        try:
            files.read_sealed(self.header_path)
        except InputError:
            files.set_aside(self.header_path)

    def keep(self, path: Path) -> str | None:
        """Keep a file or a folder as it is now, and return where, for an event; None when there is no room for it."""
        folder = self.path / "files"
        folder.mkdir(exist_ok=True)
        target = folder / f"{sum(1 for _ in folder.iterdir()):04d}" / path.name
        target.parent.mkdir()
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            _same(path, target)
        if (taken := files.size(paths.outbox(), shared=False)) > LIMIT:
            shutil.rmtree(target.parent)
            words = f"with it {taken / 1e9:.1f} GB would wait for MLflow, and {LIMIT / 1e9:.0f} GB is the limit"
            cli.say(f"{path} is not kept: {words}")
            self.say("tags", values={f"left_out.{path.name}": words})
            return None
        files.sync(target)
        for above in (target.parent, folder, self.path):
            files.sync_folder(above)
        return target.relative_to(self.path).as_posix()

    def take(self, where: str) -> Path:
        """The file that `keep` has kept. InputError for what is no such place: an event may be damaged or hostile."""
        path = self.path / where
        if not path.resolve().is_relative_to((self.path / "files").resolve()):
            raise InputError(f"{self.events.path} names {where}, which is no file that was kept in {self.path}")
        return path

    def _count(self, events: int) -> None:
        files.write_sealed(self._count_path, {"events": events})

    def last_sign(self) -> float:
        """When its process was last seen alive, in seconds since 1970."""
        signs = [self.heartbeat, self.events.path]
        return max((path.stat().st_mtime for path in signs if path.exists()), default=self.begun)


def status_of(events: list[Event]) -> str | None:
    """What these say last of how the run is."""
    return next((event["status"] for event in reversed(events) if event["do"] == "status"), None)


@contextmanager
def opened(facts: dict[str, Any]) -> Iterator[Outbox]:
    """The outbox of a run, held while inside; `facts` become its header. RunError when another process holds it.

    What waits there from before stays, and goes to the store that is asked for now.
    """
    outbox, over = Outbox(facts["key"]), threading.Event()
    beating = threading.Thread(target=_beat, args=(outbox.heartbeat, over), name="heartbeat", daemon=True)
    with _locked(outbox, f"writes to run {facts['name']}"):
        outbox.events.mend()
        _write_header(outbox, facts)
        beating.start()
        try:
            yield outbox
        finally:
            over.set()
            beating.join()


@contextmanager
def _locked(outbox: Outbox, doing: str) -> Iterator[None]:
    """Hold the lock of a run, whose folder nobody removes while it is taken. Who just looks at it is waited for."""
    deadline = time.monotonic() + WAIT
    with ExitStack() as held:
        while True:
            try:
                with _arranging():
                    held.enter_context(locks.held(outbox.path / "lock", doing))
                break
            except RunError:
                if time.monotonic() > deadline:
                    raise
        yield


def found() -> list[Outbox]:
    """Every outbox of the project, the oldest first."""
    boxes = [Outbox(path.parent.name) for path in paths.outbox().glob("[!.]*/run.json")]
    return sorted(boxes, key=lambda box: (box.begun, box.key))


def histories() -> set[Path]:
    """The folders of trainings whose epochs MLflow may not have yet."""
    folders = set()
    for box in found():
        with suppress(InputError):  # damaged, or another process has just removed it
            if folder := box.history:
                folders.add(folder)
    return folders


def is_held(outbox: Outbox) -> bool:
    """Whether a process has the run open."""
    return locks.holder(outbox.path / "lock") is not None


def bury() -> None:
    """Say of each run that its process left RUNNING, as only one that was killed outright does, that it was KILLED."""
    files.sweep(paths.outbox())
    with _arranging():
        for outbox in found():
            try:
                with locks.held(outbox.path / "lock", "has it open"):
                    _bury(outbox)
            except RunError:
                continue  # its process lives
            except (InputError, OSError) as error:  # another user's, perhaps; the next one can be told
                cli.say(str(error))


def _bury(outbox: Outbox) -> None:
    last = outbox.last_sign()
    outbox.events.mend()
    status, header = outbox.status, outbox.header
    if status == "RUNNING" or (status is None and header["parent"]):  # a trial that was not written to its end
        outbox.say("status", status="KILLED", time=last)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
        cli.say(f"run {header['name']} was left RUNNING by a process that is gone: KILLED at {when}")


def remove(outbox: Outbox) -> None:
    """Remove an outbox that MLflow has been told all of, unless somebody has opened it again."""
    with _arranging():
        if is_held(outbox) or not outbox.header_path.exists() or len(outbox.said()) > outbox.sent["events"]:
            return
        files.remove_folder(outbox.path)


@contextmanager
def _arranging() -> Iterator[None]:
    """While folders are made and removed: the lock of a run lies in its folder, and must not go with it unseen."""
    paths.outbox().mkdir(parents=True, exist_ok=True)
    with FileLock(paths.outbox() / ".lock"):
        yield


def _write_header(outbox: Outbox, facts: dict[str, Any]) -> None:
    try:
        before = outbox.header if outbox.header_path.exists() else None
    except InputError as error:
        cli.say(f"{error}. It is written anew")
        before = None
    if before and (before["tracking_uri"], before["experiment"]) != (facts["tracking_uri"], facts["experiment"]):
        outbox.sent_path.unlink(missing_ok=True)
    if before:  # of a stage that MLflow could not be told of
        own = {name: before[name] for name in ("history", "run_id", "params") if not facts[name]}
        facts = {**facts, **own, "tags": {**facts["tags"], **before["tags"]}}
    files.write_sealed(outbox.header_path, facts)


def _beat(heartbeat: Path, over: threading.Event) -> None:
    heartbeat.touch()
    while not over.wait(BEAT):
        os.utime(heartbeat)


def _same(path: Path, target: Path) -> None:
    """The content of a file under another name, without a copy where the file system can: files here are never
    changed, only replaced."""
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)
