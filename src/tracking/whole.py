"""Runs that are over, written into MLflow's own tables, many in one transaction: in a small part of the time that
its client takes. A test holds what is written against what the client writes."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from src.journal import Record
from src.tracking.outbox import Event

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Metric
    from sqlalchemy import Engine

ROWS = 10_000  # in one transaction: a second at most
LARGEST = 1.7976931348623157e308  # what MLflow keeps for an infinity

Row = dict[str, Any]


class Whole(NamedTuple):
    """started, ended: milliseconds since 1970; metrics: each key and step once."""

    name: str
    status: str
    started: int
    ended: int
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[Metric]


def leading(events: list[Event]) -> list[Event]:
    """The first of the events; of trials, those that follow it too, with about ROWS rows in all."""
    trials = list(takewhile(lambda event: event["do"] == "trial", events))
    rows = accumulate(
        sum(map(len, event["records"])) + sum(len(event[part]) for part in ("tags", "params", "metrics")) + 1
        for event in trials
    )
    return trials[: sum(count <= ROWS for count in rows)] or events[:1]


def metrics_of(record: Record) -> Iterator[Metric]:
    """The numbers of one epoch as MLflow metrics, its step the epoch."""
    from mlflow.entities import Metric

    milliseconds, step = int(record["time"] * 1000), record["epoch"]
    for name, value in record.items():
        if name not in ("time", "epoch"):
            yield Metric(name, value, milliseconds, step)


def of_trial(event: Event, tags: dict[str, str]) -> Whole:
    """The run of a trial, with more tags."""
    from mlflow.entities import Metric

    end = int(event["time"] * 1000)
    metrics = [metric for record in event["records"] for metric in metrics_of(record)]
    metrics += [Metric(key, value, end, 0) for key, value in event["metrics"].items()]
    started = int(event["created"] * 1000)
    return Whole(event["name"], event["status"], started, end, {**event["tags"], **tags}, event["params"], metrics)


@cache
def _engine(address: str) -> Engine:
    """The way to a database that MLflow itself takes."""
    from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry

    return create_sqlalchemy_engine_with_retry(address)


def write(address: str, experiment: Experiment, runs: Sequence[Whole]) -> None:
    """Make all of these runs of an experiment in the database of a store, or none."""
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH
    from sqlalchemy import insert

    rows: dict[Any, list[Row]] = {kind: [] for kind in (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)}
    for run in runs:
        about = _about(run, experiment)
        rows[SqlRun].append(about)
        own = {"run_uuid": about["run_uuid"]}
        tags = {**run.tags, **not_finite(run.metrics), "mlflow.runName": run.name}
        for kind, pairs, most in ((SqlTag, tags, MAX_TAG_VAL_LENGTH), (SqlParam, run.params, MAX_PARAM_VAL_LENGTH)):
            rows[kind] += [{**own, "key": key, "value": value[:most]} for key, value in pairs.items()]
        rows[SqlMetric] += [{**own, **_values(metric)} for metric in run.metrics]
        rows[SqlLatestMetric] += [{**own, **_values(metric)} for metric in _latest(run.metrics)]
    with _engine(address).begin() as connection:
        for kind, found in rows.items():
            if found:
                connection.execute(insert(kind), found)


def not_finite(metrics: Sequence[Metric]) -> dict[str, str]:
    """A tag for each metric with a value that is no finite number, which MLflow may show as a large one: the first."""
    odd = {metric.key: metric for metric in reversed(metrics) if not math.isfinite(metric.value)}
    return {f"not_finite.{key}": f"{metric.value} at step {metric.step}" for key, metric in odd.items()}


def _about(run: Whole, experiment: Experiment) -> Row:
    from mlflow.utils.uri import append_to_uri_path

    run_id = uuid.uuid4().hex
    return {
        "run_uuid": run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "source_version": "",
        "user_id": run.tags.get("mlflow.user", "unknown"),
        "status": run.status,
        "start_time": run.started,
        "end_time": run.ended,
        "lifecycle_stage": "active",
        "artifact_uri": append_to_uri_path(experiment.artifact_location, run_id, "artifacts"),
        "experiment_id": int(experiment.experiment_id),
    }


def _values(metric: Metric) -> Row:
    is_nan = math.isnan(metric.value)
    value = 0.0 if is_nan else max(-LARGEST, min(metric.value, LARGEST))
    return {
        "key": metric.key,
        "value": value,
        "timestamp": metric.timestamp,
        "step": metric.step,
        "is_nan": is_nan,
    }


def _latest(metrics: Sequence[Metric]) -> Iterable[Metric]:
    """Of each key the one with the highest step."""
    return {metric.key: metric for metric in sorted(metrics, key=lambda metric: metric.step)}.values()
