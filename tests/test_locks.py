import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src import locks
from src.errors import RunError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/lock until it reads a line."""
    code = f"""if True:
        from pathlib import Path
        from src import locks
        with locks.held(Path({str(tmp_path)!r}) / "lock", "sleeps"):
            print("held", flush=True)
            input()
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_at_once_with_the_number_of_the_first(holder, tmp_path):
    start = time.monotonic()
    refusal = pytest.raises(RunError, match=rf"^process {holder.pid} works here: wait for it, or end it$")
    with refusal, locks.held(tmp_path / "lock", "works here"):
        pass
    assert time.monotonic() - start < 1


def test_a_lock_goes_with_its_process_however_it_ends(holder, tmp_path):
    holder.kill()
    holder.wait()
    with locks.held(tmp_path / "lock", "works here"):
        assert (tmp_path / "lock.pid").read_text() == str(os.getpid())


def test_one_that_waits_gets_it_when_the_other_is_done(holder, tmp_path):
    holder.stdin.write("\n")
    holder.stdin.flush()
    with locks.held(tmp_path / "lock", "works here", wait=30):
        assert (tmp_path / "lock.pid").read_text() == str(os.getpid())


def test_who_holds_a_lock_is_told_without_taking_it(holder, tmp_path):
    assert locks.holder(tmp_path / "lock") == str(holder.pid)
    holder.kill()
    holder.wait()
    assert locks.holder(tmp_path / "lock") is None
    assert locks.holder(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
