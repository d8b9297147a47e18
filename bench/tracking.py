"""python -m bench.tracking: what it costs a training to be tracked, beside the same training with nothing kept.

It trains the MLP, and then the CNN, of bench.loop on Fashion-MNIST, and validates after each epoch, in one program that
does some epochs each way in turn: with nothing kept, and with a checkpoint each epoch, every step's loss, the machine's
load and a run in MLflow, which a process beside tells. That process is held still while nothing is kept.

  sqlite  the run is in an SQLite store
  server  on an MLflow server behind a proxy that answers after 200 ms; it runs on the same cores, at low priority, as
          it would elsewhere take none of them

Both ways are one program, as two programs that do the same differ by more than what is asked for here. Then, too: what
a point of the curve by step costs the loop that hands it on, beside `mlflow.log_metric`.
Fashion-MNIST has to lie in data/raw/fashion-mnist (README).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil

from bench import loop, report, turns
from src import cli
from src.params import Params, changed
from tests.faults import proxy, servers

if TYPE_CHECKING:
    from torch import Tensor

    from src.data.batches import Batches
    from src.loop import Trainer
    from src.training import Data

EPOCHS = {"fashion-mlp": 10, "fashion-cnn": 3}  # of the workloads, in a round
STORES = ("sqlite", "server")
WARM_UP = 8  # rounds: the process beside imports MLflow, and makes its store
DELAY = 0.2  # seconds after which the server answers
POINTS = 200  # of a curve, handed on one after another


def main() -> None:
    parser = report.parser("tracking", __doc__, rounds=25)
    parser.add_argument("--run", nargs=3, metavar=("WORKLOAD", "ADDRESS", "ROUNDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        train(options.run[0], options.run[1], int(options.run[2]))
        return
    rounds, headlines, rows = 2 if options.quick else options.rounds, [], []
    for workload in EPOCHS:
        for kind in STORES:
            seconds = measure(workload, kind, rounds)
            ratio = turns.ratio(seconds["tracked"], seconds["untracked"])
            headlines.append(report.Headline(f"{workload}, {kind}: times an untracked epoch", ratio, "at most 1.01"))
            cli.say(str(headlines[-1]))
            rows += [
                {"what": f"an epoch of {workload}, {way}, {kind}", "seconds": seconds[way].median()} for way in seconds
            ]
    with tempfile.TemporaryDirectory(dir=".") as place:
        points = pd.DataFrame([point(Path(place).resolve(), number) for number in range(min(rounds, 7))])
    cheaper = turns.ratio(points["mlflow.log_metric"], points["loopline"])
    headlines.append(report.Headline("a point: times cheaper than mlflow.log_metric", cheaper, "at least 100"))
    rows += [{"what": f"a point, {name}", "seconds": points[name].median()} for name in points]
    report.finish("tracking", not options.quick, options.json, headlines, pd.DataFrame(rows))


def measure(workload: str, kind: str, rounds: int) -> pd.DataFrame:
    """Seconds of an epoch, tracked and untracked, a round a row."""
    cli.say(f"{workload}, {kind}: {rounds} rounds of {EPOCHS[workload]} epochs, tracked and untracked")
    with tempfile.TemporaryDirectory(dir=".") as place, ExitStack() as held:  # not in /tmp, which may be in memory
        folder = Path(place).resolve()
        loop.make(workload, folder)
        address = held.enter_context(slow_server(folder)) if kind == "server" else f"sqlite:///{folder}/mlflow.db"
        seconds = turns.alone(["-m", "bench.tracking", "--run", workload, address, str(rounds)], folder)
    return pd.DataFrame(seconds)


@contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    """The address of a real MLflow server that takes its time to answer."""
    (folder / "server").mkdir()
    with (
        servers.mlflow_server(folder / "server", f"sqlite:///{folder}/server.db") as server,
        proxy.Proxy(server.port) as between,
    ):
        for process in servers.group(server.process.pid):  # type: ignore[union-attr]
            os.setpriority(os.PRIO_PROCESS, process, 19)
            with suppress(OSError):  # as in src/tracking/sender.py
                Path(f"/proc/{process}/autogroup").write_text("19")
        between.delay, between.mode = DELAY, "slow"
        yield between.url


def train(workload: str, address: str, rounds: int) -> None:
    """In turn some epochs with nothing kept, and some more of a training that is tracked; print their seconds."""
    from src import fingerprint, paths
    from src.tracking import run as runs

    params, data = changed(loop.settings(workload), {"tracking.uri": address}), loop.load(workload)
    mark, folder, found = fingerprint.of(params, data.schema), paths.checkpoints() / workload, list[dict[str, float]]()
    folder.mkdir(parents=True)
    with runs.begin(params, data.schema, mark, folder):
        (teller,) = psutil.Process().children()
        for number in range(1, WARM_UP + rounds + 1):
            found.append({"tracked": epochs_of(params, data, number * EPOCHS[workload], folder)})
            teller.suspend()
            found[-1]["untracked"] = epochs_of(params, data, EPOCHS[workload], None)
            teller.resume()
    print(json.dumps(found[WARM_UP:]))


def epochs_of(params: Params, data: Data, last: int, folder: Path | None) -> float:
    """Train up to the epoch `last`; mean seconds from the beginning of one epoch to that of the next."""
    from src import training

    begun: list[float] = []

    def watch(_: Trainer, batches: Batches) -> None:
        gather = batches.epoch

        def noted(number: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            begun.append(time.perf_counter())
            return gather(number, skip)

        batches.epoch = noted  # type: ignore[method-assign]

    for _ in training.train(changed(params, {"train.epochs": last}), data, folder, watch):
        pass
    return (begun[-1] - begun[0]) / (len(begun) - 1)


def point(folder: Path, number: int) -> dict[str, float]:
    """Seconds that one point of a curve takes of the loop, by each way."""
    import mlflow
    import torch

    from src.loop import Epoch
    from src.saving import Saver

    losses, state = [torch.rand(()) for _ in range(POINTS)], {"epoch": 1, "step": 0, "best_epoch": 1}
    (folder / f"point{number}").mkdir()
    with chdir(folder), Saver(Path(f"point{number}"), 1, None, None) as saver:
        start, kept = time.perf_counter(), []
        for loss in losses:
            kept.append(loss.detach())  # noqa: PERF401  # as the loop does
        saver.epoch(Epoch(1, 0.1, {"loss": 1.0}, {"loss": 1.0}, 1.0, torch.stack(kept)), state)
        own = time.perf_counter() - start
        mlflow.set_tracking_uri(f"sqlite:///{folder}/points.db")
        with mlflow.start_run():
            start = time.perf_counter()
            for step, loss in enumerate(losses):
                mlflow.log_metric("loss", loss.item(), step)
            return {"loopline": own / POINTS, "mlflow.log_metric": (time.perf_counter() - start) / POINTS}


if __name__ == "__main__":
    cli.run(main)
