"""Checkpoints: write, verify, find the newest good one, restore.

A folder holds `epoch-0007.pt` beside `epoch-0007.pt.sha256`, in the format of sha256sum. The digest is written
first, so a checkpoint that has its name has its digest. Loading never unpickles code (`weights_only=True`).
"""

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src import files
from src.errors import InputError

KEEP = 2  # the newest, and one before it should the newest be damaged

State = dict[str, Any]


def path_of(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.pt"


def digest_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write(folder: Path, epoch: int, state: State, best_epoch: int) -> Path:
    """Write the state after `epoch`, then drop all but the newest KEEP and the best."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = path_of(folder, epoch)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    files.write_bytes(digest_of(path), f"{digest}  {path.name}\n".encode())
    files.write_bytes(path, buffer.getvalue())
    keep = {*sorted(folder.glob("epoch-*.pt"))[-KEEP:], path_of(folder, best_epoch)}
    for old in set(folder.glob("epoch-*.pt")) - keep:
        old.unlink()
        digest_of(old).unlink(missing_ok=True)
    return path


def read(path: Path) -> State:
    """The state in a checkpoint, on the CPU; InputError when it is missing or its digest does not match."""
    try:
        content = path.read_bytes()
        expected = digest_of(path).read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {error}") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(f"checkpoint {path} is damaged: its SHA-256 is not the one written beside it")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def newest(folder: Path, say: Callable[[str], None]) -> State | None:
    """The newest good state in `folder`, or None when there are no checkpoints.

    A damaged one is named and set aside, and the one before it is used. InputError when all are damaged.
    """
    paths = sorted(folder.glob("epoch-*.pt"), reverse=True)
    for path in paths:
        try:
            return read(path)
        except InputError as error:
            aside = path.with_name(path.name + ".damaged")
            path.replace(aside)
            say(f"{error}. Set aside as {aside.name}")
    if paths:
        raise InputError(f"every checkpoint in {folder} is damaged. To train from the start: rm -r {folder}")
    return None


def random_states() -> State:
    """The state of every random number generator a training can touch, as plain values and tensors."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: State) -> None:
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
