"""One outbox, repeated to MLflow: in order, in batches, each number once, also after an attempt that failed midway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import files
from src.journal import Record
from src.sections import Tracking
from src.tracking import history, logged, store, whole
from src.tracking.history import History, Steps
from src.tracking.outbox import Event, Outbox, status_of
from src.tracking.whole import metrics_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

BATCH = 1000  # metrics and params in one call, MLflow's limit
PARAMS = 100  # params among them, the same
SLOWEST = 1e6  # bytes in a second
IMPORTS = 30.0  # seconds that the parts of MLflow which log a model may take to import on a busy machine


class Replica:
    """Tells MLflow of one run, and remembers how far it is; one that failed is made anew.

    `got_on(seconds)` is called after each call that MLflow answered, with the time that the next one may need.
    """

    def __init__(
        self, client: MlflowClient, box: Outbox, tracking: Tracking, got_on: Callable[[float], None] = lambda _: None
    ):
        self._client, self._box, self._header, self._got_on = client, box, box.header, got_on
        # the header's, as the params may name another by now
        wanted = tracking.model_copy(update={"experiment": self._header["experiment"]})
        self._experiment_id = store.experiment(client, wanted)
        sent = box.sent
        self._events, self._load, self._epochs, self._steps = sent["events"], sent["load"], 0, 0
        self._step_points = tracking.step_points
        self._known: dict[str, set[int]] = {}
        self._told: set[str] | None = None  # keys of the trials that MLflow has
        self._address = store.uri(wanted)
        self._is_new_run = False
        self.run_id: str | None = None

    def send(self) -> bool:
        """Tell MLflow all there is now; whether that was all there will be."""
        events = self._box.said()[self._events :]  # before the history: the end of a run goes last
        folder = self._box.history
        records, epochs = History(folder).read(self._epochs) if folder else ([], 0)
        steps, told_steps = Steps(folder).read(self._steps) if folder else ([], 0)
        readings, load = self._box.load.read(self._load)
        if self.run_id is None and (events or records):
            self.run_id = self._resolve()
        if self.run_id:
            self._log(self._curves(records, steps) + self._loads(readings))
            self._epochs, self._steps, self._load = epochs, told_steps, load
            if readings:
                self._note()  # they are not compared with what MLflow has
        while events:
            told = self._leading(events)
            try:
                self._tell(told)
            except Exception:
                if events[0]["do"] in FILES:
                    self._behind(events[1:])
                raise
            events = events[len(told) :]
            self._events += len(told)
            self._note()
        said = self._box.said()
        return len(said) == self._events and status_of(said) != "RUNNING"

    def _leading(self, events: list[Event]) -> list[Event]:
        """The first of them; where they can be told at once, trials that follow one another."""
        return whole.leading(events) if store.is_database(self._address) else events[:1]

    def _tell(self, events: list[Event]) -> None:
        """Tell an event, or trials that follow one another."""
        if events[0]["do"] == "trial":
            self._trials(events)
        else:
            EVENTS[events[0]["do"]](self, events[0])

    def _behind(self, events: list[Event]) -> None:
        """Tell what waits behind a file that MLflow does not take: numbers, and how the run ended. All of it is told
        again after the file, which changes nothing."""
        left = [event for event in events if event["do"] not in FILES]
        while left:
            told = self._leading(left)
            self._tell(told)
            left = left[len(told) :]

    def _note(self) -> None:
        """Remember how far MLflow is."""
        self._got_on(0)
        sent = {"run_id": self.run_id, "events": self._events, "load": self._load}
        files.write_sealed(self._box.sent_path, sent)

    def _resolve(self) -> str:
        """The run's id in MLflow: the one it had, or the one that has its key, or that of a new run."""
        header = self._header
        for run_id in (self._box.sent["run_id"], header["run_id"]):
            if run_id and logged.is_there(self._client, run_id, self._experiment_id):
                self._compare_params(run_id)
                return run_id
        found = logged.by_key(self._client, self._experiment_id, header["key"])
        if not found:
            self._create(header["run_id"])
            found = logged.by_key(self._client, self._experiment_id, header["key"])
        # one more than there should be: the answer to its creation was lost, and it came after the next attempt
        run, *others = found
        for other in others:
            self._client.delete_run(other.info.run_id)
        if self._box.status is None and run.info.status == "RUNNING":  # only noted: nobody will say how it ended
            self._client.set_terminated(run.info.run_id, "FINISHED")
        self._compare_params(run.info.run_id)
        return run.info.run_id

    def _create(self, before: str | None) -> None:
        """Open the run. One that was there and is no more (a fresh clone, another store) says where it came from."""
        header = self._header
        tags = {**header["tags"], logged.KEY: header["key"]}
        if before:
            tags |= {"restored.run_id": before, "restored.from": header["origin"] or header["tracking_uri"]}
        if header["parent"]:
            above = logged.by_key(self._client, self._experiment_id, header["parent"])
            tags |= {"mlflow.parentRunId": above[0].info.run_id} if above else {}
        self._client.create_run(self._experiment_id, int(header["created"] * 1000), tags, header["name"])
        self._is_new_run = True

    def _compare_params(self, run_id: str) -> None:
        """Log the params that MLflow does not have. It lets none be changed, so one that is another now is a tag."""
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(run_id).data.params
        params = self._header["params"]
        self._step_points = step_points({**params, **known}, self._step_points)
        fresh = [Param(key, value) for key, value in params.items() if key not in known]
        for start in range(0, len(fresh), PARAMS):
            self._client.log_batch(run_id, params=fresh[start : start + PARAMS])
        # a later stage says "auto" of what the training has settled
        changes = {key: value for key, value in params.items() if value not in ("auto", known.get(key, value))}
        others = [RunTag(f"changed.{key}", value) for key, value in changes.items()]
        if others:
            self._client.log_batch(run_id, tags=others[:PARAMS])
        self._got_on(0)

    def _curves(self, records: list[Record], steps: Sequence[Record] = ()) -> list[Metric]:
        """The metrics of those epochs, and the losses of those steps, that MLflow does not have."""
        found = [metric for record in records for metric in metrics_of(record)]
        found += [metric for record in steps for metric in losses_of(record, self._step_points)]
        return [metric for metric in found if self._is_new(metric)]

    def _loads(self, readings: list[Record]) -> list[Metric]:
        from mlflow.entities import Metric

        begun = self._header["created"]
        return [
            Metric(name, value, int(reading["time"] * 1000), int(reading["time"] - begun))
            for reading in readings
            for name, value in reading["values"].items()
        ]

    def _is_new(self, metric: Metric) -> bool:
        """Whether MLflow lacks this step of its curve; a curve is asked for once."""
        assert self.run_id
        if metric.key not in self._known:
            there = [] if self._is_new_run else self._client.get_metric_history(self.run_id, metric.key)
            self._known[metric.key] = {one.step for one in there}
            self._got_on(0)
        is_new = metric.step not in self._known[metric.key]
        self._known[metric.key].add(metric.step)
        return is_new

    def _log(self, metrics: list[Metric], run_id: str | None = None, params: Sequence[Param] = ()) -> None:
        """Send metrics, and params with the first of them, of this run or of one under it. A value that is no finite
        number, which MLflow may show as a large one, is put in a tag too."""
        from mlflow.entities import RunTag

        run_id = run_id or self.run_id
        assert run_id
        first, size = params[:PARAMS], BATCH - PARAMS
        for start in range(0, max(len(metrics), len(first)), size):
            self._client.log_batch(run_id, metrics[start : start + size], first if start == 0 else ())
            self._got_on(0)
        for start in range(PARAMS, len(params), PARAMS):
            self._client.log_batch(run_id, params=params[start : start + PARAMS])
        tags = [RunTag(key, text) for key, text in whole.not_finite(metrics).items()]
        if tags:
            self._client.log_batch(run_id, tags=tags)

    def _status(self, event: Event) -> None:
        assert self.run_id
        if event["status"] == "RUNNING":
            self._client.update_run(self.run_id, "RUNNING")
        else:
            self._client.set_terminated(self.run_id, event["status"], int(event["time"] * 1000))

    def _passed(self, event: Event) -> None:
        assert self.run_id
        if self._client.get_run(self.run_id).info.status != "FINISHED":
            self._client.set_terminated(self.run_id, "FINISHED", int(event["time"] * 1000))

    def _metrics(self, event: Event) -> None:
        from mlflow.entities import Metric

        assert self.run_id
        known, now = self._client.get_run(self.run_id).data.metrics, int(event["time"] * 1000)
        self._log([Metric(key, value, now, 0) for key, value in event["values"].items() if known.get(key) != value])

    def _tags(self, event: Event) -> None:
        from mlflow.entities import RunTag

        assert self.run_id
        self._client.log_batch(self.run_id, tags=[RunTag(key, text) for key, text in event["values"].items()])

    def _artifact(self, event: Event) -> None:
        if kept := self._kept(event["file"]):
            (path,) = kept
            self._got_on(path.stat().st_size / SLOWEST)
            self._client.log_artifact(self.run_id, str(path), event["folder"] or None)

    def _kept(self, *places: str) -> list[Path]:
        """The files that an event names; none when one of them is gone, which becomes a tag."""
        paths = [self._box.take(place) for place in places]
        lost = {f"lost.{path.name}": "it was gone before MLflow had it" for path in paths if not path.exists()}
        if lost:
            self._tags({"values": lost})
        return [] if lost else paths

    def _trials(self, events: list[Event]) -> None:
        """Runs under this one, which are over. One that is there, as an earlier attempt failed or the trial was trained
        again, goes."""
        assert self.run_id
        if self._told is None:
            self._told = (
                set() if self._is_new_run else logged.keys_below(self._client, self._experiment_id, self.run_id)
            )
        for event in events:
            if event["key"] in self._told:
                for before in logged.by_key(self._client, self._experiment_id, event["key"]):
                    self._client.delete_run(before.info.run_id)
            self._told.add(event["key"])
        runs = [
            whole.of_trial(event, {logged.KEY: event["key"], "mlflow.parentRunId": self.run_id}) for event in events
        ]
        if store.is_database(self._address):
            whole.write(self._address, self._client.get_experiment(self._experiment_id), runs)
            self._got_on(0)
            return
        from mlflow.entities import Param

        for run in runs:
            tags, params = run.tags, [Param(key, value) for key, value in run.params.items()]
            made = self._client.create_run(self._experiment_id, run.started, tags, run.name).info.run_id
            self._log(run.metrics, made, params)
            self._client.set_terminated(made, run.status, run.ended)

    def _dataset(self, event: Event) -> None:
        assert self.run_id
        logged.dataset(self._client, self.run_id, event)

    def _model(self, event: Event) -> None:
        assert self.run_id
        if kept := self._kept(event["sources"], *event["parts"]):
            sources, *parts = kept
            self._got_on(IMPORTS + sum(part.stat().st_size for part in parts) / SLOWEST)
            logged.model(self._client, self.run_id, sources, parts, event["columns"])


def step_points(params: dict[str, str], now: int) -> int:
    """tracking.step_points of a run with these params: its curve keeps what it was begun with; `now`: of one that has
    none yet."""
    return int(params.get("tracking.step_points", now))


def losses_of(record: Record, count: int) -> Iterator[Metric]:
    """The losses of the steps of one epoch as so many MLflow metrics; what MLflow calls step is the steps made."""
    from mlflow.entities import Metric

    for step, loss in history.points(record, count):
        yield Metric("train/step_loss", loss, int(record["time"] * 1000), step)


EVENTS: dict[str, Callable[[Replica, Any], None]] = {
    "status": Replica._status,
    "passed": Replica._passed,
    "metrics": Replica._metrics,
    "tags": Replica._tags,
    "artifact": Replica._artifact,
    "dataset": Replica._dataset,
    "model": Replica._model,
}
FILES = ("artifact", "model")
