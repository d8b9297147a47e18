"""What a training left behind, and whether two of them left the same, to the last bit."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src import checkpoints
from src.checkpoints import State
from src.errors import InputError
from src.sections import Tracking
from src.tracking.history import TIMINGS, History, Steps, points
from tests.conftest import Project
from tests.faults.trainings import epochs_on_disk

FILES = ("models/model.safetensors", "models/model.json", "reports/train.json", "reports/history.csv")
PATIENCE = 90  # seconds for what reaches MLflow after the stage has ended


def outcome(project: Project) -> dict[str, Any]:
    """Everything that a training is, timings aside: the files it exports, its last and best checkpoint, its history."""
    folder = folder_of(project)
    assert folder, "no checkpoint folder"
    last = checkpoints.read(checkpoints.found(folder)[-1])
    best = checkpoints.read(checkpoints.path_of(folder, last["best_epoch"]))
    return {
        **{name: (project.path / name).read_bytes() for name in FILES},
        "last checkpoint": untimed(last),
        "best checkpoint": untimed(best),
        "history.jsonl": [
            {key: value for key, value in line.items() if key not in TIMINGS} for line in History(folder).read()[0]
        ],
        "steps.jsonl": [(line["epoch"], line["losses"].tolist()) for line in Steps(folder).read()[0]],
    }


def folder_of(project: Project) -> Path | None:
    return next((path for path in project.path.glob("models/checkpoints/*") if path.is_dir()), None)


def untimed(state: State) -> State:
    """A state without what differs from run to run: how long things took, and when they were."""
    names = state["history"]["names"]
    kept = [index for index, name in enumerate(names) if name not in TIMINGS]
    history = {"names": [names[index] for index in kept], "rows": state["history"]["rows"][:, kept]}
    metrics = {key: value for key, value in state.get("metrics", {}).items() if key not in TIMINGS}
    return {**state, "history": history, "metrics": metrics}


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two outcomes differ, in words; tensors and floats are compared bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        gone = [f"{where}/{key} is in one alone" for key in a.keys() ^ b.keys()]
        return gone + [word for key in a.keys() & b.keys() for word in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [
            word for index, pair in enumerate(zip(a, b, strict=True)) for word in differences(*pair, f"{where}/{index}")
        ]
    return [] if bits(a) == bits(b) else [f"{where} differs"]


def bits(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return value.hex() if isinstance(value, float) else value


def standing(project: Project, had: bool) -> list[str]:
    """What is wrong with the checkpoints of a training that has just died. had: it had a checkpoint before.

    A name such as epoch-000003.pt is given to what is whole and durable, so each must be good; and the best is there.
    """
    folder = folder_of(project)
    paths = checkpoints.found(folder) if folder else []
    try:
        states = [checkpoints.read(path) for path in paths]
        if not states:
            return ["no checkpoint is left"] if had or epochs_on_disk(project) else []
        best = states[-1]["best_epoch"]
        if best:
            checkpoints.read(checkpoints.path_of(folder, best))
    except InputError as error:
        return [str(error)]
    return []


def has_checkpoint(project: Project) -> bool:
    return any(project.path.glob("models/checkpoints/*/epoch-*.pt"))


def missing_in_mlflow(project: Project) -> list[str]:
    """What MLflow lacks, or has twice, of a training that is complete; waits for what is still on its way."""
    deadline = time.monotonic() + PATIENCE
    while (words := _missing(project)) and time.monotonic() < deadline:
        time.sleep(1)
    return words


def _missing(project: Project) -> list[str]:
    runs = project.runs()
    found = sorted(run.info.status for run in runs)
    if found.count("FINISHED") != 1 or "RUNNING" in found:
        return [f"MLflow has runs {found} of one training"]
    (run,) = [run for run in runs if run.info.status == "FINISHED"]
    folder = folder_of(project)
    assert folder
    wanted = History(folder).read()[0]
    words = []
    for key in ("train/loss", "val/loss", "lr"):
        had = sorted((metric.step, metric.value) for metric in project.client.get_metric_history(run.info.run_id, key))
        if had != [(line["epoch"], line[key]) for line in wanted]:
            words.append(f"MLflow has {len(had)} values of {key} for {len(wanted)} epochs, or others")
    kept = [point for line in Steps(folder).read()[0] for point in points(line, Tracking().step_points)]
    told = project.client.get_metric_history(run.info.run_id, "train/step_loss")
    if sorted((metric.step, metric.value) for metric in told) != kept:
        words.append(f"MLflow has {len(told)} points of the loss by step, of {len(kept)}, or others")
    return words
