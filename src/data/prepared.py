"""The files of data/prepared: one safetensors file a split, read by memory mapping, and schema.json."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from src import files, paths
from src.data.schema import Schema, SplitName
from src.errors import InputError
from src.params import Params

if TYPE_CHECKING:
    from torch import Tensor


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


def write(folder: Path, splits: dict[SplitName, dict[str, np.ndarray]], **facts: Any) -> Schema:
    """Write the splits, then the schema that names their digests; `facts` are the schema's other fields."""
    from safetensors.numpy import save

    # the schema names what it belongs to and goes last: without it there is no prepared data
    (folder / paths.SCHEMA.name).unlink(missing_ok=True)
    for name, arrays in splits.items():
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        files.write_bytes(path_of(folder, name), save(contiguous))
    facts["rows"] = {name: len(arrays["targets"]) for name, arrays in splits.items()}
    facts["files"] = {name: files.sha256(path_of(folder, name)) for name in splits}
    bare = Schema(**facts, digest="")
    digest = hashlib.sha256(bare.model_dump_json(exclude={"made_with"}).encode()).hexdigest()
    schema = bare.model_copy(update={"digest": digest})
    files.write_json(folder / paths.SCHEMA.name, schema.model_dump(mode="json"))
    return schema


def load(name: SplitName, schema: Schema, folder: Path = paths.PREPARED) -> Split:
    """One split, memory-mapped. InputError when its file is missing or is not the one the schema was written with."""
    from safetensors.torch import load_file

    path = path_of(folder, name)
    if not path.is_file():
        raise InputError(f"{path} is missing. Make it with: dvc repro prepare")
    if files.sha256(path) != schema.files[name]:
        raise InputError(f"{path} is not the file that {paths.SCHEMA} describes. Make both anew: dvc repro -f prepare")
    return Split(**load_file(path))
