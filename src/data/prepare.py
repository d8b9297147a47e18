"""Raw rows → data/prepared: look, check, split, fit the encoding on the training rows, encode, write.

The rows go by in blocks, four times; of each row only a hash, its target and its split are held in memory.
"""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src import cli, paths
from src.data import columns as kinds
from src.data import divide, encoding, fitting, leaks, prepared, sources, target
from src.data import schema as schemas
from src.data.columns import Facts
from src.data.images import SPLIT
from src.data.schema import SPLITS, Schema, Target
from src.data.sources import Raw
from src.data.table import in_order
from src.errors import InputError
from src.params import Params

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Seen(NamedTuple):
    """facts: of every feature; target: of all rows; key: what the split goes by, of all rows."""

    facts: dict[str, Facts]
    target: pd.Series
    key: Any


def prepare(params: Params, folder: Path = paths.PREPARED) -> Schema:
    """Read prepare.source, write the three splits and the schema into `folder`, and return the schema.

    InputError for any fault of the data, and for a full disk; what was prepared before is then still there.
    """
    try:
        return _prepare(params, folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(
            f"there is no room left to write {folder} ({error.strerror}); what was there is unchanged. Preparing needs "
            "about twice the size of the data. Free some space and run again"
        ) from None


def _prepare(params: Params, folder: Path) -> Schema:
    settings = params.prepare
    raw = sources.read(settings)
    seen = _look(raw, params)
    known = seen.target.notna().to_numpy()
    wanted = seen.target[known]  # the index stays: the places of the source's rows
    dropped = {"missing target": int((~known).sum())}
    if wanted.empty:
        raise InputError(f"prepare.target '{raw.target}' is missing in every row of {settings.source}")
    task = _task(params, wanted)
    classes = target.classes_of(wanted, task) if task in ("classification", "binary") else None
    numbers = target.class_numbers(wanted, classes) if classes else target.regression_values(wanted)

    described, ignored = _kinds(seen.facts, params, pixels=raw.shape is not None)
    used = [name for name in seen.facts if name not in ignored]
    if classes and settings.split in ("auto", "stratified"):
        target.check_strata(wanted, numbers, classes)
    hashes = np.concatenate(list(in_order(lambda block: leaks.hashes(block[used]), _blocks(raw, params))))[known]
    key = None if seen.key is None else seen.key[known]
    parts, notes = divide.divide(params, hashes, numbers, key, numbers if classes else None)
    del hashes, key
    if classes:
        target.check_train(wanted, numbers[parts[0]], classes)
        goal = Target(name=str(raw.target), classes=classes, counts=np.bincount(numbers[parts[0]]).tolist())
        targets = numbers if task == "classification" else numbers.astype(np.float32)
    else:
        goal = target.fit_regression(wanted, parts[0], settings.target_transform)
        targets = goal.encoded(numbers)

    places = np.flatnonzero(known)
    where = np.full(len(known), -1, np.int8)  # the split of each row of the source
    for number, part in enumerate(parts):
        where[places[part]] = number
    train = (block.loc[own == 0, used] for block, own in _with(where, _blocks(raw, params)) if (own == 0).any())
    columns = fitting.fit(train, described, seen.facts)
    for note in [*raw.notes, *(f"column '{name}' is not used: {why}" for name, why in ignored.items()), *notes]:
        cli.say(note)

    def encode(piece: tuple[pd.DataFrame, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        block, own = piece
        chosen = block.loc[own >= 0, used]
        inputs = encoding.compact(chosen, columns) if raw.shape else encoding.encode(chosen, columns)
        return own[own >= 0], inputs.reshape(len(chosen), *(raw.shape or inputs.shape[1:]))

    return prepared.write(
        folder,
        {name: (places[part], targets[part]) for name, part in zip(SPLITS, parts, strict=True)},
        in_order(encode, _with(where, _blocks(raw, params))),
        source=settings.source,
        source_sha256=raw.sha256,
        task=task,
        target=goal,
        columns=columns,
        ignored=ignored,
        outputs=len(goal.classes) if task == "classification" and goal.classes else 1,
        dropped=dropped,
        notes=[*raw.notes, *notes],
        made_with=prepared.terms(params),
    )


def is_current(params: Params, folder: Path = paths.PREPARED) -> bool:
    """Whether prepared training and validation data exist, made with these params from the source as it is."""
    path = folder / paths.SCHEMA.name
    if not path.is_file() or not all(prepared.path_of(folder, name).is_file() for name in ("train", "val")):
        return False
    schema = schemas.load(path)
    source = sources.find(params.prepare.source)
    unchanged = source is None or sources.digest(source) == schema.source_sha256
    return unchanged and schema.made_with == prepared.terms(params)


def _blocks(raw: Raw, params: Params) -> Iterator[pd.DataFrame]:
    for block in raw.table.blocks():
        if params.prepare.infinite == "missing":
            decimals = block.select_dtypes("float")
            block = block.assign(**{str(name): decimals[name].mask(np.isinf(decimals[name])) for name in decimals})
        yield block


def _with(values: np.ndarray, blocks: Iterator[pd.DataFrame]) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Each block, with those of `values` [rows] that belong to its rows."""
    start = 0
    for block in blocks:
        yield block, values[start : start + len(block)]
        start += len(block)


def _look(raw: Raw, params: Params) -> Seen:
    """Go through all rows once. InputError when prepare.split_column is no column."""
    deciding = params.prepare.split_column
    features = [name for name in raw.table.names if name != raw.target]
    if deciding is not None and deciding not in features:
        raise InputError(f"prepare.split_column = '{deciding}' is no column. There are: {', '.join(features)[:300]}")

    def look(block: pd.DataFrame) -> tuple[list[Facts], pd.Series, Any]:
        key = None if deciding is None else divide.key_of(block[deciding], params.prepare, params.seed)
        facts = [kinds.look(block[name]) for name in features] if raw.shape is None else []
        return facts, block[raw.target], key

    total: dict[str, Facts] = {name: Facts(name) for name in features}
    wanted, keys = [], []
    for facts, own, key in in_order(look, _blocks(raw, params)):
        for seen in facts:
            total[seen.name].add(seen)
        wanted.append(own)
        keys.append(key)
    return Seen(total, kinds.joined(wanted), None if deciding is None else kinds.joined(keys))


def _task(params: Params, wanted: pd.Series) -> str:
    if params.task != "auto":
        return params.task
    task = target.infer_task(wanted)
    cli.say(f"task: {task}, by the target '{wanted.name}'")
    return task


def _kinds(
    facts: dict[str, Facts], params: Params, pixels: bool
) -> tuple[dict[str, str | list[str]] | None, dict[str, str]]:
    """How each column is encoded (None: all are pixels), and which are not used, with the reason. InputError when none
    is left."""
    if pixels:
        return None, {SPLIT: "it is the source's own division, for prepare.split: given"} if SPLIT in facts else {}
    wanted = params.prepare.columns
    described = kinds.describe(facts, wanted)
    deciding = params.prepare.split_column
    if deciding in described and params.prepare.split != "time":  # a time may be learned from, the others may not
        described[deciding] = ("ignore", "prepare.split_column")
    ignored = {name: reason for name, (kind, reason) in described.items() if kind == "ignore"}
    if len(ignored) == len(described):
        listed = "; ".join(f"{name}: {reason}" for name, reason in ignored.items())
        raise InputError(f"{params.prepare.source} has no column to predict from ({listed[:500]})")
    used = {name: wanted.get(name, kind) for name, (kind, _) in described.items() if name not in ignored}
    return used, ignored
