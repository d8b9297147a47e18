"""Sends a training's history to MLflow in the background: in order, in batches, each epoch once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from src import cli
from src.tracking import store
from src.tracking.history import History, Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

BATCH = 1000  # metrics in one call, MLflow's limit
PAUSE = 1.0  # seconds between two sends, so that short epochs share a batch
MARK = "val/loss"  # in every record, and the last thing sent: its newest step is how far MLflow has got


class Replica:
    """Follows `history` and keeps the run's metrics in MLflow equal to it. Training never waits for a send."""

    def __init__(self, client: MlflowClient, run_id: str, history: History) -> None:
        self._client, self._run_id, self._history = client, run_id, history
        steps = [metric.step for metric in client.get_metric_history(run_id, MARK)]
        self._sent, self._offset = max(steps, default=0), 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-replica", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following and send what is left; raises what MLflow raises when it cannot be sent."""
        self._closing.set()
        self._thread.join()
        self._send()

    def _follow(self) -> None:
        warned = False
        while not self._closing.wait(PAUSE):
            try:
                self._send()
            except Exception as error:  # whatever the store raises, the history is safe and is sent again
                if not warned:
                    why = store.reason(error)
                    cli.say(f"MLflow cannot be reached ({why}); training goes on, metrics are kept and sent later")
                warned = True

    def _send(self) -> None:
        records, offset = self._history.read(self._offset)
        fresh = [record for record in records if record["epoch"] > self._sent]
        metrics = [metric for record in fresh for metric in metrics_of(record)]
        for start in range(0, len(metrics), BATCH):
            part = metrics[start : start + BATCH]
            self._client.log_batch(self._run_id, metrics=part)
            self._sent = max([self._sent, *(metric.step for metric in part if metric.key == MARK)])
        self._offset = offset


def metrics_of(record: Record) -> list[Metric]:
    """The numbers of one epoch as MLflow metrics, its step the epoch."""
    from mlflow.entities import Metric

    milliseconds, step = int(record["time"] * 1000), record["epoch"]
    names = [name for name in record if name not in ("time", "epoch", MARK)]
    return [Metric(name, record[name], milliseconds, step) for name in [*names, MARK]]
