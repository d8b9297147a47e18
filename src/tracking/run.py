"""The MLflow run of one experiment: opened by train, gone on with by validate and evaluate, truthful at its end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from src import cli, files, paths
from src.data.schema import Schema
from src.errors import InputError
from src.fingerprint import Fingerprint
from src.params import Params
from src.sections import Tracking
from src.tracking import alive, lineage, store
from src.tracking.history import History
from src.tracking.replica import Replica

if TYPE_CHECKING:
    from mlflow import MlflowClient

SAMPLING = 1.0  # seconds between two readings of CPU, memory, disk, network and GPU


class Run:
    """A run that is RUNNING inside `with` and afterwards FINISHED, FAILED (any exception; its traceback becomes an
    artifact) or KILLED (SIGTERM, Ctrl-C). A store that fails on the way is an InputError, as one that is down at the
    start."""

    def __init__(self, client: MlflowClient, run_id: str, tracking: Tracking) -> None:
        self.client, self.id, self._tracking = client, run_id, tracking
        self._held = ExitStack()

    def __enter__(self) -> Run:
        with ExitStack() as held:
            self._pulse = held.enter_context(alive.held(self.id, self._tracking))
            self.client.update_run(self.id, status="RUNNING")
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            status = "FINISHED"
        elif issubclass(kind, (KeyboardInterrupt, SystemExit)):
            status = "KILLED"
        else:
            status = "FAILED"
        cause = error
        try:
            if status == "FAILED":
                self.client.log_text(self.id, text("".join(traceback.format_exception(error))), "traceback.txt")
            self.client.set_terminated(self.id, status)
            self._pulse.told = True
        except Exception as unreachable:
            # the first error is the one to act on; this one must not take its place
            cli.say(f"MLflow could not be told that run {self.id} is {status}: {store.reason(unreachable)}")
            cause = error or unreachable
        finally:
            self._held.close()
        if cause and store.is_failure(cause):
            raise InputError(
                f"the MLflow store {store.redact(store.uri(self._tracking))} failed: {store.reason(cause)}. "
                "What was trained is safe: when the store is back, the same command goes on"
            ) from cause
        if cause and cause is not error:
            raise cause

    @contextmanager
    def following(self, folder: Path) -> Iterator[None]:
        """While inside, MLflow gets each epoch of the history in `folder`, and the machine's load."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        replica = Replica(self.client, self.id, History(folder))
        monitor = SystemMetricsMonitor(self.id, sampling_interval=SAMPLING, resume_logging=True)
        monitor.start()
        try:
            yield
        except BaseException:
            monitor.finish()
            try:
                replica.close()
            except Exception as unreachable:  # as above: the first error is the one to act on
                cli.say(
                    f"MLflow lacks the last epochs, they are sent when training goes on: {store.reason(unreachable)}"
                )
            raise
        monitor.finish()
        replica.close()

    def log_params(self, values: dict[str, Any]) -> None:
        """Log params that the run does not have yet; MLflow lets none be changed."""
        from mlflow.entities import Param

        known = self.client.get_run(self.id).data.params
        fresh = [Param(key, text(value)) for key, value in values.items() if key not in known]
        for start in range(0, len(fresh), 100):
            self.client.log_batch(self.id, params=fresh[start : start + 100])

    def log_metrics(self, values: dict[str, float], prefix: str = "") -> None:
        """Log numbers that are not a curve; a stage that runs again does not repeat those that are the same."""
        from mlflow.entities import Metric

        now, known = int(time.time() * 1000), self.client.get_run(self.id).data.metrics
        named = {prefix + key: value for key, value in values.items()}
        fresh = [Metric(key, value, now, 0) for key, value in named.items() if known.get(key) != value]
        self.client.log_batch(self.id, metrics=fresh)

    def set_tags(self, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in values.items()])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.id, str(path), folder)

    def log_artifacts(self, written: list[Path], folder: str) -> None:
        for path in written:
            self.log_artifact(path, folder)

    @property
    def name(self) -> str:
        return self.client.get_run(self.id).info.run_name

    def write(self, path: Path) -> None:
        """Name this run in a file, so that later stages find it: ids and the store's address, never a password."""
        info = self.client.get_run(self.id).info
        facts = {"run_id": self.id, "run_name": info.run_name, "experiment_id": info.experiment_id}
        files.write_json(path, {**facts, "tracking_uri": store.redact(store.uri(self._tracking))})


def begin(params: Params, schema: Schema, mark: Fingerprint, note: Path) -> Run:
    """The run that `note` names, if it is in the store and in the experiment, else a new one, named in `note`."""
    client = store.connect(params.tracking)
    alive.bury(client, params.tracking)
    experiment_id = store.experiment(client, params.tracking)
    run_id = _known(client, note, experiment_id)
    if run_id is None:
        tags = {
            **lineage.tags(),
            "data.digest": schema.digest,
            "fingerprint": mark.digest,
            "task": params.task,
        }
        name = readable_name(params, schema, tags.get("dvc.exp"))
        run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    run = Run(client, run_id, params.tracking)
    run.write(note)
    return run


def readable_name(params: Params, schema: Schema, experiment: str | None) -> str:
    """What tells runs apart at a glance: data, model, optimizer, learning rate, seed, DVC's name if it gave one."""
    parts = [
        schema.title,
        params.model.name,
        params.train.optimizer,
        f"lr{params.train.lr:g}",
        f"seed{params.seed}",
    ]
    return "-".join([*parts, experiment] if experiment else parts)


def rejoin(params: Params, note: Path = paths.RUN) -> Run:
    """The run that the train stage named. A run that the store does not have (a clone with a pulled cache, another
    store) is opened anew and tagged with where it came from."""
    origin = files.read_json(note)
    client = store.connect(params.tracking)
    alive.bury(client, params.tracking)
    experiment_id = store.experiment(client, params.tracking)
    if _known(client, note, experiment_id):
        return Run(client, origin["run_id"], params.tracking)
    restored = client.search_runs([experiment_id], f"tags.`restored.run_id` = '{origin['run_id']}'", max_results=1)
    if restored:
        return Run(client, restored[0].info.run_id, params.tracking)
    cli.say(f"run {origin['run_id']} is not in {store.redact(store.uri(params.tracking))}: opening it anew")
    tags = {**lineage.tags(), "restored.run_id": origin["run_id"], "restored.from": origin["tracking_uri"]}
    new = client.create_run(experiment_id, run_name=origin["run_name"], tags=tags)
    run = Run(client, new.info.run_id, params.tracking)
    run.log_params(params.flat())
    return run


def _known(client: MlflowClient, note: Path, experiment_id: str) -> str | None:
    from mlflow.exceptions import MlflowException

    if not note.exists():
        return None
    run_id = files.read_json(note)["run_id"]
    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run_id if info.experiment_id == experiment_id and info.lifecycle_stage == "active" else None


def text(value: Any) -> str:
    """A value as MLflow keeps it; a password in an address must not reach the store."""
    return store.redact(value) if isinstance(value, str) else str(value)
