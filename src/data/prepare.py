"""Raw rows → data/prepared: check, split, fit the encoding on the training rows, encode, write."""

from pathlib import Path

import numpy as np
import pandas as pd

from src import files, paths
from src.data import encoding, prepared, sources, split, target
from src.data import schema as schemas
from src.data.schema import SPLITS, Schema, Target
from src.errors import InputError
from src.params import Params


def prepare(params: Params, folder: Path = paths.PREPARED) -> Schema:
    """Read prepare.source, write the three splits and the schema into `folder`, and return the schema.

    Everything is checked and encoded before the first file is written. InputError for any fault of the data.
    """
    raw = sources.read(params.prepare.source, params.prepare.target)
    frame = raw.frame.dropna(subset=[raw.target])  # the index stays: the numbers of the source's rows
    dropped = {"missing target": len(raw.frame) - len(frame)}
    if frame.empty:
        raise InputError(f"prepare.target '{raw.target}' is missing in every row of {params.prepare.source}")
    wanted, features = frame[raw.target], frame.drop(columns=[raw.target])
    _refuse_empty_columns(features)

    fractions = params.prepare.fractions
    divide = (len(frame), (fractions.train, fractions.val, fractions.test), params.seed)
    if params.task in ("classification", "binary"):
        classes = target.classes_of(wanted, params.task)
        numbers = target.class_numbers(wanted, classes)
        target.check_strata(wanted, numbers, classes)
        parts = split.split(*divide, strata=numbers)
        goal = Target(name=str(raw.target), classes=classes)
        targets = numbers if params.task == "classification" else numbers.astype(np.float32)
    else:
        values = target.regression_values(wanted)
        parts = split.split(*divide, strata=None)
        goal = target.fit_regression(wanted, parts[0], params.prepare.target_transform)
        targets = ((values - goal.offset) / goal.scale).astype(np.float32)

    columns = encoding.fit(features.iloc[parts[0]], pixels=raw.shape is not None)
    splits = {
        name: {
            "inputs": _shaped(encoding.encode(features.iloc[part], columns), raw.shape),
            "targets": targets[part],
            "rows": frame.index.to_numpy(np.int64)[part],
        }
        for name, part in zip(SPLITS, parts, strict=True)
    }
    return prepared.write(
        folder,
        splits,
        source=params.prepare.source,
        source_sha256=raw.sha256,
        task=params.task,
        target=goal,
        columns=columns,
        shape=splits["train"]["inputs"].shape[1:],
        outputs=len(goal.classes) if params.task == "classification" and goal.classes else 1,
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
    unchanged = source is None or files.sha256(source) == schema.source_sha256
    return unchanged and schema.made_with == prepared.terms(params)


def _shaped(inputs: np.ndarray, shape: tuple[int, int, int] | None) -> np.ndarray:
    return inputs if shape is None else inputs.reshape(len(inputs), *shape)


def _refuse_empty_columns(features: pd.DataFrame) -> None:
    empty = [str(name) for name in features if features[name].isna().all()]
    if empty:
        raise InputError(f"column {empty[0]!r} is missing in every row: delete it from the file")
