"""python -m bench.prepare: preparing a large CSV, beside pandas and scikit-learn.

Both read the same generated table of 12 columns (eight of numbers, one with gaps; three of words; the target), divide
it into three, learn imputing, scaling and one-hot encoding from the training rows, and write what a model takes. The
peer is pandas.read_csv as it comes, train_test_split, and a ColumnTransformer. `floor` does what cannot be left out and
nothing else: it imports the libraries, parses the file on all cores, hashes it, hashes as many bytes as the result has
and writes them durably. Each run is a process of its own; they take turns, and the table shows medians. Memory is the
peak resident set of the process.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from src import cli, files

RESULTS = Path("bench/results/prepare.csv")
BLOCK = 500_000
NUMBERS = [*(f"x{place}" for place in range(6)), "age", "income"]
WORDS = ["city", "plan", "active"]
WIDTH = 112  # bytes of a row in the result: 25 inputs, a target, the row's number


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.prepare", description=__doc__)
    parser.add_argument("--millions", nargs="+", type=float, default=[1, 5, 10], help="rows, in millions (1 5 10)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        RUNS[options.run]()
        return
    measured = []
    for millions in options.millions:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            generate(Path(folder) / "table.csv", int(millions * 1e6))
            for _ in range(options.repeat):
                measured.append({"rows": int(millions * 1e6), **{name: run(name, Path(folder)) for name in RUNS}})
                cli.say(str(measured[-1]))
    table = pd.DataFrame(summary(measured))
    RESULTS.parent.mkdir(exist_ok=True)
    files.write_bytes(RESULTS, table.to_csv(index=False).encode())
    print(table.to_string(index=False))


def generate(path: Path, rows: int) -> None:
    draw = np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        values = draw.normal(size=(count, 6)).round(4)
        frame = pd.DataFrame(values, columns=NUMBERS[:6])
        frame["age"] = draw.integers(18, 90, count)
        frame["income"] = np.where(draw.random(count) < 0.05, np.nan, draw.lognormal(10, 1, count).round(2))
        frame["city"] = draw.choice([f"city_{number}" for number in range(12)], count)
        frame["plan"] = draw.choice(["basic", "plus", "pro"], count)
        frame["active"] = draw.choice(["yes", "no"], count)
        frame["target"] = (2 * values[:, 0] + values[:, 1] + draw.normal(size=count)).round(4)
        frame.to_csv(path, index=False, header=start == 0, mode="w" if start == 0 else "a")


def run(name: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak MB of one run, imports and start of the interpreter included."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "bench.prepare", "--run", name],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return round(time.perf_counter() - start, 2), float(ended.stdout)


def summary(measured: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for rows in dict.fromkeys(one["rows"] for one in measured):
        own = [one for one in measured if one["rows"] == rows]
        seconds = {name: median(one[name][0] for one in own) for name in RUNS}
        yield {
            "rows": rows,
            "loopline_s": seconds["loopline"],
            "pandas_sklearn_s": seconds["pandas_sklearn"],
            "floor_s": seconds["floor"],
            "ratio": round(median(one["pandas_sklearn"][0] / one["loopline"][0] for one in own), 2),
            "loopline_rows_per_s": round(rows / seconds["loopline"]),
            "loopline_peak_mb": max(one["loopline"][1] for one in own),
            "pandas_sklearn_peak_mb": max(one["pandas_sklearn"][1] for one in own),
        }


def loopline() -> None:
    from src.data.prepare import prepare
    from src.params import Params, changed

    prepare(changed(Params(), {"prepare.source": "table.csv", "prepare.target": "target", "task": "regression"}))
    print(peak())


def pandas_sklearn() -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.read_csv("table.csv")
    train, rest = train_test_split(frame, train_size=0.7, random_state=0)
    val, test = train_test_split(rest, train_size=0.5, random_state=0)
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    encoder = ColumnTransformer(
        [("numbers", numbers, NUMBERS), ("words", OneHotEncoder(handle_unknown="ignore"), WORDS)]
    )
    for name, part in {"train": train, "val": val, "test": test}.items():
        inputs = encoder.fit_transform(part) if name == "train" else encoder.transform(part)
        np.save(f"{name}_inputs.npy", inputs.astype(np.float32))
        np.save(f"{name}_targets.npy", part["target"].to_numpy(np.float32))
    print(peak())


def floor() -> None:
    import hashlib
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow as pa
    import pyarrow.csv

    from src.data import csv, table

    def write(rows: int) -> None:
        digest, piece = hashlib.sha256(), bytes(WIDTH * 4096)
        with Path("floor").open("wb") as file:
            for _ in range(rows // 4096):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    source = Path("table.csv")
    names = source.open(encoding="utf-8").readline().strip().split(",")
    options = pyarrow.csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False)  # a row of each chunk less
    chunks = (pa.BufferReader(chunk) for chunk in csv._chunks(source, "utf-8"))
    rows = sum(len(part) for part in table.in_order(lambda chunk: pyarrow.csv.read_csv(chunk, options), chunks))
    with ThreadPoolExecutor() as pool:
        for done in (pool.submit(files.sha256, source), pool.submit(write, rows)):
            done.result()
    print(peak())


def peak() -> float:
    """Largest resident set so far, MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


RUNS = {"loopline": loopline, "pandas_sklearn": pandas_sklearn, "floor": floor}


if __name__ == "__main__":
    main()
