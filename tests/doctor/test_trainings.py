import subprocess
import sys

import pytest

from src import checkpoints

pytestmark = pytest.mark.pipeline


@pytest.fixture
def folder(patient):
    """The checkpoints of the project's training, with one more that is worse: the second epoch is best, not newest."""
    (folder,) = (patient.path / "models/checkpoints").iterdir()
    state = checkpoints.newest(folder, print)
    assert state["epoch"] == state["best_epoch"] == 2
    checkpoints.write(folder, {**state, "epoch": 3}, keep=2)
    return folder


def names(patient, folder, *wanted):
    return [str((folder / name).relative_to(patient.path)) for name in wanted]


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: b"", lambda content: content[::-1]])
def test_a_damaged_checkpoint_is_set_aside(patient, folder, damage):
    path = folder / "epoch-000003.pt"
    path.write_bytes(damage(path.read_bytes()))
    changed = names(patient, folder, "epoch-000003.pt", "epoch-000003.pt.damaged")
    printed = patient.assert_mends("checkpoints", f"checkpoint {path} is damaged", *changed)
    assert "Set aside as epoch-000003.pt.damaged" in printed
    assert "set aside as damaged, and not used" in patient.look(only="checkpoints").printed


def test_without_the_best_a_training_must_start_anew(patient, folder):
    (folder / "epoch-000002.pt").write_bytes(b"x")
    seen = patient.look("--fix", only="checkpoints")
    assert (seen.code, len(seen.mended), len(seen.wrong)) == (1, 1, 1), seen.printed
    assert f"To mend it: rm {patient.short(str(folder))}/epoch-*" in seen.wrong[0]


def test_when_none_is_good_nothing_is_removed(patient, folder):
    for path in checkpoints.found(folder):
        path.write_bytes(b"x")
    seen = patient.look("--fix", only="checkpoints")
    assert (seen.code, len(seen.mended), len(seen.wrong)) == (1, 2, 1), seen.printed
    patient.assert_only_told("checkpoints", f"every checkpoint in {folder} is damaged", f"rm {folder}/epoch-*")
    assert len(list(folder.glob("*.damaged"))) == 2


@pytest.mark.parametrize("damage", ["torn", "damaged"])
def test_the_history_is_written_anew_from_a_checkpoint(patient, folder, damage):
    path = folder / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] if damage == "torn" else whole.replace(b'{"epoch": 1', b'{"epoch" 1'))
    line = "line 2 of 2: torn" if damage == "torn" else "line 1 of 2: damaged"
    patient.assert_mends("checkpoints", f"{path}, {line}", *names(patient, folder, "history.jsonl"))
    assert path.read_bytes() == whole


def test_a_history_without_a_checkpoint_ends_before_the_damage(patient, folder):
    for path in checkpoints.found(folder):
        path.unlink()
    path = folder / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    patient.assert_mends("checkpoints", "torn", *names(patient, folder, "history.jsonl", "history.jsonl.damaged"))
    assert path.read_bytes() == whole.splitlines(keepends=True)[0]


def test_a_damaged_fingerprint_is_set_aside(patient, folder):
    (folder / "fingerprint.json").write_text('{"params": ')
    patient.assert_mends(
        "checkpoints",
        "fingerprint.json is damaged",
        *names(patient, folder, "fingerprint.json", "fingerprint.json.damaged"),
    )


def test_what_was_left_half_written_goes(patient, folder):
    (folder / ".epoch-000004.pt.partial").write_bytes(b"half")
    patient.assert_mends("checkpoints", "left half-written", *names(patient, folder, ".epoch-000004.pt.partial"))


def test_a_training_that_runs_is_left_alone(patient, folder):
    (folder / "epoch-000003.pt").write_bytes(b"being written")
    code = "import pathlib, sys; from src import locks\nwith locks.held(pathlib.Path(sys.argv[1]), 'x'):"
    code += "\n    print('held', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    trainer = subprocess.Popen([sys.executable, "-c", code, folder / "lock"], text=True, cwd=patient.path, **pipes)
    assert trainer.stdout.readline() == "held\n"
    before = patient.files()
    seen = patient.look("--fix", only="checkpoints")
    assert seen.code == 0, seen.printed
    assert f"{patient.short(str(folder))} is in use by process {trainer.pid}: not looked at" in seen.printed
    assert patient.changed(before) == []
    trainer.kill()
    trainer.communicate()
