"""What a run keeps beside numbers: the data it saw, checkpoints, pictures, the model as MLflow serves it, its
description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src import checkpoints, paths, plots
from src.data.schema import Numeric, Pixels, Schema
from src.params import Params
from src.tracking.history import History
from src.tracking.run import Run

SOURCES = Path(__file__).resolve().parents[1]


def log_data(run: Run, schema: Schema) -> None:
    """The prepared data as the run's dataset input, with its digest, columns and counts; and the report on it."""
    run.log_dataset(
        name=schema.title,
        digest=schema.digest,
        source=json.dumps({"uri": schema.source, "sha256": schema.source_sha256}),
        profile=json.dumps({"rows": schema.rows, "dropped": schema.dropped, "outputs": schema.outputs}),
        columns=_columns(schema),
    )
    run.log_artifacts([path for path in (paths.DATA_REPORT, paths.COLUMNS) if path.is_file()], "data")


def log_training(run: Run, params: Params, schema: Schema, folder: Path, report: dict[str, Any]) -> None:
    """What the train stage leaves in the run: report, description, curves, last and best checkpoint, model."""
    records = History(folder).read()[0]
    pictures = plots.write(paths.PICTURES / "train", {"loss": plots.curves(records, report["best_epoch"])})
    run.log_metrics({key: value for key, value in report.items() if isinstance(value, float)}, "best_train/")
    run.log_metrics({"best_epoch": report["best_epoch"]})
    run.log_artifacts(pictures, "train")
    run.log_model(SOURCES, [paths.WEIGHTS, paths.SPEC], _columns(schema))
    for epoch in sorted({report["best_epoch"], report["epochs"]}):
        path = checkpoints.path_of(folder, epoch)
        run.log_artifacts([path, checkpoints.digest_of(path)], "checkpoints")
    describe(run, schema, params.flat(), report)


def describe(run: Run, schema: Schema, params: dict[str, Any], report: dict[str, Any]) -> None:
    """A short Markdown description at the top of the run's page."""
    rows = schema.rows
    text = (
        f"**{schema.title}** ({schema.task}, target `{schema.target.name}`): {rows['train']} rows to train, "
        f"{rows['val']} to validate, {rows['test']} to test, {schema.dropped['missing target']} dropped.\n\n"
        f"**{params['model.name']}** with {params['train.optimizer']}, learning rate {params['train.lr']:g} "
        f"({params['train.schedule']}), batch {params['train.batch_size']}, seed {params['seed']}.\n\n"
        f"Best epoch {report['best_epoch']} of {report['epochs']}, by validation {params['train.monitor']}."
    )
    run.set_tags({"mlflow.note.content": text})


def _columns(schema: Schema) -> list[tuple[str, str]]:
    """Name and type of what the model takes."""
    found = []
    for column in schema.columns:
        names = column.names if isinstance(column, Pixels) else [column.name]
        kind = "double" if isinstance(column, Numeric | Pixels) else "any"
        found += [(name, kind) for name in names]
    return found
