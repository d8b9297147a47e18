from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.data import prepared
from src.data.prepare import prepare
from src.data.schema import SPLITS
from src.errors import InputError
from src.params import Params, changed


def table(rows=120):
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": draw.normal(size=rows).round(6),
            "patient": draw.integers(0, 25, rows),
            "day": pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d")[draw.permutation(rows)],
            "part": draw.choice(["train", "val", "test"], rows, p=[0.6, 0.2, 0.2]),
            "y": draw.choice(["no", "yes"], rows),
        }
    )


def splits(frame, target="y", task="auto", **values):
    """(schema, rows of each split as a frame)."""
    frame.to_csv("mine.csv", index=False)
    wanted = {"prepare.source": "mine.csv", "prepare.target": target, "task": task}
    schema = prepare(changed(Params(), {**wanted, **{f"prepare.{key}": value for key, value in values.items()}}))
    rows = [prepared.load(name, schema).rows.tolist() for name in SPLITS]
    assert sorted(np.concatenate(rows)) == list(range(len(frame)))
    return schema, [frame.iloc[part] for part in rows]


def test_by_group(workspace):
    schema, (train, val, test) = splits(table(), split="group", split_column="patient")
    assert not set(train["patient"]) & set(val["patient"]) | set(test["patient"]) & set(train["patient"])
    assert schema.ignored == {"patient": "prepare.split_column"}
    assert len(train) == pytest.approx(84, abs=8)


def test_ids_that_training_rows_have_too_are_counted(workspace):
    frame = table(600).rename(columns={"patient": "patient_id"})
    schema, (train, val, test) = splits(frame, split="random")
    crossing = sum(part["patient_id"].isin(train["patient_id"]).sum() for part in (val, test))
    assert schema.notes == [
        f"{crossing} of the 180 rows of val and test have a 'patient_id' that training rows have too. If those of one "
        "belong together: prepare.split: group, prepare.split_column: patient_id"
    ]
    assert splits(frame, split="group", split_column="patient_id")[0].notes == []


@pytest.mark.parametrize("ids", [range(120), [1, 2, 3, 4] * 30])
def test_ids_of_one_row_each_and_of_few_values_are_no_groups(workspace, ids):
    assert splits(table().assign(shop_id=[*ids]), split="random")[0].notes == []


def test_by_time(workspace):
    schema, (train, val, test) = splits(table(), split="time", split_column="day")
    assert train["day"].max() < val["day"].min() <= val["day"].max() < test["day"].min()
    assert "day" in {column.name for column in schema.columns}


def test_by_hash_rows_stay_where_they_are(workspace):
    _, before = splits(table().iloc[:80], split="hash", split_column="a")
    _, after = splits(table().iloc[::-1], split="hash", split_column="a")
    for one, two in zip(before, after, strict=True):
        assert set(one["a"]) <= set(two["a"])


def test_as_given(workspace):
    _, parts = splits(table(), split="given", split_column="part")
    assert [part["part"].unique().tolist() for part in parts] == [["train"], ["val"], ["test"]]


def test_at_random(workspace):
    _, parts = splits(table(), split="random")
    assert [len(part) for part in parts] == [84, 18, 18]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "group", "split_column": "doctor"}, r"prepare.split_column = 'doctor' is no column. There are: a, "),
        ({"split": "group"}, r"prepare.split = 'group' needs a column: set prepare.split_column"),
        ({"split_column": "day"}, r"prepare.split = 'auto' uses no column: unset prepare.split_column"),
        ({"split": "stratified", "target": "a"}, r"'stratified' needs classes, and the target is a number: use random"),
        ({"split": "given", "split_column": "y", "target": "part"}, r"prepare.split_column 'y', row 1: .* is no split"),
    ],
)
def test_what_does_not_fit_is_refused(workspace, values, message):
    with pytest.raises(InputError, match=message):
        splits(table(), **values)


def test_a_class_that_is_not_in_train_is_refused(workspace):
    frame = table()
    frame.loc[frame["part"] == "test", "y"] = "perhaps"
    with pytest.raises(InputError, match=r"class 'perhaps' has no row to train on. Choose another prepare.split"):
        splits(frame, split="given", split_column="part")


def test_identical_rows_are_in_one_split_and_told(workspace, capsys):
    frame = pd.concat([table(), table().iloc[:15]], ignore_index=True)
    for task, target in (("auto", "y"), ("regression", "a")):
        _, parts = splits(frame, target, task)
        seen = [set(part["a"]) for part in parts]
        assert len(set.union(*seen)) == sum(map(len, seen))
        assert "15 rows repeat an earlier one: identical rows are in the same split" in capsys.readouterr().err
    splits(frame, duplicates="apart")
    assert "rows of val and test are also in train" in capsys.readouterr().err


def test_where_rows_repeat_all_the_time_they_are_taken_for_different_cases(workspace, capsys):
    frame = pd.concat([table()] * 3, ignore_index=True)
    splits(frame)
    told = capsys.readouterr().err
    assert "240 rows (67%) repeat an earlier one and are taken for different cases" in told
    assert "rows of val and test are also in train" in told
    splits(frame, duplicates="together")
    assert "also in train" not in capsys.readouterr().err


def test_rows_that_contradict_each_other_are_told(workspace, capsys):
    frame = pd.concat([table(), table().iloc[:3].assign(y=lambda rows: rows["y"].map({"no": "yes", "yes": "no"}))])
    splits(frame.reset_index(drop=True))
    assert "6 rows have the same values as another, and another target" in capsys.readouterr().err
    assert Path("data/prepared/schema.json").is_file()
