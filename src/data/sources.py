"""Where raw rows come from: the sets that scikit-learn carries, and CSV files."""

import hashlib
import importlib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from src import cli, files, paths
from src.errors import InputError


class Raw(NamedTuple):
    """A table as it came: features and target in one frame. `shape` is set where the features are the pixels of
    an image, (channels, height, width)."""

    frame: pd.DataFrame
    target: str | None
    sha256: str
    shape: tuple[int, int, int] | None = None


def read(source: str, target: str | None) -> Raw:
    """The rows of a bundled set or a CSV file, its target column checked. InputError names what is wrong."""
    raw = SOURCES[source]() if source in SOURCES else csv(source)
    frame = raw.frame
    target = target or raw.target
    if frame.empty:
        raise InputError(f"prepare.source = '{source}' has no rows")
    if target is None:
        raise InputError(f"prepare.target must name the column to predict. {source} has: {_listed(frame)}")
    if target not in frame:
        import difflib

        close = difflib.get_close_matches(target, map(str, frame.columns), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(f"prepare.target = '{target}' is no column of {source}.{hint} It has: {_listed(frame)}")
    if frame.shape[1] < 2:
        raise InputError(f"{source} has no column but the target '{target}'; there is nothing to predict it from")
    # pixels stay pixels only while the target is not one of them
    return raw._replace(target=target, shape=raw.shape if target == raw.target else None)


def find(source: str) -> Path | None:
    """The file that a source names, or None for a bundled set and for a file that is not there."""
    candidates = () if source in SOURCES else (Path(source), paths.root() / source)
    return next((path for path in candidates if path.is_file()), None)


def csv(source: str) -> Raw:
    """A CSV file with a header line, UTF-8. A path is taken from the workspace, then from the project's root."""
    path = find(source)
    if path is None:
        raise InputError(
            f"prepare.source = '{source}' is neither a file nor a bundled set ({', '.join(SOURCES)}). "
            "Paths start at the project's root"
        )
    if not any(path.resolve().is_relative_to(folder / paths.RAW) for folder in (Path.cwd(), paths.root())):
        cli.say(f"DVC does not watch {path}: it will not notice a change. Files in {paths.RAW} are watched")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, index_col=False)  # else a surplus value makes the first column row labels
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty") from None
    except pd.errors.ParserError as error:
        raise InputError(f"{path} is not a well-formed CSV file: {str(error).strip()}") from None
    except pd.errors.ParserWarning:
        raise InputError(f"{path} has more values in a line than names in its header: name every column") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8: save it as UTF-8") from None
    return Raw(frame, None, files.sha256(path))


def bundled(name: str, shape: tuple[int, int, int] | None = None) -> Raw:
    """A data set that comes with scikit-learn, classes under their names."""
    bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")(as_frame=True)
    frame = bunch.frame
    names = bunch.get("target_names")
    if names is not None and frame["target"].dtype.kind == "i" and isinstance(names[0], str):
        frame["target"] = frame["target"].map(dict(enumerate(map(str, names))))
    content = frame.to_csv(index=False).encode()
    return Raw(frame, "target", hashlib.sha256(content).hexdigest(), shape)


def _listed(frame: pd.DataFrame) -> str:
    names = list(map(str, frame.columns))
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


SOURCES: dict[str, Callable[[], Raw]] = {
    "digits": partial(bundled, "digits", (1, 8, 8)),
    "wine": partial(bundled, "wine"),
    "breast_cancer": partial(bundled, "breast_cancer"),
    "diabetes": partial(bundled, "diabetes"),
}
