import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from src import checkpoints, locks, paths
from src.errors import InputError, RunError

ROOT = Path(__file__).parents[1]


def state_of(epoch, step=0):
    state = {"epoch": epoch, "step": step, "best_epoch": min(epoch, 2)}
    return {**state, "weights": torch.full((1000,), float(epoch))}


@pytest.fixture
def folder(tmp_path):
    for epoch in range(1, 6):
        checkpoints.write(tmp_path, state_of(epoch), keep=2)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.glob("*.pt"))


def test_the_newest_two_and_the_best_are_kept_each_with_its_digest(folder):
    assert names(folder) == ["epoch-000002.pt", "epoch-000004.pt", "epoch-000005.pt"]
    assert sorted(path.name for path in folder.glob("*.sha256")) == [f"{name}.sha256" for name in names(folder)]
    assert not list(folder.glob(".*"))


def test_the_digests_are_those_of_sha256sum(folder):
    for name in names(folder):
        checked = subprocess.run(["sha256sum", "--check", "--strict", f"{name}.sha256"], cwd=folder)
        assert checked.returncode == 0


def test_a_state_comes_back_equal(folder):
    state = checkpoints.newest(folder, print)
    assert state["epoch"] == 5
    assert torch.equal(state["weights"], state_of(5)["weights"])


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no digest", "torn digest"])
def test_a_damaged_one_is_named_and_set_aside_and_the_one_before_is_used(folder, damage):
    path = folder / "epoch-000005.pt"
    digest = folder / "epoch-000005.pt.sha256"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "flip":
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no digest":
        digest.unlink()
    else:
        digest.write_text("")
    said = []
    assert checkpoints.newest(folder, said.append)["epoch"] == 4
    assert len(said) == 1
    assert "epoch-000005.pt" in said[0]
    assert (folder / "epoch-000005.pt.damaged").exists()


def test_when_all_are_damaged_it_says_so_and_overwrites_nothing(folder):
    for name in names(folder):
        (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"every checkpoint in .* is damaged. To train from the start: rm .*/epoch-\*"):
        checkpoints.newest(folder, lambda _: None)
    assert len(list(folder.glob("*.damaged"))) == 3


def test_no_checkpoints_is_no_state(tmp_path):
    assert checkpoints.newest(tmp_path, print) is None


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/run",)

    torch.save({"epoch": Hostile()}, tmp_path / "epoch-000001.pt")
    content = (tmp_path / "epoch-000001.pt").read_bytes()
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "epoch-000001.pt.sha256").write_text(f"{digest}  epoch-000001.pt\n")
    with pytest.raises(InputError, match="holds more than tensors and plain values"):
        checkpoints.read(tmp_path / "epoch-000001.pt")
    assert not (tmp_path / "run").exists()


def test_every_random_generator_goes_on_where_it_was():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)

    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(2).tolist()

    draw()
    states = checkpoints.random_states()
    expected = [draw() for _ in range(3)]
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    checkpoints.restore_random_states(states)
    assert [draw() for _ in range(3)] == expected


def test_a_checkpoint_within_an_epoch_sorts_between_those_of_the_epochs(tmp_path):
    for epoch, step in ((9_998, 0), (9_998, 7), (9_998, 12), (9_999, 0), (9_999, 3), (10_000, 0)):
        checkpoints.write(tmp_path, state_of(epoch, step), keep=9)
    states = [checkpoints.read(path) for path in checkpoints.found(tmp_path)]
    order = [(state["epoch"], state["step"]) for state in states]
    assert order == sorted(order)
    assert len(order) == 6


def test_a_link_in_place_of_a_checkpoint_is_refused(folder):
    path = folder / "epoch-000005.pt"
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")
    with pytest.raises(InputError, match="it is a link, and checkpoints are files"):
        checkpoints.read(path)


def test_one_that_cannot_be_read_now_is_not_taken_for_damaged(folder):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        with pytest.raises(RunError, match=r"cannot be read now: .*Too many open files.*It is left as it is"):
            checkpoints.read(folder / "epoch-000005.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert checkpoints.newest(folder, print)["epoch"] == 5


def test_what_was_not_written_as_it_should_be_deletes_nothing(folder, monkeypatch):
    monkeypatch.setattr(checkpoints.files, "sha256", lambda path: "another")
    with pytest.raises(OSError, match="does not read back equal"):
        checkpoints.write(folder, state_of(6), keep=1)
    monkeypatch.undo()
    assert checkpoints.newest(folder, print)["epoch"] == 6
    assert names(folder) == [f"epoch-00000{epoch}.pt" for epoch in (2, 4, 5, 6)]


def test_checkpoints_of_other_trainings_go_by_age_and_by_size(tmp_path):
    now = time.time()
    for age, name in ((40, "old"), (3, "third"), (2, "second"), (1, "first"), (50, "current")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epoch-000001.pt").write_bytes(bytes(1_000_000))
        mark = tmp_path / name / paths.MARK
        mark.touch()
        os.utime(mark, (now - age * 86_400, now - age * 86_400))
    said = []

    def left():
        return sorted(path.name for path in tmp_path.iterdir())

    (tmp_path / ".before.gone").mkdir()  # by a process that was killed while it removed it
    (tmp_path / ".before.gone" / "epoch-000001.pt").touch()
    checkpoints.prune({tmp_path / "current"}, None, None, said.append)
    assert said == []
    checkpoints.prune({tmp_path / "current"}, 30, 1, said.append)
    assert left() == ["current", "first", "second", "third"]
    assert "checkpoints of 40 days ago removed (1 MB)" in said[0]
    with locks.held(tmp_path / "third" / "lock", "is training"):
        hold = "import sys, time; from src import locks\nwith locks.held(__import__('pathlib').Path(sys.argv[1]), 'x'):"
        hold += "\n    print('held', flush=True); time.sleep(60)"
        other = subprocess.Popen(
            [sys.executable, "-c", hold, tmp_path / "second" / "lock"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "held\n"
    checkpoints.prune({tmp_path / "current"}, 30, 0.0021, said.append)
    other.kill()
    other.communicate()
    assert left() == ["current", "second"]
