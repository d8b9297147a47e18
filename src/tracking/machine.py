"""The load of the machine while a training runs: processor, memory, disk, network, GPU, by MLflow's own monitors."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from src.tracking.outbox import Outbox

EVERY = 1.0  # seconds between the first readings
LONGEST = 10.0  # seconds between later ones, MLflow's own default
RARER = 30  # times that a gap goes into what has passed
# a share of the time since the reading before, and sums since the first: of a moment they say nothing
OVER_TIME = (
    "system/cpu_utilization_percentage",
    "system/network_receive_megabytes",
    "system/network_transmit_megabytes",
)
LARGEST = 10_000_000  # bytes that wait for MLflow: days' worth; then no more is kept


def watch(box: Outbox, over: threading.Event) -> threading.Thread:
    """Put a reading into the outbox now and then, from the thread that is returned, until it is over. A training that
    is over before the first has one all the same, of what can be told of a moment."""
    thread = threading.Thread(target=_watch, args=(box, over), name="machine", daemon=True)
    thread.start()
    return thread


def gap(shortest: float, begun: float) -> float:
    """Seconds until the next of what comes again and again, rarer after some minutes. begun: by time.monotonic()."""
    return min(max(shortest, (time.monotonic() - begun) / RARER), LONGEST)


def _watch(box: Outbox, over: threading.Event) -> None:
    monitors, begun = _monitors(), time.monotonic()
    _read(monitors)  # where what is over time begins
    box.load.mend()
    if over.wait(EVERY):
        _put(box, {name: value for name, value in _read(monitors).items() if name not in OVER_TIME})
        return
    while True:
        size = box.load.path.stat().st_size if box.load.path.exists() else 0
        if size <= LARGEST or size - box.sent["load"] <= LARGEST:
            _put(box, _read(monitors))
        if over.wait(gap(EVERY, begun)):
            return


def _put(box: Outbox, values: dict[str, float]) -> None:
    with suppress(OSError):  # a disk that is full is for the training to tell
        box.load.append({"time": time.time(), "values": values})


def _read(monitors: list[Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return values


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # no NVIDIA GPU here
        found.append(GPUMonitor())
    return found
