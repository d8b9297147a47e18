import json
import shutil
import signal
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src import files, paths
from src.errors import InputError
from src.params import changed
from src.tracking import artifacts, courier, outbox, run, store
from src.tracking.history import History, Steps
from src.tracking.replica import metrics_of
from src.tracking.sender import Sender

real_courier = courier.Courier


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
def test_the_status_is_what_happened(begin, client, found, error, status):
    with pytest.raises(error) if error else nullcontext(), begin() as opened:
        assert outbox.Outbox(opened.key).status == "RUNNING"
        if error:
            raise error("a reason")
    assert found(opened).info.status == status
    names = [item.path for item in client.list_artifacts(found(opened).info.run_id)]
    assert names == (["traceback.txt"] if status == "FAILED" else [])
    assert outbox.found() == []  # all is told


def test_a_run_is_found_again_by_its_note(begin, tracked, client, found, workspace):
    with begin() as first:
        pass
    first.write(workspace / run.NOTE)
    assert begin().facts["run_id"] == found(first).info.run_id
    other = changed(tracked[0], {"tracking.experiment": "other"})
    assert begin(params=other).key != first.key
    first.write(workspace / run.NOTE)
    client.delete_run(found(first).info.run_id)
    with begin() as again:
        pass
    assert found(again).info.run_id != first.facts["run_id"]
    assert found(again).data.tags["restored.run_id"] == first.facts["run_id"]


def test_a_note_that_is_damaged_is_set_aside_and_the_run_is_a_new_one(begin, workspace, capsys):
    first, note = begin(), workspace / run.NOTE
    note.write_bytes(note.read_bytes().replace(first.key[:4].encode(), b"0000"))
    assert begin().key not in (first.key, "0000" + first.key[4:])
    assert "run.json is damaged: its SHA-256 is not the one written in it" in capsys.readouterr().err
    assert (workspace / "run.json.damaged").exists()


def test_params_and_numbers_are_logged_once(begin, tracked, found, curve):
    for loss in (0.5, 0.5, 0.4):
        with begin() as opened:
            opened.log_metrics({"loss": loss}, "test/")
    data = found(opened).data
    assert data.params == {key: run.text(value) for key, value in tracked[0].flat().items()}
    assert curve(opened, "test/loss") == [(0, 0.5), (0, 0.4)]
    assert data.metrics["test/loss"] == 0.4


def test_its_tags_say_what_it_saw_and_what_code_ran_it(begin, tracked, found, workspace):
    _, data, mark = tracked
    with begin() as opened:
        pass
    tags = found(opened).data.tags
    assert (tags["data.digest"], tags["data.source"]) == (data.schema.digest, data.schema.source_sha256)
    assert tags["code.digest"] == run.terms(data.schema, mark)["code.digest"]
    other = replace(mark, params=mark.params | {"seed": 1})
    assert run.terms(data.schema, other) == run.terms(data.schema, mark)
    edited = replace(mark, code=mark.code | {"src/loop.py": "another digest"})
    assert run.terms(data.schema, edited)["code.digest"] != tags["code.digest"]


def test_a_param_that_is_another_now_is_a_tag(begin, tracked, found):
    with begin():
        pass
    with begin(params=changed(tracked[0], {"train.checkpoints_kept": 3})) as opened:
        pass
    assert found(opened).data.params["train.checkpoints_kept"] == "2"
    assert found(opened).data.tags["changed.train.checkpoints_kept"] == "3"


def test_what_the_training_settled_is_no_other_param_when_a_later_stage_says_auto(begin, tracked, found):
    with begin(params=changed(tracked[0], {"train.batch_size": 128})):
        pass
    with begin(params=changed(tracked[0], {"train.batch_size": "auto"})) as opened:
        pass
    assert found(opened).data.params["train.batch_size"] == "128"
    assert "changed.train.batch_size" not in found(opened).data.tags


def test_a_password_in_the_address_is_written_nowhere(begin, tracked, workspace):
    params = changed(tracked[0], {"tracking.uri": "postgresql://me:secret@127.0.0.1:9/x"})
    opened = begin(params=params)
    opened.write(workspace / "run.json")
    with suppress(InputError), opened:  # the store cannot be reached from this process
        opened.set_tags({"a": "b"})
    written = [path.read_text() for path in workspace.rglob("*.json*") if "prepared" not in path.parts]
    assert any("postgresql://***@127.0.0.1:9/x" in text for text in written)
    assert not any("secret" in text for text in written)


def test_a_lost_run_is_opened_anew_once_and_says_where_it_came_from(begin, tracked, workspace, empty_store, found):
    with begin() as lost:
        pass
    lost.write(paths.RUN)
    (workspace / "mlflow.db").write_bytes(empty_store.read_bytes())
    for _ in range(2):
        with run.rejoin(tracked[0]) as again:
            again.log_metrics({"accuracy": 1.0}, "test/")
    one = found(again)
    assert one.info.run_id != lost.facts["run_id"]
    assert one.data.tags["restored.run_id"] == lost.facts["run_id"]
    assert one.data.tags["restored.from"] == f"sqlite:///{workspace}/mlflow.db"
    assert one.data.params["train.optimizer"] == "adamw"
    assert one.info.status == "FINISHED"


def test_the_run_that_failed_keeps_no_password_in_its_traceback(begin, client, found):
    with pytest.raises(ValueError, match="secret"), begin() as opened:
        raise ValueError("POST http://me:secret@host/api failed")
    text = Path(client.download_artifacts(found(opened).info.run_id, "traceback.txt")).read_text(encoding="utf-8")
    assert "ValueError: POST http://***@host/api failed" in text
    assert "secret" not in text.replace('raise ValueError("POST http://***@host/api failed")', "")


def test_a_run_deleted_under_it_is_opened_anew_with_its_whole_curve(begin, tracked, client, found, curve, workspace):
    with begin() as opened:
        History(workspace).append(record(1))
        sender = Sender(tracked[0].tracking, opened.key)
        sender.send()
        first = sender.run_id
        client.delete_run(first)
        History(workspace).append(record(2))
        with pytest.raises(Exception, match="deleted"):
            sender.send()
    assert found(opened).info.run_id != first
    assert curve(opened, "val/loss") == [(1, 2.0), (2, 1.0)]
    assert found(opened).info.status == "FINISHED"


def test_while_it_trains_the_machines_load_is_kept_too(begin, found, workspace, monkeypatch):
    monkeypatch.setattr(courier, "Courier", real_courier)
    with begin() as opened:
        History(workspace).append(record(1))
        box, deadline = outbox.Outbox(opened.key), time.monotonic() + 60
        while not box.load.read()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    metrics = found(opened).data.metrics
    assert "system/cpu_utilization_percentage" in metrics
    assert metrics["val/loss"] == 2.0
    assert opened.facts["run_id"] == found(opened).info.run_id
    assert outbox.found() == []


def test_what_is_to_be_told_later_is_told_when_wanted_and_at_the_latest_at_the_end(begin, found, client, monkeypatch):
    def told():
        everywhere = [one.experiment_id for one in client.search_experiments()]
        return [run.info.status for run in client.search_runs(everywhere)]

    monkeypatch.setattr(courier, "Courier", real_courier)
    courier.start(later=3600)
    with begin() as opened:
        time.sleep(5)  # MLflow is told sooner than that where it is not to wait
        assert told() == []
        opened.begin_telling()
        deadline = time.monotonic() + 60
        while not told():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert told() == ["RUNNING"]
    courier.start(later=3600)
    with begin() as other:
        pass
    assert [found(one).info.status for one in (opened, other)] == ["FINISHED"] * 2


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


def test_a_file_that_mlflow_does_not_take_holds_up_nothing_else(begin, tracked, client, found, curve, workspace):
    (workspace / "mlartifacts").write_text("a file where MLflow wants a folder")
    (workspace / "a.txt").write_text("a")
    opened = begin()
    with pytest.raises(OSError, match="mlartifacts"), opened:  # noqa: PT012
        opened.log_artifacts([workspace / "a.txt"], "")
        opened.log_metrics({"test/loss": 0.5})
        outbox.Outbox(opened.key).load.append({"time": time.time(), "values": {"system/load": 1.0}})
    there = found(opened)
    assert (there.info.status, there.data.metrics) == ("FINISHED", {"test/loss": 0.5, "system/load": 1.0})
    assert "mlartifacts" in Sender(tracked[0].tracking).send()[0]
    assert [value for _, value in curve(opened, "system/load")] == [1.0]
    (workspace / "mlartifacts").unlink()
    assert Sender(tracked[0].tracking).send() == []
    assert [one.path for one in client.list_artifacts(there.info.run_id)] == ["a.txt"]
    assert found(opened).info.status == "FINISHED"
    assert outbox.found() == []


def test_a_model_whose_files_are_gone_is_marked_as_lost(begin, tracked, found, workspace):
    opened = begin()
    with opened:
        (workspace / "code").mkdir()
        (workspace / "weights").touch()
        opened.log_model(workspace / "code", [workspace / "weights"], [])
        shutil.rmtree(paths.outbox() / opened.key / "files")
    assert {"lost.code", "lost.weights"} <= found(opened).data.tags.keys()
    assert outbox.found() == []


def test_the_data_is_an_input_of_the_run(begin, tracked, found):
    schema = tracked[1].schema
    for _ in range(2):
        with begin() as opened:
            artifacts.log_data(opened, schema)
    (data,) = found(opened).inputs.dataset_inputs
    assert (data.dataset.name, schema.digest.startswith(data.dataset.digest)) == ("wine", True)
    columns = json.loads(data.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == [column.name for column in schema.columns]


def record(epoch):
    return {"epoch": epoch, "lr": 0.1, "train/loss": 1 / epoch, "val/loss": 2 / epoch, "time": 1e9 + epoch}


def test_each_epoch_reaches_mlflow_once_and_in_order(begin, curve, workspace):
    history = History(workspace)
    for epochs in ((1, 2, 3), (4, 5)):
        with begin() as opened:
            for epoch in epochs:
                history.append(record(epoch))
    history.restore(history.read()[0][:4], print)  # the checkpoint of epoch 5 was damaged: it is trained again
    with begin() as opened:
        for epoch in (5, 6):
            history.append({**record(epoch), "time": 2e9})
    for key in ("train/loss", "val/loss", "lr"):
        assert curve(opened, key) == [(epoch, record(epoch)[key]) for epoch in range(1, 7)]


def test_a_curve_by_step_keeps_the_points_that_its_run_was_begun_with(begin, tracked, curve, workspace):
    losses = np.linspace(2, 1, 12, dtype=np.float32)
    for epoch, points in ((1, 3), (2, 4)):
        with begin(params=changed(tracked[0], {"tracking.step_points": points})) as opened:
            Steps(workspace).append(epoch, losses)
    assert [step for step, _ in curve(opened, "train/step_loss")] == [4, 8, 12, 16, 20, 24]


def test_more_epochs_than_fit_one_call(begin, tracked, client, curve, workspace):
    history = History(workspace)
    history.restore([record(epoch) for epoch in range(1, 801)], print)
    with begin() as opened:
        pass
    assert [step for step, _ in curve(opened, "lr")] == list(range(1, 801))
    history.restore([record(epoch) for epoch in range(1, 1201)], print)
    # a process that died between two calls has left an epoch half sent: this must not repeat any of it
    half = [metric for row in history.read()[0][800:] for metric in metrics_of(row)][:701]
    client.log_batch(opened.facts["run_id"], half)
    with begin():
        pass
    for key in ("lr", "train/loss", "val/loss"):
        assert [step for step, _ in curve(opened, key)] == list(range(1, 1201)), key


def test_a_value_that_is_no_finite_number_is_marked(begin, found, curve, workspace):
    with begin() as opened:
        History(workspace).append({**record(1), "val/roc_auc": float("nan")})
        History(workspace).append({**record(2), "val/roc_auc": float("inf")})
    assert str(curve(opened, "val/roc_auc")[0]) == "(1, nan)"
    assert found(opened).data.tags["not_finite.val/roc_auc"] == "nan at step 1"


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


@pytest.mark.parametrize("is_database", [True, False])
def test_trials_that_were_told_and_not_noted_are_in_mlflow_once(
    begin, tracked, client, found, is_database, monkeypatch
):
    monkeypatch.setattr(
        store, "is_database", lambda address: is_database
    )  # else by MLflow's client, as a server is told
    with begin() as opened:
        trials = [
            {
                "key": f"{opened.key}-{number}",
                "name": f"trial-00{number}",
                "created": 1.0,
                "tags": {"trial": str(number)},
                "params": {"train.lr": "0.1"},
                "records": [{"epoch": 1, "time": 2.0, "val/loss": 0.5}],
                "metrics": {"best_val/loss": 0.5},
                "status": "FINISHED",
            }
            for number in range(3)
        ]
        opened.log_trials(trials)
        Sender(tracked[0].tracking, opened.key).send()
        box = outbox.Outbox(opened.key)
        sent = box.sent
        files.write_sealed(box.sent_path, {**sent, "events": sent["events"] - 1})  # killed between the two
        Sender(tracked[0].tracking, opened.key).send()
        opened.log_trials(trials[:1])  # trained again, as the search was killed before the study knew of it
    about = found(opened).info
    below = client.search_runs([about.experiment_id], f"tags.`mlflow.parentRunId` = '{about.run_id}'")
    assert sorted(run.info.run_name for run in below) == ["trial-000", "trial-001", "trial-002"]
    for one in below:
        assert (one.info.status, one.info.start_time) == ("FINISHED", 1000)
        assert one.data.metrics == {"best_val/loss": 0.5, "val/loss": 0.5}
        assert one.data.params == {"train.lr": "0.1"}
