"""Runs looked up in an MLflow store that has many: by the command that people type, and by what the process beside a
stage asks MLflow for. python -m bench.scaling calls it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bench.startup import ROOT, timed
from src.metrics import of_task
from src.params import Params
from src.sections import Tracking
from src.tracking import audit, lineage, store
from src.tracking.replica import KEY, by_key
from src.tracking.runs import PARENT

COMMANDS = {
    "python -m src.compare": [],
    "the same, --metric accuracy": ["--metric", "accuracy"],
    "the same, two runs": ["00000000", "00000001"],
}
STUDY = 10  # runs: the first of so many is one with the others as its trials
INSERTS = {
    "runs": "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, experiment_id) "
    "VALUES (?, ?, 'me', 'FINISHED', ?, ?, 'active', ?)",
    "params": "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
    "tags": "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
    "metrics": "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, ?, 0, 0)",
}


def lookups(counts: list[int], rounds: int) -> pd.DataFrame:
    """Every lookup `rounds` times in stores of so many runs: runs, what, seconds, a row each time."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            project = Path(folder) / str(count)
            project.mkdir()
            shutil.copy2(ROOT / "params.yaml", project)
            fill(project / "mlflow.db", count)
            looked_up = measured(project, count)
            for _ in range(rounds):
                rows += [(count, what, seconds(look)) for what, look in looked_up.items()]
    return pd.DataFrame(rows, columns=["runs", "what", "seconds"])


def measured(project: Path, count: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name; a call does it once."""
    tracking = Tracking(uri=f"{store.SQLITE}{project / 'mlflow.db'}")
    client = store.connect(tracking)
    experiment_id = store.experiment(client, tracking)
    around = {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(project)}
    commands = {
        what: partial(timed, project, ["-m", "src.compare", *words], **around) for what, words in COMMANDS.items()
    }
    return commands | {
        "a run, or a parent, by its key": partial(by_key, client, experiment_id, name_of(count // 2)),
        "a key that no run has": partial(by_key, client, experiment_id, "none"),
        "runs left RUNNING": partial(audit.stale, client, tracking),
    }


def fill(path: Path, count: int) -> None:
    """An SQLite store, made by MLflow, with runs that have the params, metrics and tags of trainings."""
    tracking = Tracking(uri=f"{store.SQLITE}{path}")
    experiment_id = int(store.experiment(store.connect(tracking), tracking))
    names, now = [name_of(number) for number in range(count)], int(time.time() * 1000)
    params = {key: str(value) for key, value in Params().flat().items()}
    metrics = [
        f"{of}/{name}"
        for of in ("train", "val", "best_train", "best_val", "test")
        for name in of_task("classification")
    ]
    values = np.random.default_rng(0).random((count, len(metrics)))
    tags = {**lineage.tags(), "data.digest": "0" * 64, "fingerprint": "0" * 64, "mlflow.note.content": "a note " * 50}
    with sqlite3.connect(path) as database:
        started = ((name, name, now + place, now + place, experiment_id) for place, name in enumerate(names))
        database.executemany(INSERTS["runs"], started)
        database.executemany(INSERTS["params"], ((name, *pair) for name in names for pair in params.items()))
        own = ((name, *pair) for name in names for pair in (tags | {KEY: name, "mlflow.runName": name}).items())
        database.executemany(INSERTS["tags"], own)
        above = ((name, PARENT, name_of(place - place % STUDY)) for place, name in enumerate(names) if place % STUDY)
        database.executemany(INSERTS["tags"], above)
        points = (
            (name, key, value, now)
            for name, row in zip(names, values, strict=True)
            for key, value in zip(metrics, row, strict=True)
        )
        database.executemany(INSERTS["metrics"], points)
    database.close()


def name_of(number: int) -> str:
    """Name, id and key of a run."""
    return f"{number:08x}{0:024x}"


def seconds(look: Callable[[], object]) -> float:
    start = time.perf_counter()
    look()
    return time.perf_counter() - start
