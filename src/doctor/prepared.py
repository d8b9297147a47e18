"""Prepared data: each split's file against the digest that schema.json has for it."""

from collections.abc import Iterator

from src import files, paths
from src.data import prepared, schema
from src.doctor.finding import Finding, ok, wrong
from src.errors import InputError
from src.params import Params


def files_match(_: Params) -> Iterator[Finding]:
    if not paths.SCHEMA.exists():
        yield ok(f"none yet in {paths.PREPARED}: dvc repro prepare")
        return
    try:
        made = schema.load()
    except InputError as error:
        yield wrong(str(error), "dvc repro --force prepare")
        return
    bad = []
    for name, expected in made.files.items():
        path = prepared.path_of(paths.PREPARED, name)
        if not path.is_file():
            bad.append(f"{path} is missing")
        elif files.sha256(path) != expected:
            bad.append(f"{path} is not the file that {paths.SCHEMA} describes")
    for said in bad:
        yield wrong(said, "dvc repro --force prepare")
    if not bad:
        yield ok(f"{made.title}: {sum(made.rows.values()):,} rows in {len(made.files)} splits, as their digests say")
