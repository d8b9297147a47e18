"""Fixtures that every test may use: an empty project folder, and real data prepared in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from src.params import Params, changed

ROOT = Path(__file__).parents[1]

# a shell that starts its tests in the background has them, and all they start, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples in every run, and no time limit for one: a busy machine is no failure
settings.register_profile("loopline", deadline=None, derandomize=True)
settings.load_profile("loopline")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty folder that is both the working folder and the project's root."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def prepared_data(workspace):
    """prepared_data(source, task, **changes) → (Params, Data), with data/prepared written to the workspace.

    Names with a dot go in as `**{"train.epochs": 2}`. Training is set to the CPU unless the changes say otherwise.
    """

    def prepare_and_load(source="wine", task="classification", **changes):
        from src.data.prepare import prepare
        from src.training import load_data

        values = {"prepare.source": source, "task": task, "train.device": "cpu", **changes}
        params = changed(Params(), values)
        prepare(params)
        return params, load_data()

    return prepare_and_load


@pytest.fixture(scope="session")
def fit_all():
    """fit_all(frame, wanted) → the encoding of the columns, learned from all rows of a frame."""

    def fit(frame, wanted):
        import numpy as np

        from src.data.columns import look
        from src.data.fitting import Fitting

        fitted = Fitting(list(frame), wanted, {name: look(frame[name]) for name in frame})
        return fitted.columns([fitted.see(frame, np.arange(len(frame)))])

    return fit


class Project:
    """A clone of this project in a temporary folder, run as a user would run it: real commands, a real store."""

    def __init__(self, path: Path) -> None:
        self.path, self.experiment = path, "loopline"
        outside = ("DVC_", "MLFLOW_", "GIT_", "PYTHONPATH")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(outside)}
        self.environment = {
            **kept,
            "PATH": f"{sys.prefix}/bin{os.pathsep}{kept['PATH']}",  # as when .venv is activated
            "HOME": str(path.parent),  # the user's own settings of DVC and git must not matter
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def copy(self, path: Path) -> "Project":
        """As it is now. What its store has of artifacts stays where it was."""
        return Project(shutil.copytree(self.path, path, symlinks=True))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command; both of its streams go to its stdout."""
        options = {"cwd": self.path, "env": self.environment, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)

    def run(self, *words: str, code: int | None = 0, **options: Any) -> str:
        """Run a command to its end and return what it printed; its exit code must be `code`."""
        process = self.start(*words, **options)
        printed, _ = process.communicate(timeout=300)
        assert code is None or process.returncode == code, f"{words} ended with {process.returncode}:\n{printed}"
        return printed

    def set(self, **values) -> None:
        """Write params.yaml: the defaults with some dotted keys (`**{"train.lr": 1}`) set to other values."""
        nested = Params().model_dump(by_alias=True)
        for key, value in values.items():
            *sections, name = key.split(".")
            place = nested
            for section in sections:
                place = place[section]
            place[name] = value
        with (self.path / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(nested, file)

    def report(self, name: str):
        return json.loads((self.path / "reports" / f"{name}.json").read_text())

    def runs(self):
        """Every run of the experiment, the oldest first."""
        found = self.client.get_experiment_by_name(self.experiment)
        return self.client.search_runs([found.experiment_id], order_by=["start_time ASC"]) if found else []

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.environment.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.path / 'mlflow.db'}"))


def copy_of_this_project(folder: Path) -> Project:
    """The project as git sees it, committed in a new repository, with the default params."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if not name.startswith(("reports/", "dvc.lock")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    project = Project(folder)
    project.set()
    for words in (
        "init -q",
        "config user.name tester",
        "config user.email tester@example.org",
        "add -A",
        "commit -qm start",
    ):
        project.run("git", *words.split())
    return project


def make_store(path: Path) -> Path:
    """An MLflow store with its tables and nothing in them: making one takes seconds."""
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return copy_of_this_project(tmp_path_factory.mktemp("template") / "project").path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "mlflow.db")


@pytest.fixture
def new_project(template, empty_store, tmp_path):
    """new_project(name) → a Project of its own."""

    def make(name="project", store=True):
        project = Project(template).copy(tmp_path / name)
        if store:
            shutil.copy2(empty_store, project.path / "mlflow.db")
        return project

    return make


@pytest.fixture(scope="session")
def with_wine(template, empty_store, tmp_path_factory):
    """A Project in which wine is prepared, and nothing else has been made. To be copied, not changed."""
    project = Project(template).copy(tmp_path_factory.mktemp("wine") / "project")
    shutil.copy2(empty_store, project.path / "mlflow.db")
    project.set(**{"prepare.source": "wine"})
    project.run("dvc", "repro", "--quiet", "prepare")
    return project


@pytest.fixture(scope="session")
def finished(template, empty_store, tmp_path_factory):
    """A Project that has run once, on small data for two epochs. To be copied, not changed."""
    project = Project(template).copy(tmp_path_factory.mktemp("finished") / "project")
    shutil.copy2(empty_store, project.path / "mlflow.db")
    project.set(**{"prepare.source": "wine", "train.epochs": 2, "train.warmup_epochs": 1, "train.device": "cpu"})
    project.run("dvc", "repro", "--quiet")
    return project
