"""python -m bench.outage: what a server that hangs costs a training, beside one that tells MLflow nothing.

Both train the same MLP (784-128-10, batch 256) on 60,000 made images, with checkpoints and history at each epoch; one
has a run open whose MLflow server takes connections and never answers. Each training is a program of its own, with the
process beside it that would tell MLflow, and they take turns epoch by epoch (bench/turns.py). Printed are the median
epoch of each, and the median of the ratios of two epochs that ran one after the other.
"""

import argparse
import os
import socket
import tempfile
import threading
import time
from contextlib import chdir, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from bench import turns
from src import cli, files
from src.params import Params, changed

RESULTS = Path("bench/results/outage.csv")
ROWS, SIDE, CLASSES = 60_000, 28, 10
WAYS = ("off", "hung")
WARM_UP = 10  # epochs of each that do not count: imports of the process beside it, first pages of memory
EPOCHS = 100_000  # more than are asked for


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="pairs of trainings (5)")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of each that count (100)")
    parser.add_argument("--run", nargs=2, metavar=("WAY", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        train(options.run[0] == "hung", options.run[1])
        return
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server, tempfile.TemporaryDirectory(dir=".") as folder:
        threading.Thread(target=_take, args=(server,), daemon=True).start()
        make(Path(folder))
        entries = {way: ["-m", "bench.outage", "--run", way, str(server.getsockname()[1])] for way in WAYS}
        root = str(Path(folder).resolve())
        for number in range(1, options.repeat + 1):
            rounds = turns.race(entries, options.epochs, Path(folder), WARM_UP, DVC_ROOT=root)
            pairs.append(pd.DataFrame([{way: facts["seconds"] for way, facts in each.items()} for each in rounds]))
            cli.say(f"pair {number} of {options.repeat}: {summary(pairs[-1])}")
    table = pd.concat(pairs, keys=range(1, options.repeat + 1), names=["pair", "epoch"])
    files.write_bytes(RESULTS, table.round(6).to_csv().encode())
    medians = pd.Series([turns.ratio(pair["hung"], pair["off"]).median for pair in pairs])
    print(f"median of the {len(pairs)} pairs: {medians.median():.4f} ({medians.min():.4f} to {medians.max():.4f})")


def summary(table: pd.DataFrame) -> str:
    seconds = table.median()
    ratio = turns.ratio(table["hung"], table["off"])
    return f"median epoch {seconds['off']:.4f} s off, {seconds['hung']:.4f} s hung; median of ratios {ratio}"


def _take(server: socket.socket) -> None:
    """Take connections, and leave them at that."""
    taken = []
    while True:
        try:
            taken.append(server.accept())
        except OSError:
            return


def make(folder: Path) -> None:
    """Images that can be told apart, prepared in `folder`."""
    from src.data.prepare import prepare

    draw = np.random.default_rng(0)
    targets = draw.integers(0, CLASSES, ROWS)
    means = draw.integers(0, 128, (CLASSES, SIDE, SIDE))
    inputs = (means[targets] + draw.integers(0, 128, (ROWS, SIDE, SIDE))).astype(np.uint8)
    np.savez(folder / "images.npz", x=inputs, y=targets)
    with chdir(folder):
        prepare(settings())


def settings(**changes: object) -> Params:
    values = {"prepare.source": "images.npz", "train.batch_size": 256, "model.widths": [128], "train.device": "cpu"}
    return changed(Params(), {**values, **changes})


def train(is_hung: bool, port: str) -> None:
    """Train, with a lap after each epoch, until this program is ended."""
    from src import fingerprint, training
    from src.tracking import run as runs

    address = f"http://127.0.0.1:{port}" if is_hung else None
    params = settings(**{"train.epochs": EPOCHS, "tracking.uri": address, "seed": os.getpid()})
    data = training.load_data()
    mark = fingerprint.of(params, data.schema)
    with training.workplace(mark, params.train) as folder:
        told = runs.begin(params, data.schema, mark, folder) if is_hung else nullcontext()
        with told:
            start = time.perf_counter()
            for _ in training.train(params, data, folder):
                turns.lap(seconds=time.perf_counter() - start)
                start = time.perf_counter()


if __name__ == "__main__":
    main()
