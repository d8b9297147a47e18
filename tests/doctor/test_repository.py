import json
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.pipeline


@pytest.fixture
def gone():
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "content", ['{"write": {"/a": {"pid": 1', "", '{"write": []}', '{"write": {"/a": {"pid": 1}}}']
)
def test_a_torn_rwlock_blocks_dvc_until_it_is_removed(patient, finished, content):
    path = patient.path / ".dvc/tmp/rwlock"
    path.write_text(content)
    if not content:  # DVC says so itself
        blocked = subprocess.run(
            ["dvc", "repro"], cwd=patient.path, env=finished.environment, capture_output=True, text=True
        )
        assert blocked.returncode
    patient.assert_mends("DVC locks", f"{path} is torn")
    assert not path.exists()


def test_entries_of_processes_that_are_gone_go_and_those_of_the_living_stay(patient, gone):
    path = patient.path / ".dvc/tmp/rwlock"
    living = subprocess.Popen([sys.executable, "-c", "input()", "dvc", "repro"], stdin=subprocess.PIPE)
    mine = {"pid": living.pid, "cmd": "/bin/dvc repro"}
    reused = {"pid": os.getpid(), "cmd": "/bin/dvc exp run"}  # a number that another program has by now
    theirs = {"pid": gone, "cmd": "/bin/dvc repro"}
    path.write_text(json.dumps({"write": {"/a": theirs, "/b": mine}, "read": {"/c": [theirs], "/d": [mine, reused]}}))
    seen = patient.look("--fix", only="DVC locks")
    assert (seen.code, len(seen.mended)) == (0, 2), seen.printed
    assert json.loads(path.read_text()) == {"write": {"/b": mine}, "read": {"/d": [mine]}}
    assert f"in use by process {living.pid} (/bin/dvc repro)" in patient.look(only="DVC locks").printed
    living.kill()
    living.communicate()


@pytest.mark.parametrize("damage", ["<<<<<<< HEAD\nschema: '2.0'\n=======\n", "schema: '2.0'\nstages:\n  a: [", ""])
def test_a_dvc_lock_that_cannot_be_read(patient, damage):
    (patient.path / "dvc.lock").write_text(damage)
    patient.assert_only_told("DVC", "dvc.lock", "git checkout dvc.lock, or: rm dvc.lock && dvc repro")


def test_a_dvc_yaml_that_cannot_be_read(patient):
    path = patient.path / "dvc.yaml"
    path.write_text(path.read_text().replace("    cmd:", "    cmdd:", 1))
    patient.assert_only_told("DVC", "dvc.yaml", "git checkout undoes it")


def test_what_is_no_repository(patient):
    shutil.rmtree(patient.path / ".git")
    patient.assert_only_told("git", "is no git repository", "git init")
    shutil.rmtree(patient.path / ".dvc")
    patient.assert_only_told("DVC", "has no folder .dvc", "git checkout .dvc, or: dvc init")
    seen = patient.look()  # what stands on DVC is not looked at, and fails no check
    assert (seen.code, len(seen.wrong)) == (1, 2), seen.printed
