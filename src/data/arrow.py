"""Parquet, Feather and JSON Lines files, a piece at a time, as Arrow reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from src import files
from src.data.table import Misfit, check_same, in_order, labelled, wider
from src.errors import InputError

CHUNK = 1 << 23  # bytes of text that are parsed at once


@contextmanager
def told(path: Path, name: str) -> Iterator[None]:
    """InputError for what Arrow cannot read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in files.FULL:
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} is not a {name} file that can be read: {reason}") from None


def parts(paths: dict[Path, str | None], name: str) -> Iterator[Any]:
    """The rows of Parquet or Feather files as Arrow tables of one schema, with the split of each file that has one.
    InputError when their columns are not the same."""
    import pyarrow as pa
    import pyarrow.dataset

    schemas = {path: pyarrow.dataset.dataset(str(path), format=name).schema for path in paths}
    first = next(iter(schemas.values()))
    for path, schema in schemas.items():
        check_same(first.names, schema.names, path)
    common = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
    for path, split in paths.items():
        for batch in pyarrow.dataset.dataset(str(path), common, name).to_batches():
            yield labelled(pa.Table.from_batches([batch]), split)


def json_lines(path: Path, types: dict[str, Any]) -> Iterator[Any]:
    """The objects of a JSON Lines file as Arrow tables; a key that an object lacks is null. Compressed as for CSV.

    types: of keys, where they are known; the first lines say the others. Misfit when later ones have other types.
    """
    chunks = _lines(path)
    table = _parse(next(chunks, b""), types)
    yield table
    known = {field.name: field.type for field in table.schema}
    yield from in_order(partial(_parse, types=known), chunks)


def _lines(path: Path) -> Iterator[bytes]:
    """The text of a file in pieces of whole lines."""
    import pyarrow as pa

    kept = b""
    with pa.input_stream(path, compression="detect") as stream:
        while content := stream.read(CHUNK):
            kept += content
            end = kept.rfind(b"\n") + 1
            if kept[:end].strip():
                yield kept[:end]
            kept = kept[end:]
    if kept.strip():
        yield kept


def _parse(text: bytes, types: dict[str, Any]) -> Any:
    """Some lines as an Arrow table of `types`."""
    import pyarrow as pa
    import pyarrow.json

    def parse(types: dict[str, Any]) -> Any:
        return pa.json.read_json(
            pa.BufferReader(text),
            pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            pa.json.ParseOptions(explicit_schema=pa.schema(types.items())),
        )

    try:
        table = parse(types)
    except pa.ArrowInvalid:
        found = parse({}).schema
        merged = types | {field.name: wider(types.get(field.name, field.type), field.type) for field in found}
        if merged == types:
            raise
        raise Misfit(merged) from None
    found = {field.name: field.type for field in table.schema}
    if types and found != types:  # more keys
        raise Misfit(types | found)
    return table
