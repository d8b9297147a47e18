"""Runs that are written into the tables of a database are what MLflow's client would have made of them."""

import math
import shutil

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from sqlalchemy import create_engine, text

from src.tracking import whole
from src.tracking.whole import Whole
from tests.faults.servers import postgres, why_no_postgres

LONG = "é" * 500
VALUES = [0.5, 0.25, -1e300, 0.0]
CURVE = [Metric("val/loss", value, 1000 + step, step) for step, value in enumerate(VALUES, 1)]
ODD = [Metric("odd", value, 1000, step) for step, value in enumerate((math.nan, math.inf, -math.inf), 1)]
RUNS = [
    Whole("trial-000", "FINISHED", 1, 9, {"mlflow.user": "me", "a": LONG}, {"lr": "0.1", "b": 13 * LONG}, CURVE),
    Whole("trial-001-pruned", "KILLED", 2, 8, {"study": "s"}, {"lr": "0.2"}, [*CURVE[:2], *ODD]),
    Whole("trial-002-fail", "FAILED", 3, 7, {"error": "it's out"}, {}, []),
]


@pytest.fixture(params=["sqlite", "postgres"])
def address(request, empty_store, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{shutil.copy2(empty_store, tmp_path / 'mlflow.db')}"
        return
    if reason := why_no_postgres():
        pytest.skip(reason)
    with postgres(tmp_path) as uri:
        MlflowClient(uri).search_experiments()
        yield uri


def by_client(client, experiment_id, run):
    made = client.create_run(experiment_id, run.started, run.tags, run.name).info.run_id
    client.log_batch(made, run.metrics, [Param(*pair) for pair in run.params.items()])
    client.log_batch(made, tags=[RunTag(*pair) for pair in whole.not_finite(run.metrics).items()])
    client.set_terminated(made, run.status, run.ended)


def tables(address):
    """The rows of each table that knows of runs, without the ids of these."""
    found = {}
    engine = create_engine(address)
    with engine.connect() as connection:
        names = {row.run_uuid: row.name for row in connection.execute(text("select run_uuid, name from runs"))}
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            rows = [repr(sorted(row._asdict().items())) for row in connection.execute(text(f"select * from {table}"))]
            for run_id, name in names.items():
                rows = [row.replace(run_id, name) for row in rows]
            found[table] = sorted(rows)
    engine.dispose()
    return found


def test_the_tables_hold_what_the_client_would_have_written(address):
    client = MlflowClient(address)
    experiment = client.get_experiment(client.create_experiment("here", "file:///somewhere"))
    for run in RUNS:
        by_client(client, experiment.experiment_id, run)
    wanted = tables(address)
    with create_engine(address).begin() as connection:
        for table in ("latest_metrics", "metrics", "params", "tags", "runs"):
            connection.execute(text(f"delete from {table}"))
    whole.write(address, experiment, RUNS)
    found = tables(address)
    assert all(len(rows) >= 3 for rows in wanted.values())
    for table, rows in wanted.items():
        assert found[table] == rows, table
    whole._engine(address).dispose()


def test_all_are_written_or_none(empty_store, tmp_path):
    address = f"sqlite:///{shutil.copy2(empty_store, tmp_path / 'mlflow.db')}"
    client = MlflowClient(address)
    experiment = client.get_experiment(client.create_experiment("here"))
    twice = RUNS[0]._replace(metrics=[CURVE[0], CURVE[0]])
    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        whole.write(address, experiment, [RUNS[1], twice])
    assert client.search_runs([experiment.experiment_id]) == []


def test_trials_that_follow_one_another_are_told_at_once_but_not_too_many(monkeypatch):
    monkeypatch.setattr(whole, "ROWS", 20)
    about = {"do": "trial", "tags": {}, "params": {}, "metrics": {}}
    trials = [{**about, "records": [{"epoch": 1, "val/loss": 0.5}] * epochs} for epochs in (3, 3, 3, 40, 1)]
    events, taken = [{"do": "tags"}, *trials, {"do": "status"}], []
    while events:
        taken.append(len(whole.leading(events)))
        events = events[taken[-1] :]
    assert taken == [1, 2, 1, 1, 1, 1]
