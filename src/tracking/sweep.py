"""A study in MLflow: one parent run, one child run a trial, each child sent in as few calls as MLflow allows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from src import paths
from src.data.schema import Schema
from src.params import Params
from src.tracking import alive, lineage, store
from src.tracking.history import Record
from src.tracking.replica import BATCH, metrics_of
from src.tracking.run import Run, text

if TYPE_CHECKING:
    from mlflow import MlflowClient

FIRST = BATCH - 200  # metrics in the call that takes params and tags too: the limit is on the sum
# pruned is KILLED to MLflow, as in its own Optuna integration; the tag says which it was
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED"}


class Trial(NamedTuple):
    """One finished trial: the values tried, all params, state (complete, pruned, fail), its epochs and its best."""

    number: int
    values: dict[str, Any]
    params: dict[str, Any]
    state: str
    started: float
    records: list[Record]
    best: float | None
    error: str | None


class Sweep:
    """The parent run of a study, and the way its trials get under it."""

    def __init__(self, client: MlflowClient, experiment_id: str, run: Run, study: str, monitor: str) -> None:
        self.run, self._client, self._experiment_id = run, client, experiment_id
        self._study, self._monitor, self._tags = study, monitor, lineage.tags()

    def log(self, trial: Trial) -> None:
        """Write a finished trial as a child run, with its epochs, params and a tag for its state."""
        from mlflow.entities import Metric, Param

        tags = {
            "mlflow.parentRunId": self.run.id,
            "study": self._study,
            "state": trial.state,
            "trial": str(trial.number),
        }
        tags |= self._tags
        tags |= {key: str(value) for key, value in trial.values.items() if isinstance(value, str)}
        tags |= {"error": trial.error} if trial.error else {}
        name = f"trial-{trial.number:03d}" + ("" if trial.state == "complete" else f"-{trial.state}")
        child = self._client.create_run(self._experiment_id, int(trial.started * 1000), tags, name).info.run_id
        now = int(time.time() * 1000)
        best = [] if trial.best is None else [Metric(f"best_val/{self._monitor}", trial.best, now, 0)]
        metrics = best + [metric for record in trial.records for metric in metrics_of(record)]
        params = [Param(key, text(value)) for key, value in trial.params.items()]
        self._client.log_batch(child, metrics[:FIRST], params)
        for start in range(FIRST, len(metrics), BATCH):
            self._client.log_batch(child, metrics[start : start + BATCH])
        self._client.set_terminated(child, STATUS[trial.state], now)

    def forget(self, number: int) -> None:
        """Delete the run of a trial that is trained again: its process died before the study counted it."""
        wanted = f"tags.study = '{self._study}' and tags.trial = '{number}'"
        for run in self._client.search_runs([self._experiment_id], wanted):
            self._client.delete_run(run.info.run_id)

    def conclude(self, result: dict[str, Any], words: str) -> None:
        """Put the outcome on the parent: best value and params, importance, the summary as its description."""
        best = result["best"]
        self.run.log_metrics({f"best_val/{self._monitor}": best["value"], "trials": result["trials"]["total"]})
        self.run.log_metrics(result["importance"], "importance/")
        tags = {f"best.{key}": str(value) for key, value in best["params"].items()}
        self.run.set_tags({**tags, "mlflow.note.content": words.replace("\n", "  \n")})
        self.run.log_artifact(paths.REPORTS / "tune.json")


@contextmanager
def begin(params: Params, schema: Schema, study: str) -> Iterator[Sweep]:
    """The parent run of `study`: the one it had before, or a new one; it is RUNNING inside `with`."""
    client = store.connect(params.tracking)
    alive.bury(client, params.tracking)
    experiment_id = store.experiment(client, params.tracking)
    wanted = f"tags.study = '{study}' and tags.role = 'study'"
    found = client.search_runs([experiment_id], wanted, max_results=1)
    if found:
        run_id = found[0].info.run_id
    else:
        tags = {**lineage.tags(), "study": study, "role": "study"}
        run_id = client.create_run(experiment_id, tags=tags, run_name=f"tune-{study}").info.run_id
    with Run(client, run_id, params.tracking) as run:
        yield Sweep(client, experiment_id, run, study, params.train.monitor)
