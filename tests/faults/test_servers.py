import importlib.util
import math
import os
import shutil
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from src.sections import Tracking
from src.tracking import runs
from src.tracking.runs import Wanted
from tests.faults import servers
from tests.faults.proxy import Proxy
from tests.faults.servers import group, postgres, wait_until, why_no_postgres
from tests.test_compare import as_mlflow_says, fill, plain

BIGGEST = 1.7976931348623157e308  # what MLflow keeps for infinity
FINITE, NAN, INFINITE = [0.1, 0.2, 0.3], [math.nan, 0.5, math.nan], [math.inf, -math.inf, 0.5]


@pytest.fixture(autouse=True)
def mlflow_tries_once(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture(params=["server", "postgres_server"])
def each_server(request):
    """A running MLflow server: one over SQLite, then one over PostgreSQL."""
    return request.getfixturevalue(request.param)


def points(values, key="loss"):
    """One metric a step. The same values give the same points, timestamps too."""
    return [Metric(key, value, 1_700_000_000_000 + step, step) for step, value in enumerate(values)]


def new_run(client):
    return client.create_run("0").info.run_id


def stored(address, run_id, key="loss"):
    """The values that a run has, by step. repr, because NaN is not equal to itself."""
    history = MlflowClient(address).get_metric_history(run_id, key)
    return [repr(metric.value) for metric in sorted(history, key=lambda metric: metric.step)]


def kept(values):
    return [repr(max(-BIGGEST, min(BIGGEST, value)) if math.isinf(value) else value) for value in values]


def log_in_vain(client, run_id, metrics, mode):
    """log_batch through a proxy in a mode that makes it fail. Only where nothing answers is the wait a short one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2" if mode in ("hang", "half-open") else "60")
        with pytest.raises(MlflowException):
            client.log_batch(run_id, metrics=metrics)


@pytest.mark.parametrize("values", [FINITE, NAN, INFINITE], ids=["finite", "nan", "infinite"])
def test_a_batch_that_is_logged_twice_is_stored_once(each_server, values):
    client = MlflowClient(each_server.url)
    run_id = new_run(client)
    for _ in range(2):
        client.log_batch(run_id, metrics=points(values), params=[Param("lr", "0.1")], tags=[RunTag("git", "abc")])
    assert stored(each_server.url, run_id) == kept(values)


def test_a_batch_of_which_a_part_is_there_gets_the_rest_stored(each_server):
    client = MlflowClient(each_server.url)
    run_id = new_run(client)
    values = [*FINITE, *NAN, *INFINITE]
    client.log_batch(run_id, metrics=points(values)[::2])
    client.log_batch(run_id, metrics=points(values))
    client.log_batch(run_id, metrics=points(values)[:4])
    assert stored(each_server.url, run_id) == kept(values)


def test_points_twice_in_one_batch_are_stored_once(each_server):
    client = MlflowClient(each_server.url)
    run_id = new_run(client)
    client.log_batch(run_id, metrics=points(FINITE + NAN) + points(FINITE + NAN))
    assert stored(each_server.url, run_id) == kept(FINITE + NAN)


def test_a_point_with_another_timestamp_is_another_point(each_server):
    """So whoever logs a point again has to keep the time at which it was measured."""
    client = MlflowClient(each_server.url)
    run_id = new_run(client)
    for timestamp in (1, 2):
        client.log_batch(run_id, metrics=[Metric("loss", 0.5, timestamp, 0)])
    assert stored(each_server.url, run_id) == ["0.5", "0.5"]


@pytest.mark.parametrize("mode", ["half-open", "lost", "cut"])
def test_a_batch_whose_response_was_lost_can_be_logged_again(each_server, mode):
    values = [*FINITE, *NAN, *INFINITE]
    with Proxy(each_server.port) as proxy:
        client = MlflowClient(proxy.url)
        run_id = new_run(client)
        proxy.mode = mode
        log_in_vain(client, run_id, points(values), mode)
        wait_until(lambda: stored(each_server.url, run_id) == kept(values), "the server stored what it was sent")
        proxy.mode = "pass"
        client.log_batch(run_id, metrics=points(values))
    assert stored(each_server.url, run_id) == kept(values)


@pytest.mark.parametrize("mode", ["down", "reset", "500", "hang"])
def test_a_batch_that_never_reached_the_server_is_not_stored(server, proxy, mode):
    client = MlflowClient(proxy.url)
    run_id = new_run(client)
    proxy.mode = mode
    log_in_vain(client, run_id, points(FINITE), mode)
    assert stored(server.url, run_id) == []
    proxy.mode = "pass"
    client.log_batch(run_id, metrics=points(FINITE))
    assert stored(server.url, run_id) == kept(FINITE)


def test_artifacts_go_through_the_server_to_its_folder(each_server):
    client = MlflowClient(each_server.url)
    run_id = new_run(client)
    client.log_text(run_id, "some words", "notes/one.txt")
    (found,) = (each_server.log.parent / "artifacts").rglob(f"{run_id}/**/one.txt")
    assert found.read_text() == "some words"
    assert [entry.path for entry in client.list_artifacts(run_id, "notes")] == ["notes/one.txt"]


def test_a_killed_server_is_gone_and_comes_back_with_its_runs(server):
    client = MlflowClient(server.url)
    run_id = new_run(client)
    client.log_batch(run_id, metrics=points(FINITE))
    leader = server.process.pid
    try:
        server.kill()
        assert group(leader) == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((servers.HOST, server.port), 5)
        with pytest.raises(MlflowException, match=r"Connection (refused|reset)"):  # reset: one that was still open
            client.get_run(run_id)
    finally:
        server.restart()
    client.log_batch(run_id, metrics=points(FINITE))
    assert stored(server.url, run_id) == kept(FINITE)


WANTED = [
    Wanted(100, trials=True),
    Wanted(2),
    Wanted(3, best=("best_val/loss", "minimise")),
    Wanted(100, trials=True, best=("best_val/accuracy", "maximise")),
    Wanted(100, best=("best_val/rmse", "minimise")),
    Wanted(100, called="seed1"),
    Wanted(100, called="it's"),
    Wanted(100, called="tune-x"),
    Wanted(100, called="nobody"),
]


def test_runs_are_the_same_read_from_the_database_or_asked_of_the_server(postgres_server, workspace):
    database = postgres_server.words[postgres_server.words.index("--backend-store-uri") + 1]
    ids = fill(MlflowClient(postgres_server.url))
    for wanted in [*WANTED, Wanted(100, called=ids["odd"][:7])]:
        read, asked = (runs.search(Tracking(uri=uri), wanted) for uri in (database, postgres_server.url))
        assert plain(read) == plain(asked), wanted
    assert plain(runs.search(Tracking(uri=database), WANTED[0])) == plain(as_mlflow_says(postgres_server.url))


def test_a_cluster_wants_its_password_and_is_gone_after_the_block(tmp_path):
    if reason := why_no_postgres():
        pytest.skip(reason)
    with postgres(tmp_path) as uri:
        assert told(uri, "show fsync") == "off"
        folder = Path(told(uri, "show data_directory"))
        assert folder.stat().st_uid != 0  # PostgreSQL refuses root
        with pytest.raises(OperationalError, match="password authentication failed"):
            told(make_url(uri).set(password="another"), "show fsync")
    with pytest.raises(OperationalError, match="Connection refused"):
        told(uri, "show fsync")
    assert not folder.parent.exists()


def told(uri, question):
    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(text(question)).scalar_one()


@pytest.mark.parametrize(
    ("module", "name", "reason"),
    [
        (shutil, "which", "apt install postgresql"),
        (importlib.util, "find_spec", "psycopg2-binary"),
        (servers, "_user", "root cannot run PostgreSQL"),
    ],
)
def test_what_postgres_needs_is_named(monkeypatch, tmp_path, module, name, reason):
    monkeypatch.setattr(servers, "DEBIAN", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: "/somewhere/initdb")
    monkeypatch.setattr(module, name, lambda *_: None)
    assert reason in why_no_postgres()
