"""Where raw rows come from: the sets that scikit-learn carries, and files of tables in several formats."""

import hashlib
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from src import cli, files, paths
from src.data import csv
from src.errors import InputError


class Raw(NamedTuple):
    """A table as it came: features and target in one frame. `shape` is set where the features are the pixels of
    an image, (channels, height, width); `notes` are for the user."""

    frame: pd.DataFrame
    target: str | None
    sha256: str
    shape: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()


class Format(NamedTuple):
    """How a file becomes a frame: `read(path, missing)`, where `missing` are words that stand for a missing value,
    gives the frame and notes. `suffixes` are those that the format is known by."""

    read: Callable[[Path, list[str]], tuple[pd.DataFrame, list[str]]]
    suffixes: tuple[str, ...]


def read(source: str, target: str | None, kind: str = "auto", missing: list[str] | None = None) -> Raw:
    """The rows of a bundled set or a file, its target column checked. InputError names what is wrong.

    kind: a key of FORMATS, or "auto" to take it from the file's name.
    """
    raw = SOURCES[source]() if source in SOURCES else table(source, kind, missing or [])
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
    """The file that a source names (or the folder, of Parquet parts), or None for a bundled set and for one that is
    not there. A path is taken from the workspace, then from the project's root."""
    candidates = () if source in SOURCES or not source else (Path(source), paths.root() / source)
    return next((path for path in candidates if path.is_file() or _parts(path)), None)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of a folder's parts."""
    if path.is_file():
        return files.sha256(path)
    listing = "".join(f"{part.name} {files.sha256(part)}\n" for part in _parts(path))
    return hashlib.sha256(listing.encode()).hexdigest()


def table(source: str, kind: str = "auto", missing: list[str] | None = None) -> Raw:
    """The table in a file, columns named as they are there."""
    path = find(source)
    if path is None:
        raise InputError(
            f"prepare.source = '{source}' is neither a file nor a bundled set ({', '.join(SOURCES)}). "
            "Paths start at the project's root"
        )
    if not any(path.resolve().is_relative_to(folder / paths.RAW) for folder in (Path.cwd(), paths.root())):
        cli.say(f"DVC does not watch {path}: it will not notice a change. Files in {paths.RAW} are watched")
    frame, notes = FORMATS[_kind_of(path) if kind == "auto" else kind].read(path, missing or [])
    frame.columns = [str(name) or f"Unnamed: {place}" for place, name in enumerate(frame.columns)]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise InputError(f"{path} has two columns of the name '{twice[0]}': rename one")
    return Raw(frame, None, digest(path), notes=tuple(notes))


def bundled(name: str, shape: tuple[int, int, int] | None = None) -> Raw:
    """A data set that comes with scikit-learn, classes under their names."""
    bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")(as_frame=True)
    frame = bunch.frame
    names = bunch.get("target_names")
    if names is not None and frame["target"].dtype.kind == "i" and isinstance(names[0], str):
        frame["target"] = frame["target"].map(dict(enumerate(map(str, names))))
    content = frame.to_csv(index=False).encode()
    return Raw(frame, "target", hashlib.sha256(content).hexdigest(), shape)


def parquet(path: Path, missing: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """A Parquet file, or a folder of parts, whose columns must agree."""
    return _by_arrow(path, missing, "Parquet", lambda: _arrow_dataset(_parts(path) or [path], "parquet"))


def feather(path: Path, missing: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """A Feather (Arrow IPC) file."""
    return _by_arrow(path, missing, "Feather", lambda: _arrow_dataset([path], "feather"))


def json_lines(path: Path, missing: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """One JSON object a line; a key that a line lacks is a missing value. Compressed as for CSV."""
    import pyarrow as pa
    import pyarrow.json

    return _by_arrow(
        path, missing, "JSON Lines", lambda: pa.json.read_json(pa.input_stream(path, compression="detect"))
    )


def excel(path: Path, missing: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The first sheet of an Excel file, names in its first row."""
    try:
        return pd.read_excel(path, na_values=missing), []
    except ImportError:
        raise InputError(
            f"{path} is an Excel file; reading it needs a package more: pip install openpyxl. Or save it as CSV"
        ) from None
    except Exception as error:  # readers of broken files raise whatever they stumble over
        raise InputError(f"{path} is not an Excel file that can be read: {error}") from None


def _by_arrow(path: Path, missing: list[str], name: str, load: Callable[[], Any]) -> tuple[pd.DataFrame, list[str]]:
    import pyarrow as pa

    try:
        frame = load().to_pandas()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} is not a {name} file that can be read: {reason}") from None
    return frame.replace(missing, None) if missing else frame, []


def _arrow_dataset(parts: list[Path], name: str) -> Any:
    import pyarrow.dataset

    return pyarrow.dataset.dataset([str(part) for part in parts], format=name).to_table()


def _parts(path: Path) -> list[Path]:
    """The Parquet files in a folder, in the order of their names."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else []


def _kind_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in csv.COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    if _parts(path):
        return "parquet"
    kind = next((name for name, entry in FORMATS.items() if suffix in entry.suffixes), None)
    if kind is None:
        known = ", ".join(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
        raise InputError(
            f"{path}: the format cannot be told from the name. Known are {known}; "
            f"or set prepare.format to one of {', '.join(FORMATS)}"
        )
    return kind


def _listed(frame: pd.DataFrame) -> str:
    names = list(map(str, frame.columns))
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


SOURCES: dict[str, Callable[[], Raw]] = {
    "digits": partial(bundled, "digits", (1, 8, 8)),
    "wine": partial(bundled, "wine"),
    "breast_cancer": partial(bundled, "breast_cancer"),
    "diabetes": partial(bundled, "diabetes"),
}

FORMATS: dict[str, Format] = {
    "csv": Format(csv.read, (".csv", ".tsv", ".tab", ".txt", ".dat")),
    "parquet": Format(parquet, (".parquet", ".pq")),
    "feather": Format(feather, (".feather", ".arrow")),
    "jsonl": Format(json_lines, (".jsonl", ".ndjson")),
    "excel": Format(excel, (".xlsx", ".xls", ".ods")),
}
