import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.pipeline


@pytest.fixture
def sleeper():
    """A process that lives until the test is over."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("folder", ["models", "reports", "data/prepared"])
def test_files_of_processes_that_are_gone_go(patient, sleeper, folder):
    sleeper.kill()
    sleeper.wait()
    name = f"{folder}/.train.json.{sleeper.pid}.partial"
    (patient.path / name).write_text("{")
    patient.assert_mends("leftovers", f"{name} was left half-written", name)


def test_a_number_that_another_process_has_by_now(patient, sleeper):
    name = f"reports/.train.json.{sleeper.pid}.partial"
    (patient.path / name).write_text("{")
    os.utime(patient.path / name, (1e9, 1e9))
    patient.assert_mends("leftovers", name, name)


def test_files_that_are_being_written_stay(patient, sleeper):
    numbered, plain = f"reports/.train.json.{sleeper.pid}.partial", "data/prepared/.train.safetensors.partial"
    (patient.path / numbered).write_text("{")
    with (patient.path / plain).open("wb") as file:
        file.write(b"half")
        before = patient.files()
        seen = patient.look("--fix", only="leftovers")
        assert seen.code == 0, seen.printed
        assert "2 files are being written" in seen.printed
        assert patient.changed(before) == []
    (patient.path / numbered).unlink()
    patient.assert_mends("leftovers", plain, plain)
