"""What a run keeps beside numbers: the data it saw, the model as MLflow serves it, its description."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from src import checkpoints, paths, plots
from src.data.schema import Numeric, Pixels, Schema
from src.params import Params
from src.tracking.history import History
from src.tracking.run import Run

SOURCES = Path(__file__).resolve().parents[1]
# what the served model runs on; MLflow would otherwise look for them by importing everything
REQUIREMENTS = ("torch", "numpy", "pandas", "pydantic", "safetensors")


def log_data(run: Run, schema: Schema) -> None:
    """The prepared data as the run's dataset input, with its digest, columns and counts; and the report on it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=schema.title,
        digest=schema.digest[:36],  # MLflow's limit
        source_type="local",
        source=json.dumps({"uri": schema.source, "sha256": schema.source_sha256}),
        schema=json.dumps({"mlflow_colspec": [spec.to_dict() for spec in _columns(schema)]}),
        profile=json.dumps({"rows": schema.rows, "dropped": schema.dropped, "outputs": schema.outputs}),
    )
    run.client.log_inputs(run.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    run.log_artifacts([path for path in (paths.DATA_REPORT, paths.COLUMNS) if path.is_file()], "data")


def log_model(run: Run, schema: Schema) -> None:
    """The exported model as an MLflow model: rows as the user has them in, predictions out, no pickle inside.

    The code that serves it (src/serving.py and what it imports) travels with it.
    """
    from importlib.metadata import version

    import mlflow
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema as Types

    experiment_id = run.client.get_run(run.id).info.experiment_id
    logged = run.client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run.id}'")
    if any(model.status == LoggedModelStatus.READY for model in logged):
        return  # a training that was complete before: its weights are the same
    # Model.log puts the model into the active experiment, and the run's is the one that is wanted
    mlflow.set_experiment(experiment_id=experiment_id)
    # the signature is written from the schema, so there is nothing for an example to teach
    warnings.filterwarnings("ignore", message=".*input example was not provided.*")
    Model.log(
        artifact_path=None,
        name="model",
        flavor=mlflow.pyfunc,
        run_id=run.id,
        python_model=str(SOURCES / "serving.py"),
        artifacts={"weights": str(paths.WEIGHTS), "spec": str(paths.SPEC)},
        code_paths=[str(SOURCES)],
        signature=ModelSignature(inputs=Types(_columns(schema))),
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
    )


def log_training(run: Run, params: Params, schema: Schema, folder: Path, report: dict[str, Any]) -> None:
    """What the train stage leaves in the run: report, description, curves, last and best checkpoint, model."""
    records = History(folder).read()[0]
    pictures = plots.write(paths.PICTURES / "train", {"loss": plots.curves(records, report["best_epoch"])})
    run.log_metrics({key: value for key, value in report.items() if isinstance(value, float)}, "best_train/")
    run.log_metrics({"best_epoch": report["best_epoch"]})
    run.log_artifacts(pictures, "train")
    for epoch in sorted({report["best_epoch"], report["epochs"]}):
        path = checkpoints.path_of(folder, epoch)
        run.log_artifacts([path, checkpoints.digest_of(path)], "checkpoints")
    log_model(run, schema)
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


def _columns(schema: Schema) -> list[Any]:
    from mlflow.types import ColSpec
    from mlflow.types.schema import AnyType

    specs = []
    for column in schema.columns:
        names = column.names if isinstance(column, Pixels) else [column.name]
        # words, dates, yes and no come in many types, and the encoding takes them all
        kind = "double" if isinstance(column, Numeric | Pixels) else AnyType()
        specs += [ColSpec(kind, name, required=False) for name in names]
    return specs
