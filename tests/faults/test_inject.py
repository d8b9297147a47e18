"""The faults themselves: each strikes where it is told to, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.processes import INJECT

WRITER = """
import os
for number in range(3):
    with open("part", "w") as file:
        file.write("x" * 100)
        file.flush()
        os.fsync(file.fileno())
    os.replace("part", f"done-{number}")
os.unlink("done-0")
"""
ALL = ["done-1", "done-2"]


@pytest.fixture
def write(tmp_path):
    """write(FAULT="…") → the exit code of a process that writes three files, the names it left, what it said."""

    def run(*words, **variables):
        (tmp_path / "writer.py").write_text(WRITER)
        environment = {**os.environ, "PYTHONPATH": str(INJECT), **variables}
        words = words or (sys.executable, "writer.py")
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        left = sorted(path.name for path in tmp_path.iterdir() if path.name not in ("writer.py", "log"))
        return done.returncode, left, done.stderr

    return run


@pytest.mark.parametrize(
    ("fault", "code", "left"),
    [
        ("SIGKILL before fsync part", -9, ["part"]),
        ("SIGKILL before fsync part #3", -9, ["done-0", "done-1", "part"]),
        ("SIGKILL before replace done-1", -9, ["done-0", "part"]),
        ("SIGKILL after replace done-1", -9, ["done-0", "done-1"]),
        ("SIGKILL after replace done-* #2 in writer", -9, ["done-0", "done-1"]),
        ("SIGKILL before unlink done-0", -9, ["done-0", *ALL]),
        ("SIGKILL after unlink *", -9, ALL),
        ("SIGKILL after unlink * in reader.py", 0, ALL),
        ("SIGKILL after replace elsewhere", 0, ALL),
        ("ENOSPC before replace done-0", 1, ["part"]),
        ("EIO after replace done-0", 1, ["done-0"]),
    ],
)
def test_a_fault_strikes_where_it_is_told_to(write, fault, code, left):
    assert write(FAULT=fault)[:2] == (code, left)


def test_names_are_relative_to_the_projects_root_wherever_a_process_starts(write, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    words = (sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); exec({WRITER!r})")
    here = {"DVC_ROOT": str(tmp_path), "FAULT": "SIGKILL before replace done-1"}
    environment = {**os.environ, "PYTHONPATH": str(INJECT), **here}
    assert subprocess.run(words, cwd=tmp_path / "elsewhere", env=environment).returncode == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done-0", "elsewhere", "part"]


def test_a_file_that_is_only_read_can_be_torn(write, tmp_path):
    (tmp_path / "copy").write_text("y" * 100)
    words = (sys.executable, "-c", "import os; os.fsync(os.open('copy', os.O_RDONLY))")
    assert write(*words, FAULT="SIGKILL torn fsync copy")[0] == -9
    assert (tmp_path / "copy").stat().st_size == 91


def test_a_torn_file_lacks_its_last_bytes(write, tmp_path):
    write(FAULT="SIGKILL torn fsync part #2")
    assert (tmp_path / "done-0").stat().st_size == 100
    assert 0 < (tmp_path / "part").stat().st_size < 100


def test_an_error_is_the_systems_own(write):
    assert "OSError: [Errno 28] No space left on device" in write(FAULT="ENOSPC before fsync part")[2]


def test_a_fault_reaches_the_process_that_a_process_starts(write):
    command = ("sh", "-c", f'"{sys.executable}" writer.py; echo $? >&2')
    code, left, said = write(*command, FAULT="SIGKILL after replace done-0 in writer.py")
    assert (code, left) == (0, ["done-0"])
    assert said.split()[-1] == "137"


def test_what_was_passed_is_listed(write, tmp_path):
    log = tmp_path / "log"
    assert write(FAULT_LOG=str(log))[:2] == (0, ALL)
    wanted = [line for number in range(3) for line in ("fsync part", f"replace done-{number}")]
    assert log.read_text().splitlines() == [f"writer.py {line}" for line in [*wanted, "unlink done-0"]]


def test_a_fault_that_strikes_is_listed_too(write, tmp_path):
    write(FAULT="SIGKILL after replace done-0", FAULT_LOG=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().splitlines()[-1] == "writer.py SIGKILL after replace done-0"


def test_a_fault_that_cannot_be_read_is_refused(write):
    code, left, said = write(FAULT="SIGKILL sometime")
    assert (code != 0, left) == (True, [])
    assert "FAULT cannot be read: SIGKILL sometime" in said


def test_the_name_is_the_one_that_python_looks_for():
    assert Path(INJECT / "sitecustomize.py").is_file()
