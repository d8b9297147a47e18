"""Checkpoints: write, verify, find the newest good one, restore.

A folder holds `epoch-000007.pt` beside `epoch-000007.pt.sha256`, in the format of sha256sum; a checkpoint within an
epoch is named by its step too, `epoch-000008-step-00000120.pt`. Names sort by age. The digest is written first, so a
checkpoint that has its name has its digest. Loading never unpickles code (`weights_only=True`).
"""

import errno
import hashlib
import io
import os
import pickle
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from src import files, locks, paths
from src.errors import InputError, RunError

State = dict[str, Any]


def path_of(folder: Path, epoch: int, step: int = 0) -> Path:
    """The checkpoint after `epoch` (from 1), or within it after `step` of its steps."""
    return folder / (f"epoch-{epoch:06d}-step-{step:08d}.pt" if step else f"epoch-{epoch:06d}.pt")


def digest_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _digest_line(path: Path, digest: str) -> bytes:
    """What lies beside a checkpoint, as sha256sum writes and reads it."""
    return f"{digest}  {path.name}\n".encode()


def found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("epoch-*.pt"))


def write(folder: Path, state: State, keep: int) -> Path:
    """Write a state, read it back, then drop all but the newest `keep` and the best.

    The state says where it stands: `epoch` whole epochs, `step` steps of the next one (0: none), and `best_epoch`.
    What was there before stays until the new checkpoint is on the disk and good. OSError when it cannot be written.
    """
    path = path_of(folder, state["epoch"] + 1, state["step"]) if state["step"] else path_of(folder, state["epoch"])
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("wb") as file:
            hashing = Hashing(file)
            torch.serialization.set_crc32_options(False)  # what a zip file checks with; the SHA-256 is there for that
            try:
                torch.save(state, hashing)  # type: ignore[arg-type]  # it asks for no more than write and flush
            except RuntimeError as error:
                # torch ends its file also after a write that failed, fails again, and hides why the first did
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
            file.flush()
            os.fsync(file.fileno())
        files.write_bytes(digest_of(path), _digest_line(path, hashing.digest))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    files.sync_folder(folder)
    if files.sha256(path) != hashing.digest:
        raise OSError(f"what was written to {path} does not read back equal")
    good = {*found(folder)[-keep:], path_of(folder, state["best_epoch"])}
    for old in set(found(folder)) - good:
        remove(old)
    return path


def remove(path: Path) -> None:
    path.unlink()
    digest_of(path).unlink(missing_ok=True)


class Hashing:
    """A file that is written and hashed at once: a state may be large, and is never whole in memory a second time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def read(path: Path) -> State:
    """The state in a checkpoint, on the CPU. InputError when it is missing, damaged, or no state at all; RunError when
    it may be good and cannot be read now: another user's, or too many files are open."""
    try:
        if path.is_symlink():
            raise ValueError("it is a link, and checkpoints are files")
        content = path.read_bytes()
        expected = digest_of(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.EISDIR, errno.EIO):
            raise RunError(f"checkpoint {path} cannot be read now: {error}. It is left as it is") from error
        raise InputError(f"checkpoint {path} cannot be read: {error}") from None
    if _digest_line(path, hashlib.sha256(content).hexdigest()) != expected:
        raise InputError(f"checkpoint {path} is damaged: its SHA-256 is not the one written beside it")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0]
        raise InputError(f"checkpoint {path} holds more than tensors and plain values, or is none: {why}") from None
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {path} holds no state of a training but {type(state).__name__}")
    return state


def newest(folder: Path, say: Callable[[str], None]) -> State | None:
    """The newest good state in `folder`, or None when there are no checkpoints.

    A damaged one is named and set aside, and the one before it is used. InputError when all are damaged.
    """
    there = found(folder)[::-1]
    for path in there:
        try:
            return read(path)
        except InputError as error:
            say(f"{error}. Set aside as {files.set_aside(path).name}")
    if there or any(folder.glob("epoch-*.pt.damaged")):
        raise InputError(f"every checkpoint in {folder} is damaged. To train from the start: rm {folder}/epoch-*")
    return None


def prune(keep: set[Path], days: float | None, gigabytes: float | None, say: Callable[[str], None]) -> None:
    """Remove the folders beside those in `keep` whose training was begun last more than `days` ago, then the longest
    unused until all take no more than `gigabytes`. One that a process trains in stays."""
    parents = {folder.parent for folder in keep}
    for parent in parents:
        files.sweep(parent)  # after a process that was killed meanwhile
    marks = {mark for parent in parents for mark in parent.glob(f"[!.]*/{paths.MARK}")}
    others, sizes = {}, {}
    for mark in marks:
        with suppress(FileNotFoundError):  # another process trains there, or removes it
            others[mark.parent] = mark.stat().st_mtime
            sizes[mark.parent] = files.size(mark.parent)
    left = sum(sizes.values())
    for folder in sorted(sizes, key=lambda other: others[other]):
        age = (time.time() - others[folder]) / 86_400
        old, large = days is not None and age > days, gigabytes is not None and left > gigabytes * 1e9
        if folder in keep or not (old or large):
            continue
        try:
            with locks.held(folder / "lock", "is training there"):
                files.remove_folder(folder)
        except (RunError, OSError):  # a process trains there, or removes it too
            continue
        say(f"checkpoints of {age:.0f} days ago removed ({sizes[folder] / 1e6:.0f} MB): {folder}")
        left -= sizes[folder]


def on_host(value: Any) -> Any:
    """A copy of a state whose tensors lie in host memory: training may go on while the copy is written."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_host(item) for key, item in value.items()}
    return [on_host(item) for item in value] if isinstance(value, list) else value


def random_states() -> State:
    """The state of every random number generator a training can touch, as tensors and plain values: to pickle 1,249
    numbers one by one would take as long as all else of a small state."""
    name, keys, *numpys = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    return {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *numpys],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: State) -> None:
    version, words, gauss = states["python"]
    name, keys, *numpys = states["numpy"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), *numpys))
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
