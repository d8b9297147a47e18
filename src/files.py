"""Files that leave the process: written beside, fsynced, renamed, so that a reader sees the old or the new one."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from src.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk that has no room left


def write_bytes(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step; a crash or a full disk leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlive a power cut; only POSIX systems can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    # json writes a float with the fewest digits that read back equal, so equal results are equal bytes
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file; InputError when it is missing or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Make it with: dvc repro") from None
    except ValueError as error:  # covers broken UTF-8 too
        raise InputError(f"{path} is not valid JSON ({error}). Delete it and run: dvc repro") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
