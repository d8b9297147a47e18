"""The runs that a store has, to be compared: the newest, those that are best by a metric, or those of a name.

A database is read by SQL, from MLflow's own tables (mlflow/store/tracking/dbmodels/models.py), as importing MLflow
takes longer than all the rest; a test holds what is read against what MLflow's client says. A server is asked through
that client, which knows every way to log in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Connection, NullPool, Select, and_, column, create_engine, exists, or_, select, table
from sqlalchemy.exc import SQLAlchemyError

from src.errors import InputError
from src.metrics import Goal
from src.mistakes import nearest
from src.sections import Tracking
from src.tracking import store

PARENT = "mlflow.parentRunId"
AT_ONCE = 500  # runs whose params, metrics and tags are read by one query; SQLite has a limit
PAGE = 1000  # runs that a server is asked for at once

EXPERIMENTS = table("experiments", *map(column, ("experiment_id", "name", "lifecycle_stage")))
RUNS = table("runs", *map(column, ("run_uuid", "name", "status", "start_time", "experiment_id", "lifecycle_stage")))
PARAMS = table("params", *map(column, ("run_uuid", "key", "value")))
METRICS = table("latest_metrics", *map(column, ("run_uuid", "key", "value")), column("is_nan", Boolean))
TAGS = table("tags", *map(column, ("run_uuid", "key", "value")))


class Found(NamedTuple):
    """One run. started: seconds since 1970; metrics: the last value of each."""

    run_id: str
    name: str
    status: str
    started: float
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


class Wanted(NamedTuple):
    """At most `limit` runs, the newest first, deleted ones left out.

    trials: those of studies too. The run of a study is no training, and is found only when it is called.
    called: only those whose id begins so, or that are named so.
    best: (metric as the store names it, goal): only those that have it as a number, the best first.
    """

    limit: int
    trials: bool = False
    called: str | None = None
    best: tuple[str, Goal] | None = None


def search(tracking: Tracking, wanted: Wanted) -> list[Found]:
    """The runs of tracking.experiment. InputError when there is no store, no such experiment, or no answer."""
    address = store.uri(tracking)
    if not store.exists(tracking):
        raise InputError(f"there is no MLflow store {store.redact(address)} yet: make repro makes it, with a first run")
    store.configure()
    return _read(tracking, address, wanted) if store.is_database(address) else _ask(tracking, address, wanted)


def _completed(found: list[Found], params: Callable[[list[str]], dict[str, dict[str, str]]]) -> list[Found]:
    """The runs, trials with the params, too, that the run of their study has. params: of runs, by their ids, as far as
    they are there."""
    studies = {run.run_id: run.tags[PARENT] for run in found if PARENT in run.tags and "study" in run.tags}
    known = params(sorted(set(studies.values())))
    return [run._replace(params=known.get(studies.get(run.run_id, ""), {}) | run.params) for run in found]


def _read(tracking: Tracking, address: str, wanted: Wanted) -> list[Found]:
    try:
        with create_engine(address, poolclass=NullPool).connect() as connection:
            active = select(EXPERIMENTS.c.name, EXPERIMENTS.c.experiment_id).where(_is_active(EXPERIMENTS))
            known = {row.name: row.experiment_id for row in connection.execute(active)}
            rows = connection.execute(_chosen(_of(known, tracking, address), wanted)).all()
            ids = [row.run_uuid for row in rows]
            params, metrics, tags = (_pairs(connection, kind, ids) for kind in (PARAMS, METRICS, TAGS))
            about = [(row.run_uuid, row.name, row.status, row.start_time / 1000) for row in rows]
            found = [Found(*one, params[one[0]], metrics[one[0]], tags[one[0]]) for one in about]
            return _completed(found, partial(_pairs, connection, PARAMS))
    except (SQLAlchemyError, ImportError) as error:  # ImportError: a database whose driver is not installed
        raise store.refused(address, error) from error


def _chosen(experiment_id: int, wanted: Wanted) -> Select[Any]:
    """The rows of the runs, in order."""
    asked = select(RUNS.c.run_uuid, RUNS.c.name, RUNS.c.status, RUNS.c.start_time).limit(wanted.limit)
    asked = asked.where(RUNS.c.experiment_id == experiment_id, _is_active(RUNS))
    if wanted.called is not None:
        asked = asked.where(
            or_(RUNS.c.run_uuid.startswith(wanted.called, autoescape=True), RUNS.c.name == wanted.called)
        )
    else:
        left_out = and_(TAGS.c.key == "role", TAGS.c.value == "study")
        if not wanted.trials:
            left_out = or_(left_out, TAGS.c.key == PARENT)
        asked = asked.where(~exists().where(TAGS.c.run_uuid == RUNS.c.run_uuid, left_out))
    if wanted.best:
        key, goal = wanted.best
        asked = asked.join(METRICS, and_(METRICS.c.run_uuid == RUNS.c.run_uuid, METRICS.c.key == key))
        asked = asked.where(~METRICS.c.is_nan)
        asked = asked.order_by(METRICS.c.value if goal == "minimise" else METRICS.c.value.desc())
    return asked.order_by(RUNS.c.start_time.desc(), RUNS.c.run_uuid)


def _is_active(kind: Any) -> Any:
    return kind.c.lifecycle_stage == "active"


def _pairs(connection: Connection, kind: Any, ids: list[str]) -> dict[str, dict[str, Any]]:
    """What a table of keys and values has of each run."""
    found: dict[str, dict[str, Any]] = {run_id: {} for run_id in ids}
    for start in range(0, len(ids), AT_ONCE):
        for row in connection.execute(select(kind).where(kind.c.run_uuid.in_(ids[start : start + AT_ONCE]))):
            is_nan = kind is METRICS and row.is_nan
            found[row.run_uuid][row.key] = math.nan if is_nan else row.value
    return found


def _of(known: dict[str, Any], tracking: Tracking, address: str) -> Any:
    """The id of tracking.experiment among the experiments of the store."""
    if tracking.experiment not in known:
        raise InputError(
            f"tracking.experiment = '{tracking.experiment}' is not in the MLflow store {store.redact(address)}, which "
            f"has: {', '.join(sorted(known))}{nearest(tracking.experiment, list(known))}. make repro makes it"
        )
    return known[tracking.experiment]


def _ask(tracking: Tracking, address: str, wanted: Wanted) -> list[Found]:
    client = store.connect(tracking)
    from mlflow.exceptions import MlflowException

    try:
        known = {one.name: one.experiment_id for one in client.search_experiments()}
        experiment_id = _of(known, tracking, address)
        pages = [_pages(client, experiment_id, wanted, words) for words in _filters(wanted)]
        found = list(islice((found for page in pages for found in page), wanted.limit))
        return _completed(found, partial(_params, client, experiment_id))
    except MlflowException as error:
        raise store.refused(address, error) from error


def _params(client: Any, experiment_id: str, ids: list[str]) -> dict[str, dict[str, str]]:
    """Those of runs, deleted ones too, by their ids."""
    from mlflow.entities import ViewType

    params: dict[str, dict[str, str]] = {}
    for start in range(0, len(ids), AT_ONCE):
        named = ", ".join(f"'{run_id}'" for run_id in ids[start : start + AT_ONCE])
        found = client.search_runs([experiment_id], f"attributes.run_id IN ({named})", ViewType.ALL, AT_ONCE)
        params |= {run.info.run_id: run.data.params for run in found}
    return params


def _filters(wanted: Wanted) -> list[str]:
    """`wanted` in MLflow's words, which have no "or": a search each."""
    if wanted.called is not None:
        quoted = f'"{wanted.called}"' if "'" in wanted.called else f"'{wanted.called}'"
        by_id = [f"attributes.run_id LIKE '{wanted.called}%'"] if wanted.called.isalnum() else []
        return [*by_id, f"attributes.run_name = {quoted}"]
    return ["" if wanted.trials else f"tags.`{PARENT}` IS NULL"]


def _pages(client: Any, experiment_id: str, wanted: Wanted, words: str) -> Iterator[Found]:
    order, token = [], None
    if wanted.best:
        order = [f"metrics.`{wanted.best[0]}` {'ASC' if wanted.best[1] == 'minimise' else 'DESC'}"]
    while True:
        page = client.search_runs([experiment_id], words, 1, min(wanted.limit, PAGE), order, token)
        for run in page:
            info, data = run.info, run.data
            has_number = not wanted.best or not math.isnan(data.metrics.get(wanted.best[0], math.nan))
            if has_number and (wanted.called is not None or data.tags.get("role") != "study"):
                yield Found(
                    info.run_id,
                    info.run_name,
                    info.status,
                    info.start_time / 1000,
                    data.params,
                    data.metrics,
                    data.tags,
                )
        token = page.token
        if not token:
            return
