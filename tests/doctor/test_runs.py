import sqlite3
import sys

import pytest

from src.doctor import __main__ as command
from src.errors import InputError
from src.params import load
from src.tracking import lineage, outbox, run, store

pytestmark = pytest.mark.pipeline


@pytest.fixture
def client(patient):
    return store.connect(load().tracking)


@pytest.fixture
def trained(patient, client):
    """The run of the project's training."""
    (one,) = client.search_runs([store.experiment(client, load().tracking)])
    return one


def unsent(name="lost"):
    """A run of which MLflow has heard nothing; its outbox."""
    with outbox.opened(run.new(name, {}, load(), key=name)) as box:
        box.say("status", status="RUNNING")
        box.say("metrics", values={"test/loss": 0.5})
        box.say("status", status="FAILED")
    return box


def test_what_waits_is_told(patient, client, trained):
    box = unsent()
    assert "MLflow has been told everything" not in patient.look(only="outbox").printed
    seen = patient.look("--fix", only="outbox")
    assert (seen.code, len(seen.mended)) == (0, 1), seen.printed
    assert "MLflow has not been told all of run lost: 3 things wait in models/outbox/lost" in seen.mended[0]
    assert not box.path.exists()
    found = client.search_runs([trained.info.experiment_id], "tags.`run.key` = 'lost'")
    assert [(one.info.status, one.data.metrics) for one in found] == [("FAILED", {"test/loss": 0.5})]
    assert "MLflow has been told everything" in patient.look(only="outbox").printed


def test_sync_tells_and_does_nothing_else(patient, client, trained, capsys, monkeypatch):
    unsent("one"), unsent("two")
    monkeypatch.setattr(sys, "argv", ["doctor", "--sync"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.out == "runs that MLflow has been told of: 2\n"
    there = client.search_runs([trained.info.experiment_id])
    assert len(there) == 3
    assert all(f"its id: {one.info.run_id}" in printed.err for one in there if one.info.run_id != trained.info.run_id)


def test_what_waits_for_another_store_can_go_to_this_one(patient, client, trained, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    box = unsent()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    seen = patient.look(only="outbox")
    assert "lost: 3 things wait in models/outbox/lost for http://127.0.0.1:9. To mend it: python -m" in seen.wrong[0]
    for option, code, runs in (("--sync", 1, 1), ("--adopt", 0, 2)):
        monkeypatch.setattr(sys, "argv", ["doctor", option])
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == code
        assert ("python -m src.doctor --adopt" in capsys.readouterr().out) == (option == "--sync")
        assert len(client.search_runs([trained.info.experiment_id])) == runs
    (found,) = client.search_runs([trained.info.experiment_id], "tags.`run.key` = 'lost'")
    assert (found.info.status, found.data.metrics) == ("FAILED", {"test/loss": 0.5})
    assert not box.path.exists()


def test_sync_without_a_store_is_bad_input_and_keeps_all(patient, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    box = unsent()
    monkeypatch.setattr(sys, "argv", ["doctor", "--sync"])
    with pytest.raises(InputError, match=r"the MLflow server http://127.0.0.1:9 does not answer"):
        command.main()
    assert box.status == "FAILED"


def test_a_damaged_line_is_left_out_and_the_rest_is_told(patient, client, trained):
    box = unsent()
    box.events.path.write_bytes(box.events.path.read_bytes().replace(b'"test/loss": 0.5', b'"test/loss": 0.6'))
    seen = patient.look("--fix", only="outbox")
    assert len(seen.mended) == 1, seen.printed
    assert "events.jsonl, line 2 after byte 0, is damaged" in seen.mended[0]
    assert b"0.6" in box.events.path.with_name("events.jsonl.damaged").read_bytes()
    assert patient.look("--fix", only="outbox").code == 0
    (found,) = client.search_runs([trained.info.experiment_id], "tags.`run.key` = 'lost'")
    assert (found.info.status, found.data.metrics) == ("FAILED", {})


def test_a_run_that_nobody_has_open_is_marked_killed(patient, client, trained):
    tags = {lineage.HOME: lineage.home()}
    left = client.create_run(trained.info.experiment_id, tags=tags, run_name="left").info.run_id
    client.log_metric(left, "loss", 1.0, timestamp=1_700_000_000_000)
    other = client.create_run(trained.info.experiment_id, tags={lineage.HOME: "another:/project"}).info.run_id
    assert f"run left ({left}) is RUNNING in MLflow, and no process has it open" in patient.look(only="runs").wrong[0]
    assert patient.look("--fix", only="runs").code == 0
    ended = client.get_run(left).info
    assert (ended.status, ended.end_time) == ("KILLED", 1_700_000_000_000)
    assert client.get_run(other).info.status == "RUNNING"  # somebody else's business
    with outbox.opened(run.new("open", {}, load(), key="open")):
        key = {**tags, "run.key": "open"}
        client.create_run(trained.info.experiment_id, tags=key)
        assert patient.look(only="runs").code == 0


def test_a_run_that_was_only_left_is_told_as_killed(patient, client, trained):
    box = unsent()
    patient.look("--fix", only="outbox")
    with outbox.opened(run.new("lost", {}, load(), key="lost")):
        pass
    seen = patient.look(only="outbox")
    where = patient.short(str(box.path))
    assert f"run lost was left by a process that is gone: its end waits in {where}" in seen.wrong[0]
    assert patient.look("--fix", only="outbox").code == 0
    assert not box.path.exists()


def test_how_a_run_ended_that_is_still_to_be_told_is_not_guessed(patient, client, trained):
    tags = {lineage.HOME: lineage.home(), "run.key": "lost"}
    left = client.create_run(trained.info.experiment_id, tags=tags).info.run_id
    unsent()
    patient.look("--fix", only="runs")
    assert client.get_run(left).info.status == "RUNNING"
    assert patient.look("--fix", only="outbox").code == 0
    assert client.get_run(left).info.status == "FAILED"


def test_points_that_mlflow_lacks_are_told_again(patient, client, trained):
    assert "1 trainings, 16 points: each once in MLflow" in patient.look(only="curves").printed
    with sqlite3.connect(patient.path / "mlflow.db") as database:
        database.execute("delete from metrics where step = 2 and key in ('val/loss', 'lr')")
    assert "lacks 2 of 16 points of models/checkpoints/" in patient.look(only="curves").wrong[0]
    assert patient.look("--fix", only="curves").code == 0
    assert "16 points: each once" in patient.look(only="curves").printed


def test_points_that_are_there_twice_are_named(patient, client, trained):
    client.log_metric(trained.info.run_id, "val/loss", 9.0, step=1, timestamp=1)
    seen = patient.look("--fix", only="curves")
    assert seen.code == 1
    assert f"({trained.info.run_id}) has 1 points twice. To mend it: mlflow runs delete" in seen.wrong[0]
