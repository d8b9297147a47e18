"""Files that leave the process: written beside, fsynced, renamed, so that a reader sees the old or the new one."""

import errno
import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.errors import InputError

GONE = ".gone"  # ends the name of a folder that is being removed
SEAL = "sha256_of_the_rest"
_BEFORE_SEAL = f', "{SEAL}": "'.encode()
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
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write or an fsync that fails does not say of which file
        raise
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlive a power cut; only POSIX systems can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync(path: Path) -> None:
    """Make a file, or all in a folder, outlive a power cut."""
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
        sync_folder(path)
    else:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def size(folder: Path, shared: bool = True) -> int:
    """Bytes of all files in a folder; one that another process removes meanwhile counts for nothing. shared: with those
    that have another name too, and so take no room of their own."""
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found = (Path(inside) / name).stat()
                total += found.st_size if shared or found.st_nlink == 1 else 0
    return total


def remove_folder(folder: Path) -> None:
    """Remove a folder, out of the way at once: whoever is killed here, or looks meanwhile, finds no half of it. OSError
    when it is gone."""
    folder.replace(folder.with_name(f".{folder.name}{GONE}"))
    sweep(folder.parent)


def sweep(above: Path) -> None:
    """Remove what `remove_folder` took out of the way in a folder; another process may be at it too."""
    for gone in above.glob(f".*{GONE}"):
        shutil.rmtree(gone, ignore_errors=True)


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


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The value with its own SHA-256 as its last entry, so that a reader notices damage."""
    return {**value, SEAL: _digest(value)}


def unsealed(value: Any) -> dict[str, Any]:
    """What was sealed; ValueError when it is not as it was then."""
    if not isinstance(value, dict) or value.pop(SEAL, None) != _digest(value):
        raise ValueError("its SHA-256 is not the one written in it")
    return value


def sealed_line(value: dict[str, Any]) -> bytes:
    """A sealed value as a line of JSON."""
    assert value  # whose comma stands between it and the seal
    text = json.dumps(value).encode()
    return text[:-1] + _BEFORE_SEAL + hashlib.sha256(text).hexdigest().encode() + b'"}\n'


def unsealed_line(line: bytes) -> dict[str, Any]:
    """What was sealed, from a line with its end or without; ValueError when it is not as it was then."""
    value, (text, _, seal) = json.loads(line), line.rpartition(_BEFORE_SEAL)
    if seal.rstrip() != hashlib.sha256(text + b"}").hexdigest().encode() + b'"}':
        raise ValueError("its SHA-256 is not the one written in it")
    del value[SEAL]
    return value


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    write_json(path, sealed(value))


def read_sealed(path: Path, remedy: str = "Delete it and run: dvc repro") -> dict[str, Any]:
    """The value in a file of write_sealed; InputError, which ends with the remedy, when it is missing or damaged."""
    value = read_json(path)
    try:
        return unsealed(value)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. {remedy}") from None


def _digest(value: dict[str, Any]) -> str:
    # parsed JSON keeps its order, and its floats to the bit, so the text comes out the same again
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def set_aside(path: Path) -> Path:
    """Take a damaged file out of the way, kept for who wants to look at it; returns where it is."""
    return path.replace(path.with_name(path.name + ".damaged"))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
