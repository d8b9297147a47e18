"""python -m bench.outage: what a server that hangs costs a training, beside one that tells MLflow nothing.

Both train the same MLP (784-128-10, batch 256) on 60,000 made images, with checkpoints and history at each epoch; one
has a run open whose MLflow server takes connections and never answers. Each training is a process of its own; they take
turns. A training's figure is the median time from one epoch to the next; the table shows those, and the median of the
ratios of two that ran one after the other.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pandas as pd

from src import cli, files
from src.params import Params, changed

RESULTS = Path("bench/results/outage.csv")
ROWS, SIDE, CLASSES = 60_000, 28, 10
WAYS = ("off", "hung")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="trainings of each (7)")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each (30)")
    parser.add_argument("--run", nargs=2, metavar=("WAY", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(train(options.run[0] == "hung", options.run[1], options.epochs))
        return
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server, tempfile.TemporaryDirectory(dir=".") as folder:
        threading.Thread(target=_take, args=(server,), daemon=True).start()
        make(Path(folder))
        for number in range(options.repeat):
            turn = WAYS if number % 2 else WAYS[::-1]
            pairs.append({way: run(way, server.getsockname()[1], Path(folder), options.epochs) for way in turn})
            cli.say(str(pairs[-1]))
    table = pd.DataFrame(pairs)[list(WAYS)]
    table["ratio"] = table["hung"] / table["off"]
    files.write_bytes(RESULTS, table.to_csv(index=False).encode())
    print(table.round(4).to_string(index=False))
    print(f"median of {len(table)} ratios: {table['ratio'].median():.4f}")


def _take(server: socket.socket) -> None:
    """Take connections, and leave them at that."""
    taken = []
    while True:
        try:
            taken.append(server.accept())
        except OSError:
            return


def run(way: str, port: int, folder: Path, epochs: int) -> float:
    """Median seconds of an epoch."""
    words = [sys.executable, "-m", "bench.outage", "--epochs", str(epochs), "--run", way, str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "DVC_ROOT": str(folder.resolve())}
    ended = subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(ended.stdout)


def make(folder: Path) -> None:
    """Images that can be told apart, prepared in `folder`."""
    import numpy as np

    draw = np.random.default_rng(0)
    targets = draw.integers(0, CLASSES, ROWS)
    means = draw.integers(0, 128, (CLASSES, SIDE, SIDE))
    inputs = (means[targets] + draw.integers(0, 128, (ROWS, SIDE, SIDE))).astype(np.uint8)
    np.savez(folder / "images.npz", x=inputs, y=targets)
    words = "from bench import outage; from src.data.prepare import prepare; prepare(outage.settings())"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", words], cwd=folder, env=environment, check=True)


def settings(**changes: object) -> Params:
    values = {"prepare.source": "images.npz", "train.batch_size": 256, "model.widths": [128], "train.device": "cpu"}
    return changed(Params(), {**values, **changes})


def train(is_hung: bool, port: str, epochs: int) -> float:
    """Median seconds from one epoch to the next."""
    from src import fingerprint, training
    from src.tracking import run as runs

    address = f"http://127.0.0.1:{port}" if is_hung else None
    params = settings(**{"train.epochs": epochs, "tracking.uri": address, "seed": os.getpid()})
    data = training.load_data()
    mark = fingerprint.of(params, data.schema)
    with training.workplace(mark, params.train) as folder:
        told = runs.begin(params, data.schema, mark, folder) if is_hung else nullcontext()
        with told:
            times = [time.perf_counter() for _ in training.train(params, data, folder)]
    return statistics.median(later - earlier for earlier, later in pairwise(times))


if __name__ == "__main__":
    main()
