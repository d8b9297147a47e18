import json
import shutil
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from src import fingerprint
from src.errors import InputError
from src.params import changed
from src.tracking import artifacts, run, store
from src.tracking.history import History
from src.tracking.replica import Replica, metrics_of


@pytest.fixture
def tracked(prepared_data, empty_store, workspace):
    """(params, data, mark) with an empty MLflow store in the workspace."""
    params, data = prepared_data("wine")
    shutil.copy2(empty_store, workspace / "mlflow.db")
    return params, data, fingerprint.of(params, data.schema)


def begin(tracked, workspace):
    params, data, mark = tracked
    return run.begin(params, data.schema, mark, workspace / "run.json")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError, "FAILED"),
        (InputError, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (SystemExit, "KILLED"),
    ],
)
def test_the_status_is_what_happened(tracked, workspace, error, status):
    opened = begin(tracked, workspace)
    with pytest.raises(error) if error else nullcontext(), opened:
        assert opened.client.get_run(opened.id).info.status == "RUNNING"
        if error:
            raise error("a reason")
    assert opened.client.get_run(opened.id).info.status == status
    names = [item.path for item in opened.client.list_artifacts(opened.id)]
    assert names == (["traceback.txt"] if status == "FAILED" else [])


def test_a_run_is_found_again_by_its_note(tracked, workspace):
    first = begin(tracked, workspace)
    assert begin(tracked, workspace).id == first.id
    params, data, mark = tracked
    other = changed(params, {"tracking.experiment": "other"})
    assert run.begin(other, data.schema, mark, workspace / "run.json").id != first.id
    first.client.delete_run(first.id)
    assert begin(tracked, workspace).id != first.id


def test_params_and_numbers_are_logged_once(tracked, workspace):
    opened = begin(tracked, workspace)
    for _ in range(2):
        opened.log_params(tracked[0].flat())
        opened.log_metrics({"loss": 0.5}, "test/")
    data = opened.client.get_run(opened.id).data
    assert data.params["train.optimizer"] == "adamw"
    assert set(data.params) == set(tracked[0].flat())
    assert len(opened.client.get_metric_history(opened.id, "test/loss")) == 1
    opened.log_metrics({"loss": 0.4}, "test/")
    assert opened.client.get_run(opened.id).data.metrics["test/loss"] == 0.4


def test_a_password_in_the_address_is_written_nowhere(tracked, workspace):
    opened = begin(tracked, workspace)
    opened.log_params({"tracking.uri": "http://me:secret@host/x"})
    assert opened.client.get_run(opened.id).data.params["tracking.uri"] == "http://***@host/x"
    assert "tracking_uri" in json.loads((workspace / "run.json").read_text())


def test_a_lost_run_is_opened_anew_once_and_says_where_it_came_from(tracked, workspace, empty_store):
    lost = begin(tracked, workspace)
    shutil.copy2(empty_store, workspace / "mlflow.db")
    first, second = (run.rejoin(tracked[0], workspace / "run.json") for _ in range(2))
    assert first.id == second.id != lost.id
    assert first.client.get_run(first.id).data.tags["restored.run_id"] == lost.id


def test_the_run_that_failed_keeps_no_password_in_its_traceback(tracked, workspace):
    opened = begin(tracked, workspace)
    with pytest.raises(ValueError, match="secret"), opened:
        raise ValueError("POST http://me:secret@host/api failed")
    text = Path(opened.client.download_artifacts(opened.id, "traceback.txt")).read_text(encoding="utf-8")
    assert "ValueError: POST http://***@host/api failed" in text
    assert "secret" not in text.replace('raise ValueError("POST http://***@host/api failed")', "")


def test_a_store_that_is_lost_does_not_hide_how_the_training_ended(tracked, workspace, capsys):
    opened, history = begin(tracked, workspace), History(workspace)
    with pytest.raises(KeyboardInterrupt), opened, opened.following(workspace):  # noqa: PT012
        opened.client.delete_run(opened.id)  # MLflow refuses its metrics from here on
        history.append(record(1))
        raise KeyboardInterrupt
    assert "MLflow lacks the last epochs, they are sent when training goes on" in capsys.readouterr().err
    opened.client.restore_run(opened.id)
    with opened, opened.following(workspace):
        history.append(record(2))
    assert [metric.step for metric in opened.client.get_metric_history(opened.id, "val/loss")] == [1, 2]
    assert opened.client.get_run(opened.id).info.status == "FINISHED"


def test_a_store_that_is_lost_at_the_end_is_bad_input(tracked, workspace):
    opened, history = begin(tracked, workspace), History(workspace)
    with pytest.raises(InputError, match=r"mlflow.db failed: .* when the store is back, the same command goes on"):  # noqa: PT012, SIM117
        with opened, opened.following(workspace):
            opened.client.delete_run(opened.id)
            history.append(record(1))
    opened.client.restore_run(opened.id)
    with pytest.raises(InputError, match=r"mlflow.db failed"), opened:
        opened.client.delete_run(opened.id)


def test_while_it_is_followed_the_machines_load_is_kept_too(tracked, workspace):
    opened, history = begin(tracked, workspace), History(workspace)
    with opened, opened.following(workspace):
        history.append(record(1))
        deadline = time.monotonic() + 30
        while not any(key.startswith("system/") for key in opened.client.get_run(opened.id).data.metrics):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "system/cpu_utilization_percentage" in opened.client.get_run(opened.id).data.metrics


def test_ctrl_c_in_the_train_stage_is_130_and_killed(new_project):
    project = new_project()
    project.set(**{"prepare.source": "wine", "train.epochs": 100_000})
    project.run("python", "-m", "stages.prepare")
    stage = project.start("python", "-m", "stages.train")
    for line in stage.stdout:
        if line.startswith("epoch 1/"):
            break
    stage.send_signal(signal.SIGINT)
    printed, _ = stage.communicate(timeout=60)
    assert stage.returncode == 130, printed
    assert "interrupted. The same command goes on from the last checkpoint" in printed
    assert "Traceback" not in printed
    (found,) = project.runs()
    assert found.info.status == "KILLED"
    history = next(project.path.glob("models/checkpoints/*/history.jsonl")).read_text(encoding="utf-8")
    steps = [metric.step for metric in project.client.get_metric_history(found.info.run_id, "val/loss")]
    assert steps == list(range(1, history.count("\n") + 1))


def test_the_data_is_an_input_of_the_run(tracked, workspace):
    opened, schema = begin(tracked, workspace), tracked[1].schema
    artifacts.log_data(opened, schema)
    (data,) = opened.client.get_run(opened.id).inputs.dataset_inputs
    assert (data.dataset.name, schema.digest.startswith(data.dataset.digest)) == ("wine", True)
    columns = json.loads(data.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == [column.name for column in schema.columns]


def record(epoch):
    return {"epoch": epoch, "lr": 0.1, "train/loss": 1 / epoch, "val/loss": 2 / epoch}


def test_each_epoch_reaches_mlflow_once_and_in_order(tracked, workspace):
    opened, history = begin(tracked, workspace), History(workspace)
    for epoch in (1, 2, 3):
        history.append(record(epoch))
    Replica(opened.client, opened.id, history).close()  # starts late
    replica = Replica(opened.client, opened.id, history)
    for epoch in (4, 5):
        history.append(record(epoch))
    replica.close()
    history.restore(history.read()[0][:4], print)  # a crash before the checkpoint of epoch 5: it is trained again
    replica = Replica(opened.client, opened.id, history)
    for epoch in (5, 6):
        history.append(record(epoch))
    replica.close()
    for key in ("train/loss", "val/loss", "lr"):
        found = opened.client.get_metric_history(opened.id, key)
        assert [(metric.step, metric.value) for metric in found] == [
            (epoch, record(epoch)[key]) for epoch in range(1, 7)
        ]


def test_more_epochs_than_fit_one_call(tracked, workspace):
    opened, history = begin(tracked, workspace), History(workspace)
    text = "".join(json.dumps({**record(epoch), "time": 1.0}) + "\n" for epoch in range(1, 801))
    history.path.write_text(text)
    # a process that died between two calls has left an epoch half sent: this must not repeat any of it
    half = [metric for row in history.read()[0] for metric in metrics_of(row)][:1001]
    for start in range(0, 1001, 1000):
        opened.client.log_batch(opened.id, half[start : start + 1000])
    Replica(opened.client, opened.id, history).close()
    for key in ("lr", "train/loss", "val/loss"):
        found = opened.client.get_metric_history(opened.id, key)
        assert [metric.step for metric in found] == list(range(1, 801)), key


def test_experiments_lie_in_the_root_wherever_the_process_runs(tracked, workspace, monkeypatch):
    elsewhere = workspace / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    client = store.connect(tracked[0].tracking)
    found = client.get_experiment(store.experiment(client, tracked[0].tracking))
    assert found.artifact_location == (workspace / "mlartifacts" / "loopline").as_uri()
    assert list(elsewhere.iterdir()) == []


def test_a_deleted_experiment_is_bad_input(tracked):
    client = store.connect(tracked[0].tracking)
    client.delete_experiment(store.experiment(client, tracked[0].tracking))
    with pytest.raises(InputError, match=r"was deleted: set another tracking.experiment, or restore it"):
        store.experiment(client, tracked[0].tracking)
