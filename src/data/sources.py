"""Where raw rows come from: the sets that scikit-learn carries, and tables and images in files of several formats."""

import hashlib
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from src import cli, files, paths
from src.data import arrow, csv, images, query
from src.data.split import WORDS
from src.data.table import SPLIT, Frame, Spool, Table, check_names, widened
from src.errors import InputError
from src.sections import Prepare


class Raw(NamedTuple):
    """A table as it came: features and target in one. `target` is the column to predict where the source knows
    it; `shape` is set where the features are the pixels of an image, (channels, height, width); `divided`: the source
    has its own division, in the column SPLIT; `notes` are for the user."""

    table: Table
    target: str | None = None
    digest: Callable[[], str] = str
    shape: images.Shape | None = None
    divided: bool = False
    notes: Sequence[str] = ()

    @property
    def sha256(self) -> str:
        """Of the source, computed when it is asked for."""
        return self.digest()

    @property
    def frame(self) -> pd.DataFrame:
        """The table in memory, for what is small."""
        return self.table.frame()


class Format(NamedTuple):
    """How a file, or a folder of files, becomes a table. `suffixes` are those of a file that the format is known by;
    `parts(folder)` are the files that make a folder one of this format."""

    read: Callable[[Path, Prepare], Raw]
    suffixes: tuple[str, ...] = ()
    parts: Callable[[Path], list[Path]] | None = None


def read(settings: Prepare) -> Raw:
    """The rows of prepare.source, its target column checked. InputError names what is wrong."""
    source = settings.source
    raw = SOURCES[source]() if source in SOURCES else table(settings)
    names = raw.table.names
    target = settings.target or raw.target
    if not raw.table.rows:
        raise InputError(f"prepare.source = '{source}' has no rows")
    if target is None:
        raise InputError(f"prepare.target must name the column to predict. {source} has: {_listed(names)}")
    if target not in names:
        import difflib

        close = difflib.get_close_matches(target, names, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(f"prepare.target = '{target}' is no column of {source}.{hint} It has: {_listed(names)}")
    if len(names) < 2:
        raise InputError(f"{source} has no column but the target '{target}'; there is nothing to predict it from")
    # pixels stay pixels only while the target is not one of them
    return raw._replace(target=target, shape=raw.shape if target == raw.target else None)


def find(source: str) -> Path | None:
    """The file or folder that a source names, or None for a bundled set and for one that is not there. A path is taken
    from the workspace, then from the project's root."""
    candidates = () if source in SOURCES or not source else (Path(source), paths.root() / source)
    return next((path for path in candidates if path.is_file() or _folder_format(path)), None)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of the parts of a folder."""
    if path.is_file():
        return files.sha256(path)
    parts = FORMATS[_folder_format(path) or ""].parts or (lambda _: [])
    listing = "".join(f"{part.relative_to(path).as_posix()} {files.sha256(part)}\n" for part in parts(path))
    return hashlib.sha256(listing.encode()).hexdigest()


def table(settings: Prepare) -> Raw:
    """What a file or a folder holds, columns named as they are there."""
    source = settings.source
    path = find(source)
    if path is None:
        raise InputError(
            f"prepare.source = '{source}' is neither a file nor a bundled set ({', '.join(SOURCES)}), nor a folder of "
            "Parquet, IDX or picture files. Paths start at the project's root"
        )
    _check_watched(source, path)
    raw = FORMATS[_format_of(path) if settings.format == "auto" else settings.format].read(path, settings)
    raw.table.names = [name or f"Unnamed: {place}" for place, name in enumerate(raw.table.names)]
    check_names(raw.table.names, path)
    return raw._replace(digest=partial(digest, path))


def _check_watched(source: str, path: Path) -> None:
    """Say so of a file in which DVC notices no change. InputError for one that it would notice in the project, and does
    not in a temporary workspace: it would take what an earlier content gave for what this one gives."""
    where = path.resolve()
    if where.is_relative_to(Path.cwd() / paths.RAW):
        return
    if where.is_relative_to(paths.root() / paths.RAW):
        name = where.relative_to(paths.root())
        raise InputError(
            f"prepare.source = '{source}' is in the project, and not in the workspace that DVC makes for --temp and "
            f"--queue, which has what git tracks. Track it, under this name: dvc add {name} && git add {name}.dvc"
        )
    cli.say(f"DVC does not watch {path}: it will not notice a change. Files in {paths.RAW} are watched")


def bundled(name: str, shape: tuple[int, int, int] | None = None) -> Raw:
    """A data set that comes with scikit-learn, classes under their names."""
    bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")(as_frame=True)
    frame = bunch.frame
    names = bunch.get("target_names")
    if names is not None and frame["target"].dtype.kind == "i" and isinstance(names[0], str):
        frame["target"] = frame["target"].map(dict(enumerate(map(str, names))))
    return Raw(Frame(frame), "target", partial(_digest_of, frame), shape)


def csv_file(path: Path, settings: Prepare) -> Raw:
    table, notes = csv.read({path: None}, settings.missing)
    return Raw(table, notes=notes)


def parquet(path: Path, settings: Prepare) -> Raw:
    """A Parquet file, or a folder of parts, whose columns must agree."""
    with arrow.told(path, "Parquet"):
        return Raw(Spool(arrow.parts(dict.fromkeys(_parquet_parts(path) or [path]), "parquet"), settings.missing))


def feather(path: Path, settings: Prepare) -> Raw:
    """A Feather (Arrow IPC) file."""
    with arrow.told(path, "Feather"):
        return Raw(Spool(arrow.parts({path: None}, "feather"), settings.missing))


def divided(path: Path, settings: Prepare) -> Raw:
    """A folder with a file for each split, such as train.csv and test.csv, all of one format."""
    files = _split_files(path)
    formats = {_format_of(file) for file in files}
    if len(files) != len(set(files.values())) or len(formats) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{path} has {names}: it needs one file for each split, all of one format")
    if formats == {"csv"}:
        table, notes = csv.read(files, settings.missing)
        return Raw(table, divided=True, notes=notes)
    name = formats.pop()
    with arrow.told(path, name.capitalize()):
        return Raw(Spool(arrow.parts(files, name), settings.missing), divided=True)


def json_lines(path: Path, settings: Prepare) -> Raw:
    """One JSON object a line; a key that a line lacks is a missing value. Compressed as for CSV."""
    with arrow.told(path, "JSON Lines"):
        return Raw(widened(partial(arrow.json_lines, path), settings.missing))


def excel(path: Path, settings: Prepare) -> Raw:
    """The first sheet of an Excel file, names in its first row."""
    try:
        return Raw(Frame(pd.read_excel(path, na_values=settings.missing)))
    except ImportError:
        raise InputError(
            f"{path} is an Excel file; reading it needs a package more: pip install openpyxl. Or save it as CSV"
        ) from None
    except Exception as error:  # readers of broken files raise whatever they stumble over
        raise InputError(f"{path} is not an Excel file that can be read: {error}") from None


def sql(path: Path, settings: Prepare) -> Raw:
    note = "DVC watches the query, not the database: dvc repro -f prepare reads it again"
    return Raw(query.rows(path, settings.url, settings.missing), notes=[note])


def npz(path: Path, settings: Prepare) -> Raw:
    frame, shape = images.npz(path)
    return Raw(Frame(frame), images.TARGET, shape=shape, divided=SPLIT in frame)


def idx(path: Path, settings: Prepare) -> Raw:
    found = images.idx(path)
    return Raw(Frame(found.frame), images.TARGET, shape=found.shape, divided=True)


def pictures(path: Path, settings: Prepare) -> Raw:
    height, width = settings.image.size
    wanted = images.Wanted((height, width), settings.image.channels, settings.on_bad_image == "skip")
    found = images.folder(path, wanted)
    frame = found.frame
    return Raw(Frame(frame), images.TARGET, shape=found.shape, divided=SPLIT in frame, notes=found.notes)


def _split_files(folder: Path) -> dict[Path, str | None]:
    """The tables in a folder that are called as a split is, and their splits; none without training and test rows."""
    known = [suffix for name in DIVIDED for suffix in FORMATS[name].suffixes]
    tables = sorted(folder.iterdir()) if folder.is_dir() else []
    found: dict[Path, str | None] = {}
    for split, *others in WORDS.values():
        for path in tables:
            name, *suffixes = path.name.lower().split(".")
            if name in (split, *others) and any(f".{suffix}" in known for suffix in suffixes):
                found[path] = split
    return found if {"train", "test"} <= {*found.values()} else {}


def _parquet_parts(folder: Path) -> list[Path]:
    """The Parquet files in a folder, in the order of their names."""
    return sorted(folder.glob("*.parquet")) if folder.is_dir() else []


def _folder_format(path: Path) -> str | None:
    """The format of a folder, by what is in it."""
    return next((name for name, entry in FORMATS.items() if entry.parts and entry.parts(path)), None)


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in csv.COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    kind = _folder_format(path) or next((name for name, entry in FORMATS.items() if suffix in entry.suffixes), None)
    if kind is None:
        known = ", ".join(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
        raise InputError(
            f"{path}: the format cannot be told from the name. Known are {known}; "
            f"or set prepare.format to one of {', '.join(FORMATS)}"
        )
    return kind


def _digest_of(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


SOURCES: dict[str, Callable[[], Raw]] = {
    "digits": partial(bundled, "digits", (1, 8, 8)),
    "wine": partial(bundled, "wine"),
    "breast_cancer": partial(bundled, "breast_cancer"),
    "diabetes": partial(bundled, "diabetes"),
}

DIVIDED = ("csv", "parquet", "feather")  # formats of a folder with a file for each split

FORMATS: dict[str, Format] = {
    "csv": Format(csv_file, (".csv", ".tsv", ".tab", ".txt", ".dat")),
    "divided": Format(divided, parts=lambda folder: [*_split_files(folder)]),
    "parquet": Format(parquet, (".parquet", ".pq"), _parquet_parts),
    "feather": Format(feather, (".feather", ".arrow")),
    "jsonl": Format(json_lines, (".jsonl", ".ndjson")),
    "excel": Format(excel, (".xlsx", ".xls", ".ods")),
    "sql": Format(sql, (".sql",)),
    "npz": Format(npz, (".npz",)),
    "idx": Format(idx, parts=images.idx_files),
    "pictures": Format(pictures, parts=images.picture_files),
}
