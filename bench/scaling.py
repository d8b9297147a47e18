"""python -m bench.scaling: how time and memory grow with the rows, with the epochs, and with the runs in the store.

rows    an epoch of an MLP (32 numbers in, batch 256) on 10,000 to 10,000,000 rows in a prepared file; what is more
        than LIMIT is read from it in chunks. Each in a program of its own, whose peak of resident memory is told
epochs  an epoch of a training with checkpoints and history, early in it and late
runs    `python -m src.compare`, and the lookups of one run, in a store of so many (bench/runs.py)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench import report, runs, turns
from src import cli
from src.params import Params, changed

if TYPE_CHECKING:
    from src.data.prepared import Split

ROWS = [10_000, 100_000, 1_000_000, 10_000_000]
RUNS = [100, 1000, 10_000]
COLUMNS = 32
LIMIT = 0.128  # GB of inputs that stay in memory: those of 1,000,000 rows
EPOCHS = 3  # that are timed, after one that is not
LATE = 2000  # the epoch at which a training is late
WINDOW = 50  # epochs that are timed early and late


def main() -> None:
    parser = report.parser("scaling", __doc__, rounds=5)
    parser.add_argument("--run", nargs=2, metavar=("WHAT", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(PARTS[options.run[0]](int(options.run[1]))))
        return
    counts, many = (ROWS[:2], RUNS[:2]) if options.quick else (ROWS, RUNS)
    with tempfile.TemporaryDirectory(dir=".") as place:
        make(Path(place), max(counts))
        told = [facts for _ in range(options.rounds) for facts in measured(Path(place), counts, options.quick)]
    table = pd.concat([pd.DataFrame(told), looked_up(many, options.rounds)])
    report.finish("scaling", not options.quick, options.json, headlines(table, counts, many), medians(table))


def measured(folder: Path, counts: list[int], is_quick: bool) -> list[dict[str, Any]]:
    """One round: the facts of each size, a program each, one after the other."""
    asked = [("rows", count) for count in counts] + [("epochs", 200 if is_quick else LATE)]
    around = {**os.environ, "PYTHONPATH": str(Path.cwd()), "DVC_ROOT": str(folder.resolve())}
    found = []
    for what, count in asked:
        words = [sys.executable, "-m", "bench.scaling", "--run", what, str(count)]
        printed = subprocess.run(words, cwd=folder, env=around, stdout=subprocess.PIPE, text=True, check=True).stdout
        found += json.loads(printed.splitlines()[-1])
    return found


def looked_up(counts: list[int], rounds: int) -> pd.DataFrame:
    """The lookups in stores of so many runs, as rows of the table."""
    table = runs.lookups(counts, rounds).rename(columns={"runs": "count"})
    return table.assign(what="runs: " + table["what"])


def headlines(table: pd.DataFrame, counts: list[int], many: list[int]) -> list[report.Headline]:
    def values(what: str, count: int, column: str) -> pd.Series:
        chosen = table[(table["what"] == what) & (table["count"] == count)]
        return chosen[column].reset_index(drop=True)

    few, most, beyond = counts[0], counts[-1], counts[-2:]
    a_row = [values("an epoch of so many rows", count, "seconds") / count for count in (most, few)]
    peak = [values("an epoch of so many rows", count, "MB") for count in reversed(beyond)]
    late = [values(f"an epoch, {when}", 0, "seconds") for when in ("late", "early")]
    slowest = table[(table["count"] == many[-1]) & table["what"].str.startswith("runs: ")].groupby("what")["seconds"]
    return [
        report.Headline(f"a row of {most:,}, in those of {few:,}", turns.ratio(*a_row), "about 1"),
        report.Headline(
            "peak of memory with {1:,} rows, in that with {0:,}".format(*beyond), turns.ratio(*peak), "about 1"
        ),
        report.Headline("an epoch late in a training, in early ones", turns.ratio(*late), "about 1"),
        report.Headline(
            f"the slowest lookup among {many[-1]:,} runs, in seconds", float(slowest.median().max()), "at most 2"
        ),
    ]


def medians(table: pd.DataFrame) -> pd.DataFrame:
    return table.groupby(["what", "count"], sort=False)[["seconds", "MB"]].median().reset_index()


def make(folder: Path, rows: int) -> None:
    """A small table that is prepared, for its schema, and prepared files of every size beside it."""
    from safetensors.numpy import save_file

    from src.data.prepare import prepare

    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(2000, COLUMNS)), columns=[f"x{n}" for n in range(COLUMNS)])
    frame.assign(target=frame["x0"] > 0).to_parquet(folder / "small.parquet")
    with chdir(folder):
        prepare(settings())
    for count in [count for count in ROWS if count <= rows]:
        inputs = draw.standard_normal((count, COLUMNS), dtype=np.float32)
        parts = {"inputs": inputs, "targets": (inputs[:, 0] > 0).astype(np.int64), "rows": np.arange(count)}
        save_file(parts, folder / f"{count}.safetensors")


def settings(**values: Any) -> Params:
    data = {"prepare.source": "small.parquet", "prepare.target": "target", "task": "classification"}
    small = {"model.widths": [64], "model.dropout": 0.0, "train.batch_size": 256, "train.device": "cpu"}
    return changed(Params(), {**data, **small, "train.resident_gb": LIMIT, **values})


def of_rows(count: int) -> list[dict[str, Any]]:
    """Seconds of an epoch, and the peak of resident memory in MB."""
    from src import training
    from src.loop import train_epoch

    data = training.load_data()
    trainer, batches, _ = training.assemble(settings(), data._replace(train=mapped(count)))
    seconds = []
    for number in range(1, EPOCHS + 2):
        start = time.perf_counter()
        train_epoch(trainer, batches, number)
        seconds.append(time.perf_counter() - start)
    # not ru_maxrss, which a program takes over from the one that started it
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]
    return [{"what": "an epoch of so many rows", "count": count, "seconds": float(np.median(seconds[1:])), "MB": peak}]


def mapped(count: int) -> Split:
    from safetensors.torch import load_file

    from src.data.prepared import Split

    return Split(**load_file(f"{count}.safetensors"))


def of_epochs(count: int) -> list[dict[str, Any]]:
    """Seconds of an epoch, early and late in a training of so many."""
    from src import training

    params = settings(**{"train.epochs": count, "train.checkpoint_seconds": None})
    with tempfile.TemporaryDirectory(dir=".") as folder:
        epochs = training.train(params, training.load_data(), Path(folder))
        times = [time.perf_counter() for _ in epochs]
    spent = np.diff(times)
    parts = {"early": spent[WINDOW : 2 * WINDOW], "late": spent[-WINDOW - 1 : -1]}
    return [
        {"what": f"an epoch, {when}", "count": 0, "seconds": float(np.median(part))} for when, part in parts.items()
    ]


PARTS = {"rows": of_rows, "epochs": of_epochs}


if __name__ == "__main__":
    cli.run(main)
