import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src import files, paths
from src.errors import InputError, RunError
from src.tracking import outbox, run

ROOT = Path(__file__).parents[2]
HOLD = """if True:
    import json, sys, time
    from src.tracking import outbox
    with outbox.opened(json.loads(sys.argv[1])) as box:
        box.say("status", status="RUNNING")
        print("open", flush=True)
        time.sleep(600)
"""
FACTS = {
    "key": "k",
    "run_id": None,
    "name": "left",
    "experiment": "x",
    "tracking_uri": "sqlite:///x.db",
    "origin": None,
    "created": 1.0,
    "parent": None,
    "history": None,
    "tags": {"a": "1"},
    "params": {"train.lr": "0.1"},
}


@pytest.fixture
def other(workspace):
    """A process that has the run open."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", HOLD, json.dumps(FACTS)]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.communicate()


def said(box):
    return [{key: value for key, value in event.items() if key != "time"} for event in box.events.read()[0]]


def test_what_is_said_is_there_in_order(workspace):
    with outbox.opened(FACTS) as box:
        box.say("tags", values={"a": "b"})
        box.say("status", status="FINISHED")
    outbox.remove(box)  # but nobody has told MLflow
    assert said(outbox.Outbox("k")) == [{"do": "tags", "values": {"a": "b"}}, {"do": "status", "status": "FINISHED"}]
    assert [one.key for one in outbox.found()] == ["k"]
    assert outbox.Outbox("k").header == FACTS
    files.write_sealed(box.sent_path, {"run_id": "r", "events": 2, "load": 0})
    outbox.remove(box)
    assert outbox.found() == []
    assert [path.name for path in paths.outbox().iterdir()] == [".lock"]


def test_a_run_whose_process_was_killed_ends_when_it_last_lived(other, monkeypatch, capsys):
    box = outbox.Outbox("k")
    outbox.bury()
    assert box.status == "RUNNING"  # its process lives
    monkeypatch.setattr(outbox, "WAIT", 0)
    with pytest.raises(RunError, match=rf"process {other.pid} writes to run left"), outbox.opened(FACTS):
        pass
    outbox.remove(box)
    assert box.path.exists()
    other.send_signal(signal.SIGKILL)
    other.wait()
    killed = time.time()
    with box.events.path.open("a") as file:
        file.write('{"do": "ta')  # what it was just writing
    outbox.bury()
    (event,) = [event for event in box.events.read()[0] if event.get("status") == "KILLED"]
    assert killed - 2 * outbox.BEAT < event["time"] <= killed + 0.1
    assert "run left was left RUNNING by a process that is gone: KILLED at" in capsys.readouterr().err
    outbox.bury()
    assert capsys.readouterr().err == ""


def test_what_waits_from_before_stays_and_goes_where_it_is_wanted_now(workspace):
    with outbox.opened({**FACTS, "history": "models/checkpoints/f"}) as box:
        box.say("tags", values={"n": "1"})
    box.sent_path.write_text("{}")
    with outbox.opened({**FACTS, "tags": {"b": "2"}, "tracking_uri": "sqlite:///other.db"}) as box:
        box.say("tags", values={"n": "2"})
    assert [event["values"]["n"] for event in said(box)] == ["1", "2"]
    header = box.header
    assert (header["history"], header["tracking_uri"]) == ("models/checkpoints/f", "sqlite:///other.db")
    assert header["tags"] == {"a": "1", "b": "2"}
    assert not box.sent_path.exists()
    assert box.history == paths.checkpoints() / "f"
    assert outbox.histories() == {paths.checkpoints() / "f"}


def test_a_file_is_kept_as_it_was(workspace):
    path, folder = workspace / "a.txt", workspace / "code"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "x.py").write_text("1")
    path.write_text("before")
    with outbox.opened(FACTS) as box:
        kept, code = box.keep(path), box.keep(folder)
        path.unlink()
        path.write_text("after")
    assert (kept, code) == ("files/0000/a.txt", "files/0001/code")
    assert box.take(kept).read_text() == "before"
    assert [one.name for one in box.take(code).iterdir()] == ["x.py"]


def test_what_has_no_room_is_left_out_and_said(workspace, monkeypatch, capsys):
    for name in ("large", "small"):
        (workspace / name).mkdir()
        (workspace / name / "file").write_bytes(bytes(5000 if name == "large" else 500))
    (workspace / "model").write_bytes(bytes(5000))
    monkeypatch.setattr(outbox, "LIMIT", 4999)
    with outbox.opened(FACTS) as box:
        assert box.keep(workspace / "model")  # a second name of a file that is there takes no room
        assert box.keep(workspace / "large") is None
        assert box.keep(workspace / "small")
        (workspace / "model").unlink()
        assert box.keep(workspace / "small") is None
    assert "large is not kept: with it 0.0 GB would wait for MLflow, and 0 GB is the limit" in capsys.readouterr().err
    assert [list(event["values"]) for event in said(box)] == [["left_out.large"], ["left_out.small"]]
    assert len([path for path in (box.path / "files").rglob("*") if path.is_file()]) == 2


def test_a_trial_that_was_not_written_to_its_end_is_killed(workspace, capsys):
    for key, parent in (("trial", "study"), ("note", None)):
        with outbox.opened({**FACTS, "key": key, "parent": parent}) as box:
            box.say("tags", values={"a": "b"})
    outbox.bury()
    assert [outbox.Outbox(key).status for key in ("trial", "note")] == ["KILLED", None]
    assert "run left was left RUNNING" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["../../../params.yaml", "/etc/passwd", "run.json", "files/../run.json"])
def test_an_event_cannot_name_what_was_not_kept(workspace, where):
    with outbox.opened(FACTS) as box, pytest.raises(InputError, match="which is no file that was kept"):
        box.take(where)


def test_a_damaged_line_is_named_and_others_are_not_held_up(workspace, capsys):
    for key in ("damaged", "good"):
        with outbox.opened({**FACTS, "key": key}) as box:
            box.say("status", status="RUNNING")
    path = outbox.Outbox("damaged").events.path
    path.write_bytes(path.read_bytes().replace(b"RUNNING", b"RUNNIN5"))
    outbox.bury()
    assert "events.jsonl, line 1 after byte 0, is damaged: its SHA-256 is not the one" in capsys.readouterr().err
    assert outbox.Outbox("good").status == "KILLED"


def test_the_text_of_a_value_has_no_password():
    assert run.text("http://me:secret@host/x") == "http://***@host/x"
    assert run.text(None) == "None"
