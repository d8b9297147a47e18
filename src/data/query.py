"""A table that a query gives from a database."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src import paths
from src.data.table import ROWS, Spool, Table, check_names, unified
from src.errors import InputError


def rows(path: Path, address: str | None, missing: Sequence[str]) -> Table:
    """What the query in a .sql file gives from the database at this address, prepare.url. A password comes from the
    environment (PREPARE_PASSWORD) and is written nowhere."""
    import pyarrow as pa
    import sqlalchemy

    if address is None:
        raise InputError(f"{path} is a query: set prepare.url to its database, such as postgresql://me@host/sales")
    try:
        url = sqlalchemy.make_url(address)
        if url.password is not None or not url.query.keys().isdisjoint(("password", "passwd", "pwd")):
            raise InputError("prepare.url must hold no password: leave it out, and set PREPARE_PASSWORD")
        if url.get_backend_name() == "sqlite" and url.database:
            url = url.set(database=str(paths.root() / url.database))  # else a missing file would be a new database
            if not Path(str(url.database)).is_file():
                raise InputError(f"prepare.url: {url.database} is not there")
        url = url.set(password=os.environ["PREPARE_PASSWORD"]) if "PREPARE_PASSWORD" in os.environ else url
        query = sqlalchemy.text(path.read_text(encoding="utf-8"))
        with sqlalchemy.create_engine(url).connect().execution_options(stream_results=True) as connection:
            frames = pd.read_sql(query, connection, chunksize=ROWS)
            return Spool(unified(_arrow_table(frame, path) for frame in frames), missing)
    except (
        sqlalchemy.exc.SQLAlchemyError,
        pd.errors.DatabaseError,
        pa.ArrowException,
        ImportError,
        UnicodeDecodeError,
    ) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"the query in {path} cannot be run at {address}: {reason}") from None


def _arrow_table(frame: pd.DataFrame, path: Path) -> Any:
    """Rows of a database; values of several types in one column become words."""
    import pyarrow as pa

    check_names(list(frame), path)
    columns = {}
    for name in frame:
        try:
            columns[name] = pa.array(frame[name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array(frame[name].map(str, na_action="ignore"), from_pandas=True)
    return pa.table(columns)
