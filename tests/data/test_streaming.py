"""Preparation goes through the rows in blocks: nothing of what it makes may depend on how they came."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.data import csv, prepared
from src.data import schema as schemas
from src.data.prepare import prepare
from src.data.table import ROWS
from src.params import Params, changed

ROOT = Path(__file__).parents[2]


def numbers(rows=ROWS + 500):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(rows, 3)).round(4), columns=["x0", "x1", "x2"])
    frame.loc[::50, "x1"] = np.nan
    return frame.assign(target=draw.normal(size=rows).round(4))


def words(frame):
    draw = np.random.default_rng(1)
    days = pd.date_range("2020-01-01", periods=900).strftime("%d/%m/%Y")
    return frame.assign(
        city=draw.choice(["Ulm", "Köln", None, *(f"village {number}" for number in range(100))], len(frame)),
        day=draw.choice(days, len(frame)),
        member=draw.choice(["yes", "no"], len(frame)),
    )


def files(source, **values):
    """SHA-256 of each split, and what was learned."""
    params = {"prepare.source": source, "prepare.target": "target", "task": "regression", **values}
    schema = prepare(changed(Params(), params))
    return schema.files, schema.columns, schema.target


def test_it_makes_no_difference_what_file_the_rows_are_in(workspace):
    frame = numbers()
    frame.to_csv("mine.csv", index=False)
    frame.to_parquet("mine.parquet", row_group_size=10_000)
    frame.to_feather("mine.feather")
    np.savez("mine.npz", x=frame[["x0", "x1", "x2"]].to_numpy(), y=frame["target"].to_numpy())  # whole in memory
    expected = files("mine.csv")
    for source in ("mine.parquet", "mine.feather", "mine.npz"):
        assert files(source) == expected


@pytest.mark.parametrize("split", ["auto", "hash", "time", "group"])
def test_it_makes_no_difference_how_much_is_read_at_once(workspace, monkeypatch, split):
    frame = words(numbers())
    frame.to_csv("mine.csv", index=False)
    frame.to_parquet("mine.parquet", row_group_size=999)
    column = {"auto": None, "hash": "x0", "time": "day", "group": "city"}[split]
    values = {"prepare.split": split, "prepare.split_column": column}
    expected = files("mine.csv", **values)
    assert files("mine.parquet", **values) == expected
    monkeypatch.setattr(csv, "CHUNK", 100_000)
    assert files("mine.csv", **values) == expected


def test_by_hash_the_order_of_the_rows_makes_no_difference(workspace):
    frame = words(numbers())
    kept = []
    for order in (frame, frame.iloc[::-1]):
        order.to_csv("mine.csv", index=False)
        _, columns, _ = files("mine.csv", **{"prepare.split": "hash", "prepare.split_column": "x0"})
        schema = schemas.load()
        rows = [order.iloc[prepared.load(name, schema).rows.numpy()] for name in ("train", "val", "test")]
        kept.append(([set(part.index) for part in rows], columns))
    assert kept[0][0] == kept[1][0]
    for one, other in zip(kept[0][1], kept[1][1], strict=True):
        given = [column.model_dump() for column in (one, other)]
        for key in ("mean", "std"):
            pair = [np.array(values.pop(key, 0)) for values in given]
            assert pair[0] == pytest.approx(pair[1])
        assert given[0] == given[1]


def test_a_full_disk_leaves_earlier_prepared_data_as_it_was(workspace):
    numbers(2000).to_csv("mine.csv", index=False)
    params = "prepare: {source: mine.csv, target: target}\ntask: regression\n"
    Path("params.yaml").write_text(params, encoding="utf-8")
    command = [sys.executable, "-m", "stages.prepare"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    before = {path: path.read_bytes() for path in Path("data/prepared").iterdir()}
    words(numbers(20_000)).to_csv("mine.csv", index=False)
    for limit in (100_000, 2_000_000):  # bytes of a file: while the rows are read, and while they are written
        ended = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.count("error: there is no room left to write data/prepared") == 1
        assert "Traceback" not in ended.stderr
        assert {path: path.read_bytes() for path in Path("data/prepared").iterdir()} == before
