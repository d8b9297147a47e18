import threading
import time
from contextlib import suppress

import pytest
from mlflow.exceptions import MlflowException
from requests import RequestException

from src.errors import InputError
from src.params import Params, changed
from src.tracking import outbox, run, store
from src.tracking.history import History
from src.tracking.sender import Sender
from tests.faults.outages import BAD, Training, differences, storm
from tests.faults.proxy import Proxy

ONCE = [mode for mode in BAD if mode != "slow"]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(store, "PATIENCE", 1)


@pytest.mark.parametrize("mode", ONCE)
def test_what_could_not_be_told_is_told_later_each_point_once(workspace, proxy, impatient, mode):
    """The way fails again and again, at every place of what there is to tell."""
    params = changed(Params(), {"tracking.uri": proxy.url, "tracking.experiment": f"outage-{mode}"})
    facts = run.new("outage", {"a": "b"}, params) | {"history": "."}
    history, path = History(workspace), workspace / "picture.txt"
    path.write_text("a picture")
    sender = Sender(params.tracking, facts["key"])
    with outbox.opened(facts) as box:
        box.say("status", status="RUNNING")
        for epoch in range(1, 7):
            history.append({"epoch": epoch, "val/loss": 1 / epoch, "lr": 0.1})
            box.say("artifact", file=box.keep(path), folder="pictures")
            box.say("metrics", values={"test/loss": float(epoch)})
            if epoch % 2:
                attempt(sender, proxy, mode, after=epoch)
        box.say("status", status="FINISHED")
    sender.send()
    run_id = sender.run_id
    client = store.connect(params.tracking)
    (one,) = client.search_runs([store.experiment(client, params.tracking)])
    assert (one.info.run_id, one.info.status) == (run_id, "FINISHED")
    for key in ("val/loss", "lr"):
        assert sorted(metric.step for metric in client.get_metric_history(run_id, key)) == [1, 2, 3, 4, 5, 6]
    assert sorted(metric.value for metric in client.get_metric_history(run_id, "test/loss")) == [1, 2, 3, 4, 5, 6]
    assert [item.path for item in client.list_artifacts(run_id, "pictures")] == ["pictures/picture.txt"]
    assert outbox.found() == []


def attempt(sender, proxy, mode, after):
    """Send over a way that fails after so many requests."""
    passed = proxy.counts["pass"]
    proxy.mode = "pass"
    over = threading.Event()

    def fail():
        while proxy.counts["pass"] < passed + after and not over.is_set():
            time.sleep(0.001)
        proxy.mode = mode

    thread = threading.Thread(target=fail)
    thread.start()
    with suppress(MlflowException, RequestException, InputError):
        sender.send()
    over.set()
    thread.join()
    proxy.mode = "pass"


@pytest.mark.parametrize("name", [pytest.param("server", marks=pytest.mark.faults), "postgres_server"])
def test_after_an_outage_with_kills_in_it_mlflow_has_the_history_each_point_once(workspace, request, name):
    with Proxy(request.getfixturevalue(name).port) as proxy:
        training = Training(workspace, proxy.url, f"storm-{name}", epochs=250, seconds=0.05)
        time.sleep(1)
        storm(training, proxy, seconds=12, kills=2, seed=1)
        assert differences(training) == []
        assert training.kills >= 2
