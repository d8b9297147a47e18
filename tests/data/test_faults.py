"""A fault of each kind, planted: every one is found, and told in one message with what, where and what to do."""

import gzip
import io
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.data import sources
from src.data.prepare import prepare
from src.data.report import write as report
from src.errors import InputError
from src.params import Params, changed
from src.sections import Prepare

DRAW = np.random.default_rng(0)
GOOD = pd.DataFrame(
    {"a": DRAW.normal(size=60).round(3), "b": DRAW.choice(["x", "y"], 60), "y": DRAW.choice([0, 1], 60)}
)


def bytes_of(function, *args, **kwargs):
    content = io.BytesIO()
    function(content, *args, **kwargs)
    return content.getvalue()


def idx(array):
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def png(mode="L", size=(6, 6)):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, len(mode)), np.uint8)
    return bytes_of(Image.fromarray(pixels.squeeze()).save, "PNG")


IMAGES, LABELS = DRAW.integers(0, 256, (30, 6, 6), np.uint8), np.arange(30, dtype=np.uint8) % 3
PARQUET, FEATHER = bytes_of(GOOD.to_parquet), bytes_of(GOOD.to_feather)
NPZ = bytes_of(np.savez, x=GOOD[["a"]].to_numpy(), y=GOOD["y"].to_numpy())
JSONL = GOOD.to_json(orient="records", lines=True).encode()
CSV = GOOD.to_csv(index=False)

# what is planted (file → content), the params, and what must be told
FAULTS = {
    "no such file": ({}, {}, "prepare.source = 'mine.csv' is neither a file nor a bundled set"),
    "empty": ({"mine.csv": b""}, {}, "mine.csv is empty"),
    "a header alone": ({"mine.csv": "a,b,y\n"}, {}, "prepare.source = 'mine.csv' has no rows"),
    "no header": ({"mine.csv": "1,2,3\n4,5,6\n"}, {}, "mine.csv has no header: its first line holds numbers only"),
    "blank lines alone": ({"mine.csv": "\n\n"}, {}, "mine.csv is empty"),
    "a short row": (
        {"mine.csv": CSV + "1,2\n"},
        {},
        "not a well-formed CSV file: line 62: Expected 3 columns, got 2: ",
    ),
    "a long row": ({"mine.csv": CSV + "1,2,3,4\n"}, {}, "line 62: Expected 3 columns, got 4: 1,2,3,4$"),
    "a long first row": ({"mine.csv": "a,y\n1,2,3\n4,5,6\n"}, {}, "line 2: Expected 2 columns, got 3: 1,2,3"),
    "an open quote": ({"mine.csv": CSV + '1,"x,0\n'}, {}, "line 62: Expected 3 columns, got 2"),
    "an open quote at the end": ({"mine.csv": 'a,y\n1,"2\n'}, {}, "mine.csv ends inside a quoted value of column 'y'"),
    "no known encoding": ({"mine.csv": b"a,y\n1,2\n3,\x81\n"}, {}, "mine.csv is not cp1252 throughout .*: save it as"),
    "two columns of a name": ({"mine.csv": "a,a,y\n1,2,0\n"}, {}, "mine.csv has two columns of the name 'a'"),
    "no text": ({"mine.csv": b"PK\x03\x04\0\0"}, {}, "mine.csv is no text file: set prepare.format"),
    "cut gzip": ({"mine.csv.gz": gzip.compress(CSV.encode())[:90]}, {}, "mine.csv.gz (cannot be read|is not)"),
    "not what it is called": ({"mine.parquet": CSV}, {}, "mine.parquet is not a Parquet file that can be read"),
    "cut Parquet": ({"mine.parquet": PARQUET[:-20]}, {}, "mine.parquet is not a Parquet file that can be read"),
    "cut Feather": ({"mine.feather": FEATHER[:-20]}, {}, "mine.feather is not a Feather file that can be read"),
    "broken JSON": ({"mine.jsonl": JSONL + b'{"a": 1,'}, {}, "mine.jsonl is not a JSON Lines file that can be read"),
    "cut NPZ": ({"mine.npz": NPZ[:-20]}, {}, "mine.npz is not an NPZ file that can be read"),
    "an unknown name": ({"mine.bin": b"x"}, {}, "mine.bin: the format cannot be told from the name. Known are"),
    "no such column": ({"mine.csv": CSV}, {"target": "yy"}, "prepare.target = 'yy' is no column of mine.csv. Did you"),
    "no column like it": ({"mine.csv": CSV}, {"target": "zzz"}, "'zzz' is no column of mine.csv. It has: a, b, y$"),
    "no target": ({"mine.csv": CSV}, {"target": None}, "prepare.target must name the column to predict"),
    "nothing to learn from": ({"mine.csv": "y\n0\n1\n"}, {}, "mine.csv has no column but the target 'y'"),
    "ids alone": (
        {"mine.csv": "id,y\n" + "".join(f"{n},{n % 2}\n" for n in range(30))},
        {},
        "no column to predict from",
    ),
    "one class": ({"mine.csv": "a,y\n1,0\n2,0\n3,0\n"}, {}, r"'y' has one value only \(0\)"),
    "a class of one row": ({"mine.csv": CSV + "1,x,7\n"}, {}, "class 7 has 1 row; train, val and test need one each"),
    "no row with a target": ({"mine.csv": "a,y\n1,\n2,\n"}, {}, "'y' is missing in every row of mine.csv"),
    "too few rows": ({"mine.csv": "a,y\n1,0.5\n2,1.5\n"}, {"task": "regression"}, "2 rows cannot be divided"),
    "an empty column": ({"mine.csv": "a,b,y\n1,,0\n2,,1\n"}, {}, "column 'b' is missing in every row: delete it"),
    "an infinite number": ({"mine.csv": CSV + "inf,x,0\n"}, {}, "column 'a', row 61: 'inf' is not a finite number"),
    "a number as text": (
        {"mine.csv": "a;y\n" + "".join(f"{n},000.50 €;{n % 2}\n" for n in range(30))},
        {},
        "column 'a', row 1: '0,000.50 €' is a number written as text",
    ),
    "no date": ({"mine.csv": CSV}, {"columns": {"b": "datetime"}}, "column 'b' holds no dates of one format"),
    "neither yes nor no": (
        {"mine.csv": CSV},
        {"columns": {"b": "boolean"}},
        "column 'b', row 2: 'x' is neither yes nor",
    ),
    "not in the order": ({"mine.csv": CSV}, {"columns": {"b": ["x", "z"]}}, "'y' is none of x, z .prepare.columns.b."),
    "words as numbers": ({"mine.csv": CSV}, {"columns": {"b": "numeric"}}, "column 'b', row 1: 'y' is not a finite"),
    "an unknown column": ({"mine.csv": CSV}, {"columns": {"c": "ignore"}}, "prepare.columns.c is no column"),
    "decimals as classes": ({"mine.csv": CSV}, {"target": "a"}, "'a' holds decimals such as .* set task: regression"),
    "words as a number": ({"mine.csv": CSV}, {"target": "b", "task": "regression"}, "'b' holds text such as '.'"),
    "no such split": ({"mine.csv": CSV}, {"split": "given", "split_column": "b"}, "'b', row 1: '.' is no split: use"),
    "no query's database": ({"mine.sql": "select 1"}, {}, "mine.sql is a query: set prepare.url to its database"),
    "a broken query": (
        {"mine.sql": "selekt 1", "some.db": b""},
        {"url": "sqlite:///some.db"},
        "the query in mine.sql cannot be run at sqlite:///some.db: .*syntax error",
    ),
    "a password in the file": ({"mine.sql": "x"}, {"url": "postgresql://me:secret@host/db"}, "must hold no password"),
    "a wrong magic number": (
        {"mnist/train-images-idx3-ubyte": b"\x12" + idx(IMAGES)[1:], "mnist/train-labels-idx1-ubyte": idx(LABELS)},
        {},
        "train-images-idx3-ubyte is no IDX file: it does not begin with the format's magic number",
    ),
    "cut images": (
        {"mnist/train-images-idx3-ubyte": idx(IMAGES)[:-1], "mnist/train-labels-idx1-ubyte": idx(LABELS)},
        {},
        "train-images-idx3-ubyte is cut or damaged: it has 1095 bytes, its header says 1096",
    ),
    "more labels than images": (
        {"mnist/train-images-idx3-ubyte": idx(IMAGES[1:]), "mnist/train-labels-idx1-ubyte": idx(LABELS)},
        {},
        r"has shape \[29, 6, 6\] and .* \[30\]",
    ),
    "images without labels": ({"mnist/train-images-idx3-ubyte": idx(IMAGES)}, {}, "has no train-labels-idx"),
    "a zero-byte picture": (
        {f"pets/{kind}/{n}.png": png() if n else b"" for kind in ("cat", "dog") for n in range(4)},
        {},
        r"pets/cat/0.png is no picture that can be read .* prepare.on_bad_image: skip",
    ),
    "a cut picture": (
        {f"pets/{kind}/{n}.png": png() if n else png()[:40] for kind in ("cat", "dog") for n in range(4)},
        {},
        "pets/cat/0.png is no picture that can be read",
    ),
}


def plant(files):
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return next(iter(files), "mine.csv").split("/")[0]


def prepared(source, task="classification", target="y", **values):
    params = {"prepare.source": source, "prepare.target": target, "task": task}
    return prepare(changed(Params(), {**params, **{f"prepare.{name}": value for name, value in values.items()}}))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_is_written(workspace, fault):
    files, values, message = FAULTS[fault]
    source = plant(files)
    values = {"target": None, **values} if source in ("mnist", "pets") else values
    with pytest.raises(InputError, match=message) as caught:
        prepared(source, **values)
    assert "\n" not in str(caught.value)
    assert not Path("data/prepared").exists()


def test_an_empty_database_table_is_found(workspace):
    with closing(sqlite3.connect("some.db")) as connection:
        connection.execute("create table t (a, y)")
    plant({"mine.sql": "select * from t"})
    with pytest.raises(InputError, match=r"prepare.source = 'mine.sql' has no rows"):
        prepared("mine.sql", url="sqlite:///some.db")


# what is planted in a good table, the params, and the warning that must come
LEAKS = {
    "copies in two splits": (
        lambda table: pd.concat([table, table.iloc[:9]]),
        {"duplicates": "apart"},
        r"[1-9]\d* rows of val and test are also in train",
    ),
    "copies with space around words": (
        lambda table: pd.concat([table, table.iloc[:9].assign(b=lambda rows: " " + rows["b"])]),
        {"duplicates": "apart"},
        r"[1-9]\d* rows of val and test are also in train",
    ),
    "copies by a given division": (
        lambda table: pd.concat([table.assign(part="train"), table.iloc[:9].assign(part="test")]),
        {"split": "given", "split_column": "part"},
        "9 rows of val and test are also in train",
    ),
    "contradictions": (
        lambda table: pd.concat([table, table.iloc[:4].assign(y=lambda rows: 1 - rows["y"])]),
        {},
        "8 rows have the same values as another, and another target",
    ),
    "the target under another name": (
        lambda table: table.assign(outcome=np.where(table["y"] == 1, "paid", "due")),
        {},
        "'outcome' alone predicts the target almost perfectly",
    ),
    "drift over time": (
        lambda table: table.assign(day=pd.date_range("2020-01-01", periods=len(table)).strftime("%Y-%m-%d")),
        {"split": "time", "split_column": "day"},
        "'day' is distributed otherwise in val or test than in train",
    ),
    "a rare class": (
        lambda table: table.assign(y=(np.arange(len(table)) % 30 == 0).astype(int)),
        {},
        "class '1' has .* training rows: see train.class_weights",
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_told(workspace, leak):
    plant_it, values, message = LEAKS[leak]
    draw = np.random.default_rng(0)
    good = pd.DataFrame({"a": draw.normal(size=300), "b": draw.choice(["x", "y"], 300), "y": draw.choice([0, 1], 300)})
    good.to_csv("mine.csv", index=False)
    before = report(prepared("mine.csv"))
    assert before == []
    plant_it(good).to_csv("mine.csv", index=False)
    lines = report(prepared("mine.csv", **values))
    assert [line for line in lines if pd.Series([line]).str.contains(message).all()], lines


VALID = {
    "fuzz.parquet": PARQUET,
    "fuzz.feather": FEATHER,
    "fuzz.npz": NPZ,
    "fuzz.jsonl": JSONL[:400],
    "mnist/train-images-idx3-ubyte": idx(IMAGES[:9]),
    "pets/cat/0.png": png(),
}


@pytest.mark.parametrize("name", VALID)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused_in_one_message(tmp_path_factory, name, data):
    content = bytearray(VALID[name])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if name.startswith("mnist"):
        (path.parent / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:9]))
    source = str(folder / name.split("/")[0])
    target = None if "/" in name else "y"
    message, rows = "", 0
    try:
        table = sources.read(Prepare(source=source, target=target)).table
        rows = sum(map(len, table.blocks()))
    except InputError as error:
        message = str(error)
    assert bool(rows) != bool(message)
    assert "\n" not in message
