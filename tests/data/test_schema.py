import json
from pathlib import Path

import pytest

from src import paths
from src.data import schema as schemas
from src.data.prepare import prepare
from src.data.schema import Categorical, Numeric, Pixels, Schema, Target
from src.errors import InputError
from src.params import Params, changed

COLUMNS = [
    Numeric(name="a", mean=0.1 + 0.2, std=1 / 3, low=-0.1, high=1 / 7, indicator=True),
    Categorical(name="b", categories=["1", "ü", ""], indicator=False),
    Pixels(names=["p", "q"], mean=-1e-30, std=1e30),
]


def example(**changes):
    facts = {
        "source": "data/raw/mine.csv",
        "source_sha256": "0" * 64,
        "task": "classification",
        "target": Target(name="y", classes=[1, 2]),
        "columns": COLUMNS,
        "shape": (1, 2, 3),
        "outputs": 2,
        "rows": {"train": 3, "val": 2, "test": 1},
        "dropped": {"missing target": 4},
        "files": {"train": "a", "val": "b", "test": "c"},
        "digest": "d",
        "made_with": {"seed": 0, "fractions": {"train": 0.7}},
    }
    return Schema(**{**facts, **changes})


@pytest.mark.parametrize("classes", [[1, 2], ["1", "2"], [-3, 10**30], None])
def test_a_schema_survives_json(classes):
    schema = example(target=Target(name="y", classes=classes, offset=1 / 3, scale=1e-7))
    text = json.dumps(schema.model_dump(mode="json"))
    assert schemas.parse(json.loads(text), paths.SCHEMA) == schema
    assert [type(column) for column in schema.columns] == [Numeric, Categorical, Pixels]


def test_the_file_of_prepared_data_is_its_schema(workspace):
    assert prepare(changed(Params(), {"prepare.source": "wine"})) == schemas.load()


@pytest.mark.parametrize(("source", "title"), [("digits", "digits"), ("data/raw/mine.csv", "mine")])
def test_the_title_is_short(source, title):
    assert example(source=source).title == title


def test_a_missing_schema_is_told_with_the_way_out(workspace):
    with pytest.raises(InputError, match=r"schema.json is missing. Make it with: dvc repro"):
        schemas.load()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_told(workspace, content):
    Path("schema.json").write_bytes(content)
    with pytest.raises(InputError, match=r"schema.json is not valid JSON"):
        schemas.load(Path("schema.json"))


def broken(**changes):
    return {**example().model_dump(mode="json"), **changes}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([], ""),
        ({key: value for key, value in broken().items() if key != "digest"}, "digest"),
        (broken(more=1), "more"),
        (broken(columns=[{"kind": "text", "name": "a"}]), "columns.0"),
        (broken(columns=[{"kind": "numeric", "name": "a", "mean": 0.0, "std": 1.0}]), "columns.0.numeric.indicator"),
        (broken(rows={"train": 1, "dev": 2}), "rows.dev"),
    ],
)
def test_a_file_that_is_no_schema_is_told_with_the_place(values, place):
    with pytest.raises(InputError, match=rf"schema.json is no schema of prepared data: {place}.*: .*Run: dvc repro"):
        schemas.parse(values, paths.SCHEMA)


def test_a_schema_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        example().digest = "e"
