"""The run of one experiment, as a stage sees it: opened by train, gone on with by validate and evaluate, truthful at
its end. What is said of it goes to its outbox, and a process beside this one tells MLflow."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
import uuid
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from src import cli, files, parent, paths
from src.data.schema import Schema
from src.errors import InputError
from src.fingerprint import Fingerprint
from src.params import Params
from src.sections import Tracking
from src.tracking import courier, lineage, outbox, store

Facts = dict[str, Any]
NOTE = "run.json"  # in the folder of a training: the run that its epochs belong to


class Run:
    """A run that is RUNNING inside `with` and afterwards FINISHED, FAILED (any exception; its traceback becomes an
    artifact) or KILLED (SIGTERM, Ctrl-C)."""

    def __init__(self, facts: Facts, tracking: Tracking) -> None:
        self.facts, self._tracking = facts, tracking
        self._held = ExitStack()

    def __enter__(self) -> Run:
        with ExitStack() as held:
            self._outbox = held.enter_context(outbox.opened(self.facts))
            self._outbox.say("status", status="RUNNING")
            self._courier = courier.Courier(self.key, self._tracking, self.facts["history"] is not None)
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        try:
            with self._held:
                try:
                    if kind and not stopped:
                        self._keep_traceback("".join(traceback.format_exception(error)))
                finally:
                    self._outbox.say("status", status="KILLED" if stopped else "FAILED" if kind else "FINISHED")
        finally:
            # only now, when no more is said, can MLflow have been told all
            patience = courier.ORPHANED if parent.is_gone() else courier.INTERRUPTED if stopped else courier.REGULAR
            self.facts["run_id"] = self._courier.close(patience) or self.facts["run_id"]

    @property
    def key(self) -> str:
        return self.facts["key"]

    @property
    def name(self) -> str:
        return self.facts["name"]

    def log_metrics(self, values: dict[str, float], prefix: str = "") -> None:
        """Numbers that are not a curve; MLflow is not told again those that it has."""
        self._outbox.say("metrics", values={prefix + key: value for key, value in values.items()})

    def set_tags(self, values: dict[str, str]) -> None:
        self._outbox.say("tags", values=values)

    def log_artifacts(self, written: list[Path], folder: str) -> None:
        for path in written:
            kept = self._outbox.keep(path)
            if kept:
                self._outbox.say("artifact", file=kept, folder=folder)

    def log_dataset(self, **facts: Any) -> None:
        """The data that the run saw, as its input."""
        self._outbox.say("dataset", **facts)

    def log_model(self, sources: Path, parts: list[Path], columns: list[tuple[str, str]]) -> None:
        """A model with the code that serves it; columns: name and type ("double" or "any") of what it takes."""
        kept = [self._outbox.keep(part) for part in (sources, *parts)]
        if all(kept):
            self._outbox.say("model", sources=kept[0], parts=kept[1:], columns=columns)

    def log_trials(self, trials: list[Facts]) -> None:
        """Runs under this one, each whole: key, name, created, tags, params, records, metrics, status."""
        self._outbox.say_all([{"do": "trial", **trial} for trial in trials])

    def begin_telling(self) -> None:
        """Have MLflow told from now on, if that was to begin later."""
        self._courier.begin()

    def write(self, path: Path) -> None:
        """Name this run in a file, so that later stages find it: ids and the store's address, never a password."""
        kept = ("key", "run_id", "name", "experiment", "tracking_uri", "created")
        files.write_sealed(path, {name: self.facts[name] for name in kept})

    def _keep_traceback(self, words: str) -> None:
        path = self._outbox.path / "traceback.txt"
        files.write_bytes(path, text(words).encode())
        self.log_artifacts([path], "")


def begin(params: Params, schema: Schema, mark: Fingerprint, folder: Path) -> Run:
    """The run of the training in `folder`: the one it had before, unless store or experiment are others now, or a new
    one. Its epochs are those of the history there."""
    tags = {**lineage.tags(), **terms(schema, mark), "fingerprint": mark.digest, "task": params.task}
    name = readable_name(params, schema, tags.get("dvc.exp"))
    facts = new(name, tags, params) | {"history": place(folder)}
    note = folder / NOTE
    run = Run(facts | noted(note, facts), params.tracking)
    run.write(note)
    return run


def terms(schema: Schema, mark: Fingerprint) -> dict[str, str]:
    """Tags that say whether two runs saw the same data and ran the same code. The digest of prepared data changes with
    the seed that split it, that of its source does not; a commit says nothing of changes that were not committed."""
    code = hashlib.sha256(json.dumps(mark.code, sort_keys=True).encode()).hexdigest()
    return {"data.digest": schema.digest, "data.source": schema.source_sha256, "code.digest": code}


def rejoin(params: Params, note: Path = paths.RUN) -> Run:
    """The run that the train stage named. One that the store does not have (a clone with a pulled cache, another
    store) is opened anew there, and tagged with where it came from."""
    return Run(known(params, files.read_sealed(note)), params.tracking)


def known(params: Params, origin: Facts) -> Facts:
    """The facts of a run that `write` has named before."""
    here = new(origin["name"], lineage.tags(), params)
    return here | {name: origin[name] for name in ("key", "run_id", "created")} | {"origin": origin["tracking_uri"]}


def new(name: str, tags: dict[str, str], params: Params, key: str | None = None) -> Facts:
    """The facts of a run that did not exist before; they become the header of its outbox."""
    return {
        "key": key or uuid.uuid4().hex,
        "run_id": None,
        "name": name,
        "experiment": params.tracking.experiment,
        "tracking_uri": store.redact(store.uri(params.tracking)),
        "origin": None,
        "created": time.time(),
        "parent": None,
        "history": None,
        "tags": tags,
        "params": {name: text(value) for name, value in params.flat().items()},
    }


def readable_name(params: Params, schema: Schema, experiment: str | None) -> str:
    """What tells runs apart at a glance: data, model, optimizer, learning rate, seed, DVC's name if it gave one."""
    parts = [
        schema.title,
        params.model.name,
        params.train.optimizer,
        f"lr{params.train.lr:g}",
        f"seed{params.seed}",
    ]
    return "-".join([*parts, experiment] if experiment else parts)


def place(folder: Path) -> str:
    """The folder of a training as the header of an outbox names it."""
    return folder.relative_to(paths.root()).as_posix()


def text(value: Any) -> str:
    """A value as MLflow keeps it; a password in an address must not reach the store."""
    return store.redact(value) if isinstance(value, str) else str(value)


def noted(note: Path, facts: Facts) -> Facts:
    """What a note says of the run before, if it is one of the same store and experiment."""
    if not note.exists():
        return {}
    try:
        was = files.read_sealed(note, "The training goes on in a new run")
    except InputError as error:
        files.set_aside(note)
        cli.say(str(error))
        return {}
    same = all(was[name] == facts[name] for name in ("experiment", "tracking_uri"))
    return {name: was[name] for name in ("key", "run_id", "name", "created")} if same else {}
