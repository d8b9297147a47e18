"""Runs whose MLflow side is in the same process: what there is to be told is told when the run ends."""

import shutil

import pytest

from src import fingerprint
from src.tracking import courier, run, store
from src.tracking.sender import Sender


class SameProcess:
    """What src.tracking.courier.Courier does by a process of its own."""

    def __init__(self, key, tracking, is_training):
        self.key, self.tracking = key, tracking

    def close(self, patience=courier.REGULAR):
        sender = Sender(self.tracking, self.key)
        sender.send()
        return sender.run_id


@pytest.fixture
def same_process(monkeypatch):
    monkeypatch.setattr(courier, "Courier", SameProcess)


@pytest.fixture
def tracked(same_process, prepared_data, empty_store, workspace):
    """(params, data, mark) with an empty MLflow store in the workspace."""
    params, data = prepared_data("wine")
    shutil.copy2(empty_store, workspace / "mlflow.db")
    return params, data, fingerprint.of(params, data.schema)


@pytest.fixture
def begin(tracked, workspace):
    """begin() → the Run of a training in the workspace, not entered yet."""
    params, data, mark = tracked
    return lambda **changes: run.begin(changes.get("params", params), data.schema, mark, workspace)


@pytest.fixture
def client(tracked):
    return store.connect(tracked[0].tracking)


@pytest.fixture
def found(client):
    """found(run) → that run as MLflow has it."""

    def by_key(opened):
        (one,) = client.search_runs(everywhere(client), f"tags.`run.key` = '{opened.key}'")
        return one

    return by_key


@pytest.fixture
def curve(client, found):
    """curve(run, key) → [(step, value)] of a metric."""
    return lambda opened, key: [
        (metric.step, metric.value) for metric in client.get_metric_history(found(opened).info.run_id, key)
    ]


def everywhere(client):
    return [one.experiment_id for one in client.search_experiments()]
