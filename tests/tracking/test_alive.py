import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src import paths
from src.errors import RunError
from src.sections import Tracking
from src.tracking import alive, store
from src.tracking.run import Run

ROOT = Path(__file__).parents[2]
HOLD = """if True:
    import sys, time
    from src.sections import Tracking
    from src.tracking import store
    from src.tracking.run import Run
    with Run(store.connect(Tracking()), sys.argv[1], Tracking()):
        print("open", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def opened(workspace, empty_store):
    """(client, run id, process): a run that a process of its own has open."""
    shutil.copy2(empty_store, workspace / "mlflow.db")
    client = store.connect(Tracking())
    run_id = client.create_run("0", run_name="left").info.run_id
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", HOLD, run_id], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    yield client, run_id, process
    process.kill()
    process.communicate()


def status(client, run_id):
    return client.get_run(run_id).info.status


def test_a_run_whose_process_was_killed_ends_when_it_last_lived(opened, capsys):
    client, run_id, process = opened
    trials = [client.create_run("0", tags={"mlflow.parentRunId": run_id}).info.run_id for _ in range(2)]
    client.set_terminated(trials[1], "FINISHED")
    process.kill()
    process.wait()
    killed = time.time()
    time.sleep(alive.BEAT)
    assert status(client, run_id) == "RUNNING"  # what MLflow believes
    alive.bury(client, Tracking())
    assert [status(client, one) for one in (run_id, *trials)] == ["KILLED", "KILLED", "FINISHED"]
    ended = client.get_run(run_id).info.end_time / 1000
    assert killed - 2 * alive.BEAT < ended <= killed + 0.1
    assert f"run left was left RUNNING by process {process.pid}, which is gone: KILLED at" in capsys.readouterr().err
    alive.bury(client, Tracking())
    assert capsys.readouterr().err == ""


def test_a_run_whose_process_lives_is_left_alone_and_refused_to_others(opened, monkeypatch):
    client, run_id, process = opened
    alive.bury(client, Tracking())
    assert status(client, run_id) == "RUNNING"
    monkeypatch.setattr(alive, "WAIT", 0)
    with (
        pytest.raises(RunError, match=rf"process {process.pid} writes to run {run_id}"),
        Run(client, run_id, Tracking()),
    ):
        pass
    assert status(client, run_id) == "RUNNING"


def test_a_run_of_another_store_waits_for_it(opened, empty_store, workspace, monkeypatch):
    client, run_id, process = opened
    process.kill()
    process.wait()
    shutil.copy2(empty_store, workspace / "other.db")
    other = Tracking(uri="sqlite:///other.db")
    alive.bury(store.connect(other), other)
    assert status(client, run_id) == "RUNNING"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # MLflow sets it to the store that was used last
    alive.bury(client, Tracking())
    assert status(client, run_id) == "KILLED"


def test_a_run_that_is_no_longer_in_the_store_is_forgotten(opened, workspace, empty_store):
    _, _, process = opened
    process.kill()
    process.wait()
    shutil.copy2(empty_store, workspace / "mlflow.db")
    alive.bury(store.connect(Tracking()), Tracking())
    assert [*paths.open_runs().glob("*.json")] == []


def test_what_mlflow_could_not_be_told_is_told_by_the_next_command(workspace, empty_store, capsys):
    shutil.copy2(empty_store, workspace / "mlflow.db")
    client = store.connect(Tracking())
    run_id = client.create_run("0").info.run_id
    with alive.held(run_id, Tracking()) as pulse:
        assert not pulse.told
    (note,) = paths.open_runs().glob("*.json")
    assert json.loads(note.read_text())["pid"] == os.getpid()
    alive.bury(client, Tracking())
    assert status(client, run_id) == "KILLED"
    with alive.held(run_id, Tracking()) as pulse:
        pulse.told = True
    assert [*paths.open_runs().glob("*.json")] == []
