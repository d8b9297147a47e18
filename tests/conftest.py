"""Fixtures that every test may use: an empty project folder, and real data prepared in it."""

import pytest
from hypothesis import settings

from src.params import Params, changed

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
