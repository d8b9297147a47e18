import os
import pickle
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from src import checkpoints
from src.errors import InputError

ROOT = Path(__file__).parents[1]


def state_of(epoch):
    return {"epoch": epoch, "weights": torch.full((1000,), float(epoch))}


@pytest.fixture
def folder(tmp_path):
    for epoch in range(1, 6):
        checkpoints.write(tmp_path, epoch, state_of(epoch), best_epoch=min(epoch, 2))
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.glob("*.pt"))


def test_the_newest_two_and_the_best_are_kept_each_with_its_digest(folder):
    assert names(folder) == ["epoch-0002.pt", "epoch-0004.pt", "epoch-0005.pt"]
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
    path = folder / "epoch-0005.pt"
    digest = folder / "epoch-0005.pt.sha256"
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
    assert "epoch-0005.pt" in said[0]
    assert (folder / "epoch-0005.pt.damaged").exists()


def test_when_all_are_damaged_it_says_so_and_overwrites_nothing(folder):
    for name in names(folder):
        (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"every checkpoint in .* is damaged. To train from the start: rm -r"):
        checkpoints.newest(folder, lambda _: None)
    assert len(list(folder.glob("*.damaged"))) == 3


def test_no_checkpoints_is_no_state(tmp_path):
    assert checkpoints.newest(tmp_path, print) is None


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/run",)

    torch.save({"epoch": Hostile()}, tmp_path / "epoch-0001.pt")
    content = (tmp_path / "epoch-0001.pt").read_bytes()
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "epoch-0001.pt.sha256").write_text(f"{digest}  epoch-0001.pt\n")
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.read(tmp_path / "epoch-0001.pt")
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
