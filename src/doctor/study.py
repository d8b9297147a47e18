"""The tuning study: its journal, or the database that tune.storage names."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from src import locks, paths
from src.doctor.finding import Finding, ok, wrong
from src.errors import InputError
from src.params import Params
from src.tracking import store
from src.tune import journals, shared, study


def storage(settings: Params) -> Iterator[Finding]:
    address = settings.tune.storage
    path = paths.root() / address
    if "://" in address:
        yield from _database(address)
    elif not path.exists():
        yield ok(f"no study yet in {address}")
    elif process := locks.holder(study.lock()):
        yield ok(f"{address} is in use by process {process}: not looked at")
    else:
        yield from _journal(path)


def _journal(path: Path) -> Iterator[Finding]:
    lines, damaged, torn = journals.look(path)
    if damaged == 1:
        yield wrong(f"{path} is no journal of Optuna: its first line is no record", "set tune.storage to another file")
    elif damaged:
        said = f"{path}, line {damaged} of {lines} is damaged, so the study cannot be read"
        remedy = f"keeps a copy in {path.name}.damaged and ends the journal before that line: trials after it run again"
        yield wrong(said, remedy, partial(_alone, journals.cut, path, damaged))
    elif torn:
        said = f"{path}, line {lines + 1}: torn by a crash, so the study cannot be read"
        yield wrong(said, "removes that line", partial(_alone, journals.mend, path))
    else:
        yield _sealed(path, lines)


def _sealed(path: Path, lines: int) -> Finding:
    try:
        journals.sealed(path)
    except InputError as error:
        return wrong(str(error), "removes that note, the journal stays", partial(_alone, journals.unseal, path))
    try:
        journals.check(path)
    except InputError as error:
        remedy = f"sets it aside as {path.name}.damaged: the study begins anew, and MLflow keeps the trials it had"
        return wrong(str(error), remedy, partial(_alone, journals.set_aside, path))
    return ok(f"{path}: {lines} records")


def _alone(mend: Callable[..., None], *arguments: Any) -> str:
    """Mend while no search can begin."""
    with locks.held(study.lock(), "is tuning in this project"):
        mend(*arguments)
    return "Done. Next: python -m src.tune"


def _database(address: str) -> Iterator[Finding]:
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    shown = store.redact(address)
    try:
        if address.startswith(shared.PROXY):
            shared.storage(address).get_all_studies()
            yield ok(f"{shown} answers")
            return
        url = make_url(address)
        local = url.get_backend_name() == "sqlite"
        if local and not Path(url.database or "").exists():  # to connect would make it
            yield ok(f"no study yet in {shown}")
            return
        create_engine(url, connect_args={} if local else {"connect_timeout": 10}).connect().close()
        yield ok(f"{shown} answers")
    except (SQLAlchemyError, ArgumentError, ImportError, ValueError, ConnectionError, *shared.gone()) as error:  # type: ignore[misc]
        why = store.redact(shared.why(error))
        yield wrong(
            f"tune.storage = '{shown}' cannot be used: {why}", "start the database, or set another tune.storage"
        )
