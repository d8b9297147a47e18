"""The trainings that are killed, and what each leaves when nobody kills it."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from tests.conftest import Project, copy_of_this_project, make_store
from tests.faults.processes import Stage, said
from tests.faults.table import say

ALWAYS = 1e-9  # for train.checkpoint_seconds: a checkpoint after every step, as far as the disk keeps up


def settings(source: str, task: str, **train: Any) -> dict[str, Any]:
    """The params of a small training; those of the model are named in full, the others are of the section train."""
    named = {key if key.startswith("model.") else f"train.{key}": value for key, value in train.items()}
    return {"prepare.source": source, "task": task, "train.device": "cpu", "model.widths": [64, 32], **named}


# Together: every task, optimizer and schedule, tables and images, all that draws random numbers, and early stopping.
TRAININGS = {
    "wine": settings("wine", "classification", epochs=40, batch_size=16, checkpoint_seconds=0.02),
    "cnn": settings(
        "digits",
        "classification",
        epochs=6,
        batch_size=64,
        optimizer="adam",
        schedule="one_cycle",
        checkpoint_seconds=0.02,
        **{"model.name": "cnn", "model.channels": [4, 8]},
        **{"augment.flip": 0.5, "augment.crop": 1, "augment.rotate": 10.0, "augment.erase": 0.2},
    ),
    "binary": settings(
        "breast_cancer",
        "binary",
        epochs=60,
        batch_size=8,
        optimizer="sgd",
        lr=0.05,
        schedule="step",
        step_epochs=5,
        sampler="balanced",
        clip_norm=1.0,
        patience=10,
        threshold="f1",
    ),
    "regression": settings(
        "diabetes", "regression", epochs=40, batch_size=32, optimizer="adam", schedule="one_cycle", checkpoints_kept=1
    ),
    "robust": settings(
        "diabetes",
        "robust_regression",
        epochs=60,
        batch_size=32,
        optimizer="sgd",
        lr=0.02,
        patience=12,
        clip_norm=0.5,
        checkpoint_seconds=ALWAYS,
    ),
    "resnet": settings(
        "digits",
        "classification",
        epochs=3,
        batch_size=128,
        sampler="balanced",
        schedule="step",
        step_epochs=2,
        monitor="macro_f1",
        checkpoint_seconds=0.05,
        **{"model.name": "resnet", "model.channels": [4, 8]},
    ),
    # short enough to be killed at each of its boundaries: two epochs of one step, a checkpoint within and after each;
    # and the checkpoints are larger than any other file, so that a disk can be full for them alone
    "short": settings(
        "wine",
        "classification",
        epochs=2,
        batch_size=128,
        warmup_epochs=1,
        checkpoint_seconds=ALWAYS,
        checkpoints_kept=1,
        **{"model.widths": [768, 512]},
    ),
}


class Pace(NamedTuple):
    """Seconds of an uninterrupted run: until its first epoch is on disk, for each epoch, and after the last."""

    before: float
    epoch: float
    after: float


class Reference(NamedTuple):
    project: Project
    pace: Pace
    epochs: int
    boundaries: list[str]  # a line for each operation that the run passed: process, operation, name


class Workshop:
    """Makes projects in a folder, and each thing that they share once, also for several processes at a time."""

    def __init__(self, folder: Path, uri: str | None = None) -> None:
        self.folder, self.uri = folder, uri  # of the MLflow store that they all share; None: one in each project

    def new(self, training: str, name: str) -> Project:
        """A project of its own, with the data of a training prepared and nothing trained."""
        made = self.folder / name
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(self._prepared(training), made, symlinks=True)
        return self._tracked(Project(made), TRAININGS[training])

    def _tracked(self, project: Project, settings: dict[str, Any]) -> Project:
        """In a store that is shared, each project has an experiment of its own."""
        if self.uri:
            project.environment["MLFLOW_TRACKING_URI"], project.experiment = self.uri, project.path.name
            project.set(**settings, **{"tracking.experiment": project.experiment})
        return project

    def drop(self, project: Project) -> None:
        """Remove what is not needed any more: hundreds of trainings would fill the disk."""
        shutil.rmtree(project.path, ignore_errors=True)

    def reference(self, training: str) -> Reference:
        """What the training is when it is not interrupted: run once."""
        made = self._once(f"reference-{training}", lambda folder: train_whole(self.new(training, folder.name)))
        facts = json.loads((made / "facts.json").read_text())
        boundaries = (made / "boundaries").read_text().splitlines()
        return Reference(Project(made), Pace(*facts["pace"]), facts["epochs"], boundaries)

    def _prepared(self, training: str) -> Path:
        def prepare(folder: Path) -> None:
            shutil.copytree(self._template(), folder, symlinks=True, dirs_exist_ok=True)
            Project(folder).set(**TRAININGS[training])
            Project(folder).run("python", "-m", "stages.prepare")

        return self._once(f"prepared-{training}", prepare)

    def _template(self) -> Path:
        def copy(folder: Path) -> None:
            copy_of_this_project(folder)
            make_store(folder / "mlflow.db")

        return self._once("template", copy)

    def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        folder = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{name}.lock"):
            if not (self.folder / f"{name}.done").exists():
                say(f"making {name}")
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                (self.folder / f"{name}.done").touch()
        return folder


def history_of(project: Project) -> Path | None:
    return next(project.path.glob("models/checkpoints/*/history.jsonl"), None)


def epochs_on_disk(project: Project) -> int:
    history = history_of(project)
    return history.read_bytes().count(b"\n") if history else 0


def train_whole(project: Project) -> None:
    """Train without a fault; note the pace and the boundaries in the project."""
    stage = Stage(project, log=str(project.path / "boundaries"), cold=True)
    seen: dict[int, float] = {}  # epochs on disk → when that was seen first
    while stage.code is None:
        seen.setdefault(epochs_on_disk(project), time.monotonic())
        time.sleep(0.005)
    assert stage.code == 0, said(project)
    ended, epochs = time.monotonic(), epochs_on_disk(project)
    first = min(when for number, when in seen.items() if number)
    last = seen.get(epochs, ended)
    pace = Pace(first - stage.began, (last - first) / epochs, ended - last)
    (project.path / "facts.json").write_text(json.dumps({"pace": pace, "epochs": epochs}))


def workshop_of_this_run(base: Path) -> Workshop:
    """The one that all workers of a test run share; base: pytest's folder of this process."""
    return Workshop((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "faults")
