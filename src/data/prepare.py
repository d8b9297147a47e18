"""Raw rows → data/prepared: look, check, split, fit the encoding on the training rows, encode, write.

The rows go by in blocks, four times; of each row only a hash, its target and its split are held in memory.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src import cli, files, memory, paths
from src.data import columns as kinds
from src.data import divide, encoding, fitting, leaks, prepared, sources, target
from src.data import schema as schemas
from src.data.columns import Facts
from src.data.images import Shape
from src.data.schema import SPLITS, Column, Schema, Target
from src.data.sources import Raw
from src.data.table import SPLIT, rows_of_block
from src.errors import InputError
from src.params import Params


class Seen(NamedTuple):
    """facts: of every feature. Of all rows: their target; what the split goes by; a hash of the columns `hashed`; a
    hash of the first column that is called an id."""

    facts: dict[str, Facts]
    target: pd.Series
    key: Any
    hashed: list[str]
    hashes: np.ndarray
    id_name: str | None
    ids: np.ndarray | None


def prepare(params: Params, folder: Path = paths.PREPARED) -> Schema:
    """Read prepare.source, write the three splits and the schema into `folder`, and return the schema.

    InputError for any fault of the data, and for a full disk; what was prepared before is then still there.
    """
    memory.keep_freed()
    try:
        return _prepare(params, folder)
    except OSError as error:
        if error.errno not in files.FULL:
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

    described, ignored = _kinds(seen.facts, params, raw)
    used = [name for name in seen.facts if name not in ignored]
    if classes and settings.split in ("auto", "stratified"):
        target.check_strata(wanted, numbers, classes)
    hashes = seen.hashes if used == seen.hashed else _hashes(raw, params, used)
    hashes = hashes if known.all() else hashes[known]
    key = None if seen.key is None else seen.key[known]
    with ThreadPoolExecutor(1) as pool:  # dividing leaves the other cores idle
        source_sha256 = pool.submit(lambda: raw.sha256)
        parts, notes = divide.divide(params, hashes, numbers, key, numbers if classes else None)
        if seen.id_name is not None and seen.ids is not None:
            notes += divide.shared_ids(seen.id_name, seen.ids[known], parts)
    del hashes, key
    seen = seen._replace(hashes=np.empty(0), key=None, ids=None)
    goal, targets = _target(params, task, classes, wanted, numbers, parts[0])
    rows = [part if known.all() else np.flatnonzero(known)[part] for part in parts]  # places in the source
    splits = {name: (own, targets[part]) for name, own, part in zip(SPLITS, rows, parts, strict=True)}
    where = np.full(len(known), -1, np.int8)  # the split of each row of the source
    for number, own in enumerate(rows):
        where[own] = number
    fitted = fitting.Fitting(used, described, seen.facts)
    del seen, wanted, numbers, targets, parts, rows  # what is left to do needs nothing of every row but these
    columns = fitted.columns(
        _each(raw, params, "learning", lambda block: fitted.see(block, np.flatnonzero(_own(where, block) == 0)))
    )
    for note in [*raw.notes, *(f"column '{name}' is not used: {why}" for name, why in ignored.items()), *notes]:
        cli.say(note)
    return prepared.write(
        folder,
        splits,
        _each(raw, params, "writing", partial(_pieces, where=where, shape=raw.shape, used=used, columns=columns), True),
        source=settings.source,
        source_sha256=source_sha256.result(),
        task=task,
        target=goal,
        columns=columns,
        ignored=ignored,
        outputs=len(goal.classes) if task == "classification" and goal.classes else 1,
        dropped=dropped,
        notes=[*raw.notes, *notes],
        made_with=prepared.terms(params),
    )


def _pieces(
    block: pd.DataFrame, where: np.ndarray, shape: Shape | None, used: list[str], columns: list[Column]
) -> list[np.ndarray]:
    """The inputs of a block's rows [M, *shape], a piece a split; where: the split of every row, -1 for none."""
    own = _own(where, block)
    if (own < 0).any():
        block, own = block[own >= 0], own[own >= 0]
    inputs = encoding.compact(block[used], columns) if shape else encoding.encode(block, columns)
    inputs = inputs.reshape(len(block), *(shape or inputs.shape[1:]))
    by_split = inputs.take(own.argsort(kind="stable"), axis=0)
    return np.split(by_split, np.cumsum(np.bincount(own, minlength=len(SPLITS)))[:-1])


def _target(
    params: Params, task: str, classes: list[Any] | None, wanted: pd.Series, numbers: np.ndarray, train: np.ndarray
) -> tuple[Target, np.ndarray]:
    """What the schema says of the target, and the target of each row as the model learns it."""
    if classes is None:
        goal = target.fit_regression(wanted, train, params.prepare.target_transform)
        return goal, goal.encoded(numbers)
    target.check_train(wanted, numbers[train], classes)
    goal = Target(name=str(wanted.name), classes=classes, counts=np.bincount(numbers[train]).tolist())
    return goal, numbers if task == "classification" else numbers.astype(np.float32)


def is_current(params: Params, folder: Path = paths.PREPARED) -> bool:
    """Whether prepared training and validation data exist, made with these params from the source as it is."""
    path = folder / paths.SCHEMA.name
    if not path.is_file() or not all(prepared.path_of(folder, name).is_file() for name in ("train", "val")):
        return False
    schema = schemas.load(path)
    source = sources.find(params.prepare.source)
    unchanged = source is None or sources.digest(source) == schema.source_sha256
    return unchanged and schema.made_with == prepared.terms(params)


def _each(
    raw: Raw, params: Params, doing: str, function: Callable[[pd.DataFrame], Any], last: bool = False
) -> Iterator[Any]:
    """function(block) of every block of the source, in order; the last time, its disk space is given back."""
    given = (lambda block: function(_finite(block))) if params.prepare.infinite == "missing" else function
    rows = rows_of_block(len(raw.table.names))
    return cli.counted(raw.table.each(given, last), doing, lambda _: rows, raw.table.rows)


def _finite(block: pd.DataFrame) -> pd.DataFrame:
    decimals = block.select_dtypes("float")
    return block.assign(**{str(name): decimals[name].mask(np.isinf(decimals[name])) for name in decimals})


def _own(values: np.ndarray, block: pd.DataFrame) -> np.ndarray:
    """Those of `values` [all rows] that belong to the rows of a block."""
    start = int(block.index[0])
    return values[start : start + len(block)]


def _hashes(raw: Raw, params: Params, names: list[str]) -> np.ndarray:
    return np.concatenate(list(_each(raw, params, "looking", lambda block: leaks.hashes(block[names]))))


def _look(raw: Raw, params: Params) -> Seen:
    """Go through all rows once. InputError when prepare.split_column is no column."""
    deciding = params.prepare.split_column
    features = [name for name in raw.table.names if name != raw.target]
    if deciding is not None and deciding not in features:
        raise InputError(f"prepare.split_column = '{deciding}' is no column. There are: {', '.join(features)[:300]}")
    # what will most probably be learned from: where it is not, the hashes are made again
    hashed = [name for name in features if params.prepare.columns.get(name) != "ignore" and name != deciding]

    id_name = next((name for name in features if kinds.NAMED_ID.fullmatch(name) and name != deciding), None)

    def look(block: pd.DataFrame) -> tuple[list[Facts], pd.Series, Any, np.ndarray, Any]:
        key = None if deciding is None else divide.key_of(block[deciding], params.prepare, params.seed)
        facts = [kinds.look(block[name]) for name in features] if raw.shape is None else []
        ids = None if id_name is None else leaks.hashes(block[[id_name]])
        return facts, block[raw.target].copy(), key, leaks.hashes(block[hashed]), ids

    total: dict[str, Facts] = {name: Facts(name) for name in features}
    wanted, keys, hashes, ids = [], [], [], []
    for facts, own, key, hashes_of_block, ids_of_block in _each(raw, params, "looking", look):
        for seen in facts:
            total[seen.name].add(seen)
        wanted.append(own)
        keys.append(key)
        hashes.append(hashes_of_block)
        ids.append(ids_of_block)
    all_keys, all_ids = (None if parts[0] is None else kinds.joined(parts) for parts in (keys, ids))
    return Seen(total, kinds.joined(wanted), all_keys, hashed, np.concatenate(hashes), id_name, all_ids)


def _task(params: Params, wanted: pd.Series) -> str:
    if params.task != "auto":
        return params.task
    task = target.infer_task(wanted)
    cli.say(f"task: {task}, by the target '{wanted.name}'")
    return task


def _kinds(
    facts: dict[str, Facts], params: Params, raw: Raw
) -> tuple[dict[str, str | list[str]] | None, dict[str, str]]:
    """How each column is encoded (None: all are pixels), and which are not used, with the reason. InputError when none
    is left."""
    own = {SPLIT: "it is the source's own division, for prepare.split: given"} if raw.divided else {}
    if raw.shape is not None:
        return None, own
    wanted = params.prepare.columns
    described = kinds.describe(facts, wanted)
    described |= {name: ("ignore", reason) for name, reason in own.items()}
    deciding = params.prepare.split_column
    if deciding in described and params.prepare.split != "time":  # a time may be learned from, the others may not
        described[deciding] = ("ignore", "prepare.split_column")
    ignored = {name: reason for name, (kind, reason) in described.items() if kind == "ignore"}
    if len(ignored) == len(described):
        listed = "; ".join(f"{name}: {reason}" for name, reason in ignored.items())
        raise InputError(f"{params.prepare.source} has no column to predict from ({listed[:500]})")
    used = {name: wanted.get(name, kind) for name, (kind, _) in described.items() if name not in ignored}
    return used, ignored
