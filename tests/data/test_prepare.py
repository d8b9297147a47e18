import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from src import paths
from src.data import encoding, prepared, sources
from src.data import schema as schemas
from src.data.prepare import is_current, prepare
from src.data.schema import SPLITS, Pixels
from src.data.sources import SOURCES
from src.errors import InputError
from src.params import Params, changed
from src.sections import Prepare

ROOT = Path(__file__).parents[2]


def settings(source="mine.csv", target="y", task="classification", **values):
    return changed(Params(), {"prepare.source": source, "prepare.target": target, "task": task, **values})


def read(source, target):
    return sources.read(Prepare(source=source, target=target))


def write(text):
    Path("mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


def mixed(rows=60):
    """A table with numbers, categories and gaps, a class to predict and a number to predict."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": draw.normal(170, 10, rows).round(2),
            "colour": draw.choice(["red", "green", "blue"], rows),
            "age": draw.integers(1, 90, rows).astype(float),
            "y": draw.choice(["no", "yes"], rows),
            "price": draw.normal(50, 20, rows).round(2),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[::5, "colour"] = None
    return frame


def load_all():
    schema = schemas.load()
    return schema, {name: prepared.load(name, schema) for name in SPLITS}


@pytest.mark.parametrize("source", SOURCES)
def test_a_bundled_set_is_prepared_whole(workspace, source):
    raw = read(source, None)
    task = "regression" if raw.frame[raw.target].nunique() > 20 else "classification"
    prepare(settings(source, None, task))
    schema, splits = load_all()
    assert sum(schema.rows.values()) == len(raw.frame)
    for name, split in splits.items():
        assert split.inputs.shape == (schema.rows[name], *schema.shape)
        assert split.inputs.dtype == torch.float32
        assert split.inputs.isfinite().all()
        assert split.targets.shape == split.rows.shape == (schema.rows[name],)
        assert split.targets.dtype == (torch.int64 if task == "classification" else torch.float32)
    train = splits["train"].inputs
    assert train.mean().item() == pytest.approx(0, abs=1e-4)
    assert train.std().item() == pytest.approx(1, abs=0.02)
    assert schema.shape == (raw.shape or (raw.frame.shape[1] - 1,))
    assert schema.outputs == (raw.frame[raw.target].nunique() if task == "classification" else 1)


@pytest.mark.parametrize(
    ("source", "task"),
    [("digits", "classification"), ("wine", "classification"), ("breast_cancer", "binary"), ("diabetes", "regression")],
)
def test_a_bundled_set_fits_its_task(prepared_data, source, task):
    params, data = prepared_data(source, task)
    assert data.schema.source == source == params.prepare.source
    assert len(data.train.targets) > len(data.val.targets) > 20


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("a,y\n1,0.5\n2,1.5\n3,2.5\n", "classification", r"'y' holds decimals such as 0.5"),
        ("a,y\n" + "1,x\n2,y\n3,z\n" * 3, "binary", r"'y' has 3 classes; task binary needs 2"),
        ("a,y\n" + "1,x\n2,y\n" * 3, "regression", r"'y' holds text such as 'x'"),
        ("a,y\n" + "1,x\n" * 9, "classification", r"'y' has one value only \('x'\)"),
        ("a,y\n" + "1,x\n" * 9, "binary", r"'y' has one value only \('x'\)"),
        ("a,y\n1,2\n2,2\n3,2\n4,2\n", "regression", r"'y' has one value only \(2\)"),
        ("a,y\n" + "1,x\n2,y\n" * 3 + "3,z\n", "classification", r"class 'z' has 1 row; train, val and test need one"),
        ("a,y\n1,2\n3,4\n", "regression", r"2 rows cannot be divided"),
        ("a,y\n1,\n3,\n", "regression", r"prepare.target 'y' is missing in every row of mine.csv"),
        ("a,b,y\n" + "1,,x\n2,,y\n" * 3, "classification", r"column 'b' is missing in every row: delete it, or"),
        ("a,y\n1,\n" + "1,2\n5,3\n" * 3 + "inf,3\n", "regression", r"column 'a', row 8: 'inf' is not a finite number"),
        ("a,y\n1,2\n5,inf\n3,4\n", "regression", r"column 'y', row 2: 'inf' is not a finite number"),
        ("a,y\n", "regression", r"'mine.csv' has no rows"),
        ("", "regression", r"mine.csv is empty"),
        ("a,y\n1,2\n1,2,3\n", "regression", r"mine.csv is not a well-formed CSV file"),
        ("a,y\n1,2\n3".encode("utf-16")[:-1], "classification", r"mine.csv is not utf-16 throughout"),
        ("y\n1\n2\n3\n", "regression", r"mine.csv has no column but the target 'y'"),
        ("a,yy\n1,2\n", "regression", r"'y' is no column of mine.csv. Did you mean yy\?"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused_and_nothing_is_written(workspace, text, task, message):
    write(text)
    with pytest.raises(InputError, match=message):
        prepare(settings(task=task))
    assert [path.name for path in workspace.iterdir()] == ["mine.csv"]


def test_a_column_with_decimal_commas_and_words_for_missing_values_is_numbers(workspace):
    draw = np.random.default_rng(0)
    sizes = [f"{value:.2f}".replace(".", ",") for value in draw.normal(170, 10, 60)]
    sizes[::7] = ["?"] * len(sizes[::7])
    write("size;y\n" + "".join(f"{size};{draw.choice(['no', 'yes'])}\n" for size in sizes))
    prepare(settings())
    column = schemas.load().columns[0]
    assert column.kind == "numeric"
    assert 150 < column.mean < 190


def test_a_fault_leaves_earlier_prepared_data_as_it_was(workspace):
    prepare(settings("wine", None))
    before = {path.name: path.read_bytes() for path in paths.PREPARED.iterdir()}
    with pytest.raises(InputError):
        prepare(settings("wine", None, "binary"))
    assert {path.name: path.read_bytes() for path in paths.PREPARED.iterdir()} == before


def test_rows_without_a_target_are_dropped_and_counted(workspace):
    frame = mixed()
    frame.loc[[3, 4, 50], "y"] = None
    frame.to_csv("mine.csv", index=False)
    schema = prepare(settings())
    assert schema.dropped == {"missing target": 3}
    assert sum(schema.rows.values()) == 57
    _, splits = load_all()
    rows = torch.cat([split.rows for split in splits.values()])
    assert sorted(rows.tolist()) == [row for row in range(60) if row not in (3, 4, 50)]
    for split in splits.values():
        classes = [schema.target.classes[int(number)] for number in split.targets]
        assert classes == frame["y"].iloc[split.rows.tolist()].tolist()


def test_each_class_is_in_each_split_in_its_share(workspace):
    schema = prepare(settings("breast_cancer", None, "binary"))
    _, splits = load_all()
    shares = [split.targets.mean().item() for split in splits.values()]
    assert schema.target.classes == ["benign", "malignant"]
    assert shares == pytest.approx([212 / 569] * 3, abs=0.01)


def test_what_is_learned_comes_from_training_rows_alone(workspace):
    frame = mixed()
    frame.to_csv("mine.csv", index=False)
    before = prepare(settings(target="price", task="regression"))
    _, splits = load_all()
    others = splits["val"].rows.tolist() + splits["test"].rows.tolist()
    frame.loc[others, "size"] *= 100
    frame.loc[others, "price"] -= 1000
    frame.loc[others, "age"] = np.nan
    frame.loc[others, "colour"] = "ultraviolet"
    frame.to_csv("mine.csv", index=False)
    after = prepare(settings(target="price", task="regression"))
    _, changed_splits = load_all()
    assert after.columns == before.columns
    assert after.target == before.target
    for one, two in zip(splits["train"], changed_splits["train"], strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(splits["val"].inputs, changed_splits["val"].inputs)
    assert not torch.equal(splits["test"].targets, changed_splits["test"].targets)


def test_changing_a_training_row_changes_what_is_learned(workspace):
    frame = mixed()
    frame.to_csv("mine.csv", index=False)
    before = prepare(settings())
    _, splits = load_all()
    frame.loc[splits["train"].rows.tolist()[:5], "size"] *= 2
    frame.to_csv("mine.csv", index=False)
    after = prepare(settings())
    assert after.columns[0] != before.columns[0]
    assert after.digest != before.digest


@pytest.mark.parametrize(("source", "task"), [("diabetes", "regression"), ("diabetes", "robust_regression")])
@pytest.mark.parametrize("transform", ["standardize", "none", "log1p"])
def test_regression_targets_lead_back_to_their_own_unit(workspace, source, task, transform):
    schema = prepare(settings(source, None, task, **{"prepare.target_transform": transform}))
    wanted = read(source, None).frame["target"].to_numpy()
    _, splits = load_all()
    for split in splits.values():
        found = schema.target.in_unit(split.targets).numpy()
        assert found == pytest.approx(wanted[split.rows.numpy()], rel=1e-5)
    train = splits["train"].targets
    if transform != "none":
        assert train.mean().item() == pytest.approx(0, abs=1e-5)
        assert train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    else:
        assert train.mean() > 100


@pytest.mark.parametrize("source", ["digits", "wine", "mine.csv"])
def test_the_schema_file_alone_encodes_raw_rows(workspace, source):
    mixed().to_csv("mine.csv", index=False)
    prepare(settings(source, "y" if source == "mine.csv" else None))
    frame = read("mine.csv", "y").frame if source == "mine.csv" else SOURCES[source]().frame
    schema, splits = load_all()
    for split in splits.values():
        inputs = encoding.encode(frame.iloc[split.rows.tolist()], schema.columns).reshape(-1, *schema.shape)
        assert np.array_equal(inputs, split.inputs.numpy())


def test_the_seed_decides_the_splits(workspace):
    rows = []
    for seed in (0, 0, 1):
        schema = prepare(settings("wine", None, seed=seed))
        rows.append((prepared.load("train", schema).rows.tolist(), schema.digest))
    assert rows[0] == rows[1]
    assert rows[0][0] != rows[2][0]
    assert rows[0][1] != rows[2][1]


def test_fractions_decide_the_sizes(workspace):
    fractions = {"train": 0.5, "val": 0.25, "test": 0.25}
    schema = prepare(settings("diabetes", None, "regression", **{"prepare.fractions": fractions}))
    assert schema.rows == {"train": 221, "val": 111, "test": 110}


def test_the_same_data_gives_the_same_bytes(workspace):
    mixed().to_csv("mine.csv", index=False)
    for folder in ("one", "two"):
        prepare(settings(), Path(folder))
    names = sorted(path.name for path in Path("one").iterdir())
    assert names == sorted(["schema.json", "train.safetensors", "val.safetensors", "test.safetensors"])
    for name in names:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_files_are_safetensors_and_strict_json(workspace):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    mixed().to_csv("mine.csv", index=False)
    prepare(settings())
    for path in paths.PREPARED.iterdir():
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                assert set(file.keys()) == {"inputs", "targets", "rows"}
        else:
            json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize("name", ["row", "index", "level_0", "0", "", "target", "inputs"])
def test_a_feature_may_have_any_name(workspace, name):
    mixed().rename(columns={"size": name}).to_csv("mine.csv", index=False)
    schema = prepare(settings())
    assert schema.columns[0].name == (name or "Unnamed: 0")


def test_a_pixel_as_target_makes_the_digits_a_table(workspace):
    schema = prepare(settings("digits", "pixel_3_3", "regression"))
    assert schema.shape == (61,)
    assert schema.ignored == dict.fromkeys(("pixel_0_0", "pixel_4_0", "pixel_4_7"), "one value only")
    assert not any(isinstance(column, Pixels) for column in schema.columns)


def test_prepared_data_is_current_until_params_source_or_files_change(workspace):
    mixed().to_csv("mine.csv", index=False)
    params = settings()
    assert not is_current(params)
    prepare(params)
    assert is_current(params)
    assert is_current(changed(params, {"train.lr": 0.5, "model.name": "linear"}))
    for key, value in {"seed": 1, "task": "binary", "prepare.target": "colour", "prepare.source": "wine"}.items():
        assert not is_current(changed(params, {key: value}))
    text = Path("mine.csv").read_text()
    Path("mine.csv").write_text(text.replace("red", "pink"))
    assert not is_current(params)
    Path("mine.csv").write_text(text)
    assert is_current(params)
    prepared.path_of(paths.PREPARED, "val").unlink()
    assert not is_current(params)


def run_stage():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.prepare"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_stage_says_what_it_made(workspace):
    frame = mixed()
    frame.loc[0, "y"] = None
    frame.to_csv("mine.csv", index=False)
    Path("params.yaml").write_text("task: binary\nprepare: {source: mine.csv, target: y}\n")
    run = run_stage()
    rows = schemas.load().rows
    assert run.returncode == 0
    assert run.stderr.startswith("DVC does not watch mine.csv")
    assert f"\nprepared mine: {rows['train']} train, {rows['val']} val, {rows['test']} test" in run.stderr
    assert "; 1 dropped (missing target); one input has shape [8]" in run.stderr
    assert math.isclose(rows["train"] / 59, 0.7, abs_tol=0.02)


def test_the_stage_exits_with_2_and_no_traceback(workspace):
    Path("params.yaml").write_text("prepare: {source: yours.csv}\n")
    run = run_stage()
    assert run.returncode == 2
    assert run.stderr.startswith("error: prepare.source = 'yours.csv' is neither a file nor a bundled set")
    assert "Traceback" not in run.stderr
    assert [path.name for path in workspace.iterdir()] == ["params.yaml"]


def test_columns_of_every_kind_are_prepared_and_what_is_not_used_is_told(workspace, capsys):
    frame = mixed(90)
    frame["id"] = range(90)
    frame["member"] = ["yes", "no", None] * 30
    frame["day"] = pd.date_range("2020-01-01", periods=90).strftime("%d.%m.%Y")
    frame["zip"] = [10115, 80331, 20095] * 30
    frame["grade"] = ["low", "high", "mid"] * 30
    frame["same"] = 1
    frame["note"] = [f"number {index} of them" for index in range(90)]
    frame.to_csv("mine.csv", index=False)
    wanted = {"zip": "categorical", "grade": ["low", "mid", "high"], "note": "text", "price": "ignore"}
    schema = prepare(settings(task="auto", **{"prepare.columns": wanted}))
    assert schema.task == "binary"
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds == {
        "size": "numeric",
        "colour": "categorical",
        "age": "numeric",
        "member": "boolean",
        "day": "datetime",
        "zip": "categorical",
        "grade": "ordinal",
        "note": "text",
    }
    assert schema.ignored == {"price": "prepare.columns says so", "id": "an id", "same": "one value only"}
    _, splits = load_all()
    assert all(split.inputs.isfinite().all() for split in splits.values())
    told = capsys.readouterr().err
    assert "task: binary, by the target 'y'" in told
    assert "column 'same' is not used: one value only" in told


def test_a_table_of_ids_alone_is_refused(workspace):
    write("id,y\n" + "".join(f"{row},{row % 2}\n" for row in range(40)))
    with pytest.raises(InputError, match=r"mine.csv has no column to predict from \(id: an id\)"):
        prepare(settings())


def test_infinite_numbers_may_be_missing_ones(workspace):
    write("a,y\n" + "1,2\n5,3\n-inf,4\n" * 5)
    with pytest.raises(InputError, match="is not a finite number"):
        prepare(settings(task="regression"))
    schema = prepare(settings(task="regression", **{"prepare.infinite": "missing"}))
    assert schema.columns[0].indicator


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", "c"] * 10, "classification"),
        (["a", "b"] * 10, "binary"),
        ([0, 1] * 10, "binary"),
        ([1, 2, 3] * 10, "classification"),
        ([0.5, 1.0] * 10, "regression"),
        (list(range(30)), "regression"),
        ([1, 2] * 10 + [3], "regression"),
    ],
)
def test_the_task_is_inferred_from_the_target(workspace, values, task):
    pd.DataFrame({"a": np.linspace(0, 1, len(values)), "y": values}).to_csv("mine.csv", index=False)
    assert prepare(settings(task="auto")).task == task


def test_a_target_without_a_logarithm_is_refused(workspace):
    write("a,y\n" + "1,2\n5,3\n7,-1\n" * 5)
    with pytest.raises(InputError, match=r"prepare.target 'y', row 3: -1 has no log1p; set prepare.target_transform"):
        prepare(settings(task="regression", **{"prepare.target_transform": "log1p"}))
