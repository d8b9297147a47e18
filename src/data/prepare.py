"""Raw rows → data/prepared: check, split, fit the encoding on the training rows, encode, write."""

from pathlib import Path

import numpy as np
import pandas as pd

from src import cli, paths
from src.data import columns as kinds
from src.data import divide, encoding, prepared, sources, target
from src.data import schema as schemas
from src.data.images import SPLIT, Shape
from src.data.schema import SPLITS, Column, Schema, Target
from src.errors import InputError
from src.params import Params


def prepare(params: Params, folder: Path = paths.PREPARED) -> Schema:
    """Read prepare.source, write the three splits and the schema into `folder`, and return the schema.

    Everything is checked and encoded before the first file is written. InputError for any fault of the data.
    """
    settings = params.prepare
    raw = sources.read(settings)
    frame = raw.frame
    if settings.infinite == "missing":
        frame = frame.replace([np.inf, -np.inf], np.nan)
    frame = frame.dropna(subset=[raw.target])  # the index stays: the numbers of the source's rows
    dropped = {"missing target": len(raw.frame) - len(frame)}
    if frame.empty:
        raise InputError(f"prepare.target '{raw.target}' is missing in every row of {params.prepare.source}")
    wanted, features = frame[raw.target], frame.drop(columns=[raw.target])
    task = _task(params, wanted)
    classes = target.classes_of(wanted, task) if task in ("classification", "binary") else None
    numbers = target.class_numbers(wanted, classes) if classes else target.regression_values(wanted)

    described, ignored = _kinds(features, params, pixels=raw.shape is not None)
    used = features.drop(columns=list(ignored))
    if classes and settings.split in ("auto", "stratified"):
        target.check_strata(wanted, numbers, classes)
    parts, notes = divide.divide(params, used, wanted, features, numbers if classes else None)
    if classes:
        target.check_train(wanted, numbers[parts[0]], classes)
        goal = Target(name=str(raw.target), classes=classes, counts=np.bincount(numbers[parts[0]]).tolist())
        targets = numbers if task == "classification" else numbers.astype(np.float32)
    else:
        goal = target.fit_regression(wanted, parts[0], settings.target_transform)
        targets = goal.encoded(numbers)
    columns = encoding.fit(used.iloc[parts[0]], described)
    splits = {
        name: {
            "inputs": _inputs(used.iloc[part], columns, raw.shape),
            "targets": targets[part],
            "rows": frame.index.to_numpy(np.int64)[part],
        }
        for name, part in zip(SPLITS, parts, strict=True)
    }
    notes = [*raw.notes, *(f"column '{name}' is not used: {reason}" for name, reason in ignored.items()), *notes]
    for note in notes:
        cli.say(note)
    return prepared.write(
        folder,
        splits,
        source=params.prepare.source,
        source_sha256=raw.sha256,
        task=task,
        target=goal,
        columns=columns,
        ignored=ignored,
        shape=splits["train"]["inputs"].shape[1:],
        outputs=len(goal.classes) if task == "classification" and goal.classes else 1,
        dropped=dropped,
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


def _task(params: Params, wanted: pd.Series) -> str:
    if params.task != "auto":
        return params.task
    task = target.infer_task(wanted)
    cli.say(f"task: {task}, by the target '{wanted.name}'")
    return task


def _inputs(part: pd.DataFrame, columns: list[Column], shape: Shape | None) -> np.ndarray:
    if shape is None:
        return encoding.encode(part, columns)
    return encoding.compact(part, columns).reshape(len(part), *shape)


def _kinds(
    features: pd.DataFrame, params: Params, pixels: bool
) -> tuple[dict[str, str | list[str]] | None, dict[str, str]]:
    """How each column is encoded (None: all are pixels), and which are not used, with the reason. InputError when none
    is left."""
    if pixels:
        return None, {SPLIT: "it is the source's own division, for prepare.split: given"} if SPLIT in features else {}
    wanted = params.prepare.columns
    described = kinds.describe(features, wanted)
    deciding = params.prepare.split_column
    if deciding in described and params.prepare.split != "time":  # a time may be learned from, the others may not
        described[deciding] = ("ignore", "prepare.split_column")
    ignored = {name: reason for name, (kind, reason) in described.items() if kind == "ignore"}
    if len(ignored) == len(described):
        listed = "; ".join(f"{name}: {reason}" for name, reason in ignored.items())
        raise InputError(f"{params.prepare.source} has no column to predict from ({listed[:500]})")
    used = {name: wanted.get(name, kind) for name, (kind, _) in described.items() if name not in ignored}
    return used, ignored
