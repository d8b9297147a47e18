"""The files of data/prepared: one safetensors file a split, read by memory mapping, and schema.json."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from src import files, paths
from src.data.schema import Schema, SplitName
from src.errors import InputError
from src.params import Params

if TYPE_CHECKING:
    from torch import Tensor


SLICE = 1 << 18  # bytes written at once: with megabytes the kernel takes twice as long to find room for them


class Split(NamedTuple):
    """inputs: float32 [N, *shape], or uint8 for images that are; targets: int64 or float32 [N]; rows: numbers of the
    source's rows, int64 [N]."""

    inputs: "Tensor"
    targets: "Tensor"
    rows: "Tensor"


def path_of(folder: Path, name: SplitName) -> Path:
    return folder / f"{name}.safetensors"


def terms(params: Params) -> dict[str, Any]:
    """The params that decide what prepared data holds; schema.json repeats them, so that stale data is noticed."""
    return {"seed": params.seed, "task": params.task, **params.prepare.model_dump()}


class SplitFile:
    """A split's file while it is written, in the layout of safetensors: rows, targets, then inputs, piece by piece.

    The library writes whole tensors only. Its digest is taken on the way, by a thread of `pool`.
    """

    def __init__(self, path: Path, rows: np.ndarray, targets: np.ndarray, pool: ThreadPoolExecutor) -> None:
        self.path, self.beside = path, path.with_name(f".{path.name}.partial")
        self.rows, self.targets, self.pool = rows, targets, pool
        self.hash = hashlib.sha256()
        self.file = self.beside.open("wb")
        self.shape: tuple[int, ...] = ()

    def add(self, inputs: np.ndarray) -> None:
        if not self.shape:
            self.shape = inputs.shape[1:]
            self._write(np.frombuffer(self._header(inputs.dtype), np.uint8))
            self._write(self.rows.astype(np.int64))
            self._write(self.targets)
        self._write(inputs)

    def close(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def _write(self, values: np.ndarray) -> None:
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        hashed = self.pool.submit(self.hash.update, content)
        for start in range(0, len(content), SLICE):
            self.file.write(content[start : start + SLICE])
        hashed.result()

    def _header(self, dtype: np.dtype) -> bytes:
        count = len(self.rows)
        tensors, start = {}, 0
        for name, kind, shape in (
            ("rows", np.dtype(np.int64), (count,)),
            ("targets", self.targets.dtype, (count,)),
            ("inputs", dtype, (count, *self.shape)),
        ):
            end = start + kind.itemsize * int(np.prod(shape))
            tensors[name] = {"dtype": TYPES[kind.name], "shape": shape, "data_offsets": [start, end]}
            start = end
        header = json.dumps(tensors).encode()
        header += b" " * (-len(header) % 8)  # so that the tensors are aligned
        return len(header).to_bytes(8, "little") + header


TYPES = {"uint8": "U8", "int64": "I64", "float32": "F32"}


def write(
    folder: Path,
    splits: dict[SplitName, tuple[np.ndarray, np.ndarray]],
    pieces: Iterable[list[np.ndarray]],
    **facts: Any,
) -> Schema:
    """Write the splits, then the schema that names their digests; `facts` are the schema's other fields.

    splits: rows [N] and targets [N]; pieces: inputs [M, *shape] of each of the splits, in the order of the
    rows. Until all is written, what was in the folder before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[SplitName, SplitFile] = {}
    with ThreadPoolExecutor(1) as pool, ExitStack() as at_the_end:
        for name, given in splits.items():
            file = written[name] = SplitFile(path_of(folder, name), *given, pool)
            at_the_end.callback(file.beside.unlink, missing_ok=True)
            at_the_end.callback(file.file.close)  # on a full disk this fails too
        for piece in pieces:
            for file, inputs in zip(written.values(), piece, strict=True):
                file.add(inputs)
        for file in written.values():
            file.close()
        # the schema names what it belongs to and goes last: without it there is no prepared data
        (folder / paths.SCHEMA.name).unlink(missing_ok=True)
        for file in written.values():
            file.beside.replace(file.path)
    files.sync_folder(folder)
    facts["shape"] = written["train"].shape
    facts["rows"] = {name: len(rows) for name, (rows, _) in splits.items()}
    facts["files"] = {name: file.hash.hexdigest() for name, file in written.items()}
    bare = Schema(**facts, digest="")
    digest = hashlib.sha256(bare.model_dump_json(exclude={"made_with"}).encode()).hexdigest()
    schema = bare.model_copy(update={"digest": digest})
    files.write_sealed(folder / paths.SCHEMA.name, schema.model_dump(mode="json"))
    return schema


def load(name: SplitName, schema: Schema, folder: Path = paths.PREPARED) -> Split:
    """One split, memory-mapped. InputError when its file is missing or is not the one the schema was written with."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = path_of(folder, name)
    if not path.is_file():
        raise InputError(f"{path} is missing. Make it with: dvc repro prepare")
    if files.sha256(path) != schema.files[name]:
        raise InputError(f"{path} is not the file that {paths.SCHEMA} describes. Make both anew: dvc repro -f prepare")
    try:
        return Split(**load_file(path))
    except (SafetensorError, TypeError) as error:
        raise InputError(f"{path} holds no prepared data: {error}. Make it anew: dvc repro -f prepare") from None
