"""What MLflow has, in MLflow's own terms: which runs, the data that one saw, and its model as MLflow serves it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "run.key"  # the tag that finds a run again when the answer of its creation was lost
# what the served model runs on; MLflow would otherwise look for them by importing everything
REQUIREMENTS = ("torch", "numpy", "pandas", "pydantic", "safetensors")


def by_key(client: MlflowClient, experiment_id: str, key: str) -> list[Run]:
    """The runs that have this key, the oldest first; there should be one at most."""
    return list(client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}'", order_by=["start_time ASC"]))


def keys_below(client: MlflowClient, experiment_id: str, run_id: str) -> set[str]:
    """The keys of the runs under this one."""
    found: set[str] = set()
    words, page = f"tags.`mlflow.parentRunId` = '{run_id}'", None
    while page is None or page.token:
        page = client.search_runs([experiment_id], words, page_token=page.token if page else None)
        found |= {run.data.tags[KEY] for run in page if KEY in run.data.tags}
    return found


def is_there(client: MlflowClient, run_id: str, experiment_id: str) -> bool:
    """Whether the store has the run, in that experiment and not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return info.experiment_id == experiment_id and info.lifecycle_stage == "active"


def dataset(client: MlflowClient, run_id: str, facts: dict[str, Any]) -> None:
    """Prepared data as the run's input: name, digest, source, profile, columns. Told again, it is there once."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=facts["name"],
        digest=facts["digest"][:36],  # MLflow's limit
        source_type="local",
        source=facts["source"],
        schema=_specs(facts["columns"], as_json=True),
        profile=facts["profile"],
    )
    client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


def model(client: MlflowClient, run_id: str, sources: Path, parts: list[Path], columns: list[tuple[str, str]]) -> None:
    """An exported model as an MLflow model: rows as the user has them in, predictions out, no pickle inside.

    sources: the folder of the code that serves it (serving.py and what it imports), which travels with it. parts: the
    weights and the spec.
    """
    from importlib.metadata import version

    import mlflow
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model, ModelSignature

    experiment_id = client.get_run(run_id).info.experiment_id
    there = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    if any(one.status == LoggedModelStatus.READY for one in there):
        return  # a training that was complete before: its weights are the same
    # Model.log puts the model into the active experiment, and the run's is the one that is wanted
    mlflow.set_experiment(experiment_id=experiment_id)
    # the signature is written from the schema, so there is nothing for an example to teach
    warnings.filterwarnings("ignore", message=".*input example was not provided.*")
    weights, spec = parts
    Model.log(
        artifact_path=None,
        name="model",
        flavor=mlflow.pyfunc,
        run_id=run_id,
        python_model=str(sources / "serving.py"),
        artifacts={"weights": str(weights), "spec": str(spec)},
        code_paths=[str(sources)],
        signature=ModelSignature(inputs=_specs(columns)),
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
    )


def _specs(columns: list[tuple[str, str]], as_json: bool = False) -> Any:
    import json

    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    # words, dates, yes and no come in many types, and the encoding takes them all
    specs: list[Any] = [
        ColSpec("double" if kind == "double" else AnyType(), name, required=False) for name, kind in columns
    ]
    return json.dumps({"mlflow_colspec": [spec.to_dict() for spec in specs]}) if as_json else Schema(specs)
