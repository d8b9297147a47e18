import math
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from src.data import query, sources
from src.data.prepare import prepare
from src.data.sources import SOURCES
from src.errors import InputError
from src.files import sha256
from src.params import Params, changed
from src.sections import Prepare


def read(source, target, **settings):
    return sources.read(Prepare(source=source, target=target, **settings))


def write(text, name="mine.csv"):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("name", SOURCES)
def test_a_bundled_set_is_whole_and_knows_its_target(name):
    raw = read(name, None)
    features = raw.frame.drop(columns=[raw.target])
    assert len(raw.frame) > 50
    assert not raw.frame.isna().any().any()
    assert raw.frame[raw.target].nunique() > 1
    assert raw.shape is None or math.prod(raw.shape) == features.shape[1]
    assert len(raw.sha256) == 64


@pytest.mark.parametrize("name", SOURCES)
def test_a_bundled_set_is_the_same_each_time(name):
    first, second = read(name, None), read(name, None)
    assert_frame_equal(first.frame, second.frame)
    assert first.sha256 == second.sha256


def test_bundled_sets_differ_in_their_digests():
    assert len({SOURCES[name]().sha256 for name in SOURCES}) == len(SOURCES)


def test_classes_of_bundled_sets_have_their_names():
    assert set(read("breast_cancer", None).frame["target"]) == {"malignant", "benign"}
    assert set(read("wine", None).frame["target"]) == {"class_0", "class_1", "class_2"}
    assert set(read("digits", None).frame["target"]) == set(range(10))


def test_pixels_are_an_image_only_while_the_target_is_none_of_them():
    assert read("digits", None).shape == (1, 8, 8)
    assert read("digits", "pixel_3_3").shape is None
    assert read("digits", "pixel_3_3").target == "pixel_3_3"


def test_a_csv_file_is_read_as_it_is(workspace):
    write('name,"size, cm",y\n"a ""b""",1.5,x\nü,,z\n')
    raw = read("mine.csv", "y")
    assert raw.frame.to_dict("list") == {
        "name": ['a "b"', "ü"],
        "size, cm": [1.5, pytest.approx(math.nan, nan_ok=True)],
        "y": ["x", "z"],
    }
    assert (raw.target, raw.shape, raw.sha256) == ("y", None, sha256(Path("mine.csv")))


def test_a_byte_order_mark_is_not_part_of_a_name(workspace):
    write("a,y\n1,2\n".encode("utf-8-sig"))
    assert list(read("mine.csv", "a").frame) == ["a", "y"]


def test_a_path_is_taken_from_the_workspace_then_from_the_root(workspace, tmp_path_factory, monkeypatch, capsys):
    elsewhere = tmp_path_factory.mktemp("temporary")
    write("a,y\n1,2\n")
    monkeypatch.chdir(elsewhere)
    assert read("mine.csv", "y").frame["a"].tolist() == [1]
    assert f"DVC does not watch {workspace / 'mine.csv'}" in capsys.readouterr().err
    write("a,y\n3,4\n")
    assert read("mine.csv", "y").frame["a"].tolist() == [3]


def test_raw_data_that_a_temporary_workspace_lacks_is_not_taken_from_the_root(
    workspace, tmp_path_factory, monkeypatch, capsys
):
    write("a,y\n1,2\n", "data/raw/mine.csv")
    monkeypatch.chdir(tmp_path_factory.mktemp("temporary"))
    with pytest.raises(InputError, match=r"dvc add data/raw/mine\.csv && git add data/raw/mine\.csv\.dvc"):
        read("data/raw/mine.csv", "y")
    write("a,y\n3,4\n", "data/raw/mine.csv")
    assert read("data/raw/mine.csv", "y").frame["a"].tolist() == [3]
    assert not capsys.readouterr().err


def test_find_gives_the_file_of_a_source(workspace):
    write("a,y\n1,2\n")
    assert sources.find("mine.csv") == Path("mine.csv")
    assert sources.find("yours.csv") is None
    assert sources.find("digits") is None
    assert sources.find("") is None


@pytest.mark.parametrize("source", ["yours.csv", "data", "wime"])
def test_a_missing_file_is_told_with_the_bundled_sets(workspace, source):
    Path("data").mkdir()
    with pytest.raises(
        InputError, match=rf"prepare.source = '{source}' is neither a file nor a bundled set \("
    ) as caught:
        read(source, "y")
    assert all(name in str(caught.value) for name in SOURCES)


def test_a_long_list_of_columns_is_cut(workspace):
    write(",".join(f"c{index}" for index in range(50)) + "\n" + ",".join("1" * 50) + "\n")
    with pytest.raises(InputError, match=r"c18, c19 and 30 more$"):
        read("mine.csv", "target")


FRAME = pd.DataFrame({"size": [1.5, None, 3.0], "name": ["a", None, "ü"], "count": [1, 2, 3], "y": ["p", "q", "p"]})
FRAME["day"] = pd.to_datetime(["2020-01-31", "2020-02-01", None])


def write_parts(path):
    path.mkdir()
    FRAME.iloc[:2].to_parquet(path / "part-0.parquet")
    FRAME.iloc[2:].to_parquet(path / "part-1.parquet")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("mine.parquet", FRAME.to_parquet),
        ("mine.feather", FRAME.to_feather),
        ("parts", write_parts),
        ("mine.csv.gz", partial(FRAME.to_csv, index=False)),
        ("mine.tsv", partial(FRAME.to_csv, index=False, sep="\t")),
        ("mine.jsonl", partial(FRAME.to_json, orient="records", lines=True, date_format="iso")),
        ("mine.ndjson.bz2", partial(FRAME.to_json, orient="records", lines=True, date_format="iso")),
    ],
)
def test_a_table_is_the_same_in_every_format(workspace, name, make):
    make(workspace / name)
    frame = read(name, "y").frame
    assert list(frame) == list(FRAME)
    for column in ("size", "name", "count", "y"):
        assert frame[column].isna().tolist() == FRAME[column].isna().tolist(), column
        assert frame[column].dropna().tolist() == FRAME[column].dropna().tolist(), column
    days = pd.to_datetime(frame["day"]).dt.date
    assert days.dropna().tolist() == FRAME["day"].dt.date.dropna().tolist()


@pytest.mark.parametrize("name", ["mine.parquet", "mine.feather", "mine.jsonl", "mine.xlsx"])
@pytest.mark.parametrize("content", [b"", b"no such thing", b"PAR1" + b"\0" * 40, b"{]"])
def test_a_file_that_is_not_what_its_name_says_is_refused(workspace, name, content):
    write(content, name)
    with pytest.raises(InputError, match=rf"^{name} is (not an? .+ file that can be read|an Excel file; reading it)"):
        read(name, "y")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            FRAME[["size", "y"]],
            r"parts/part-2.parquet: all files of a table need the same columns, .* have count, day, na",
        ),
        (FRAME.assign(size="tall"), r"parts is not a Parquet file that can be read: .*size.*string"),
    ],
)
def test_parts_that_do_not_agree_are_refused(workspace, part, message):
    write_parts(Path("parts"))
    part.to_parquet("parts/part-2.parquet")
    with pytest.raises(InputError, match=message):
        read("parts", "y")


def test_parts_may_differ_in_the_width_of_their_numbers(workspace):
    write_parts(Path("parts"))
    FRAME.assign(count=[0.5, 1.5, 2.5]).to_parquet("parts/part-2.parquet")
    assert read("parts", "y").frame["count"].tolist() == [1, 2, 3, 0.5, 1.5, 2.5]


WRITERS = {
    "csv": partial(pd.DataFrame.to_csv, index=False),
    "csv.gz": partial(pd.DataFrame.to_csv, index=False),
    "parquet": pd.DataFrame.to_parquet,
    "feather": pd.DataFrame.to_feather,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_for_each_split_gives_a_table_with_their_names(workspace, suffix):
    Path("mine").mkdir()
    later = pd.DataFrame({"b": ["z", "ä"], "a": [0.5, 2], "y": [1, 0]})  # in another order, of a wider type
    for name, frame in {"Train": pd.DataFrame({"a": [1, 2], "b": ["x", None], "y": [0, 1]}), "test": later}.items():
        WRITERS[suffix](frame, f"mine/{name}.{suffix}")
    raw = read("mine", "y")
    rows = raw.frame
    assert raw.divided
    assert rows["split"].tolist() == ["train", "train", "test", "test"]
    assert rows["a"].tolist() == [1, 2, 0.5, 2]
    assert rows["b"].tolist()[0::2] + rows["b"].tolist()[3:] == ["x", "z", "ä"]
    assert raw.sha256 == sources.digest(Path("mine"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.csv": "a,y\n1,2\n", "test.csv": "a\n1\n"}, r"test.csv: all files of a table need .* not all have y"),
        ({"train.csv": "a,y\n1,2\n", "test.csv": "a,y\n1,2\n1\n"}, r"test.csv is not a .* line 3: Expected 2"),
        ({"train.csv": "a,y\n1,2\n", "training.csv": "a,y\n", "test.csv": "a,y\n"}, r"needs one file for each split"),
        ({"train.csv": "a,y\n1,2\n", "test.parquet": "PAR1"}, r"train.csv, test.parquet: it needs one file for each"),
        ({"train.csv": "a,y\n1,2\n", "val.csv": "a,y\n1,2\n"}, r"'mine' is neither a file nor a bundled set"),
    ],
)
def test_files_for_splits_that_do_not_go_together_are_refused(workspace, files, message):
    for name, text in files.items():
        write(text, f"mine/{name}")
    with pytest.raises(InputError, match=message):
        read("mine", "y")


def test_the_division_of_files_is_not_learned_from(workspace):
    draw = np.random.default_rng(0)
    for name, rows in (("train", 40), ("test", 20)):
        frame = pd.DataFrame({"a": draw.normal(size=rows), "y": draw.normal(size=rows)})
        Path("mine").mkdir(exist_ok=True)
        frame.to_csv(f"mine/{name}.csv", index=False)
    values = {"prepare.source": "mine", "prepare.target": "y", "task": "regression"}
    schema = prepare(changed(Params(), values))
    assert [column.name for column in schema.columns] == ["a"]
    assert schema.ignored == {"split": "it is the source's own division, for prepare.split: given"}
    schema = prepare(changed(Params(), {**values, "prepare.split": "given", "prepare.split_column": "split"}))
    assert schema.rows["test"] == 20
    assert schema.ignored == {"split": "prepare.split_column"}


def test_the_digest_of_a_folder_is_that_of_its_parts(workspace):
    write_parts(Path("parts"))
    first = read("parts", "y").sha256
    assert first == sources.digest(Path("parts"))
    FRAME.iloc[2:].to_parquet("parts/part-2.parquet")
    assert sources.digest(Path("parts")) != first


def test_the_format_can_be_stated_where_the_name_does_not_tell(workspace):
    write("a,y\n1,x\n", "mine.data")
    with pytest.raises(InputError, match=r"mine.data: the format cannot be told from the name. Known are .csv, .tsv"):
        read("mine.data", "y")
    assert read("mine.data", "y", format="csv").frame["a"].tolist() == [1]


def test_words_for_missing_values_hold_in_every_format(workspace):
    FRAME.to_parquet("mine.parquet")
    assert read("mine.parquet", "y", missing=["ü"]).frame["name"].isna().tolist() == [False, True, True]


@pytest.fixture
def database(workspace):
    """A SQLite database with a table `rows`, and a query of it in data/raw/rows.sql."""
    with closing(sqlite3.connect("rows.db")) as connection:
        FRAME.drop(columns="day").to_sql("rows", connection, index=False)
    write("SELECT size, name, count, y FROM rows WHERE count < 3 -- two of them\n", "data/raw/rows.sql")
    return "data/raw/rows.sql"


def test_a_query_gives_a_table(database, workspace, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("temporary"))
    shutil.copytree(workspace / "data", "data")
    raw = read(database, "y", url="sqlite:///rows.db")
    assert list(raw.frame) == ["size", "name", "count", "y"]
    assert raw.frame["count"].tolist() == [1, 2]
    assert raw.frame["name"].isna().tolist() == [False, True]
    assert raw.notes == ["DVC watches the query, not the database: dvc repro -f prepare reads it again"]


def test_a_query_is_read_in_pieces_whose_types_may_differ(workspace, monkeypatch):
    monkeypatch.setattr(query, "ROWS", 3)
    rows = [(number, None if number < 4 else 0.5, "x" if number == 7 else number) for number in range(9)]
    with closing(sqlite3.connect("rows.db")) as connection:
        connection.execute("CREATE TABLE rows (a, b, c)")
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        connection.commit()
    write("SELECT a, b, c FROM rows", "rows.sql")
    frame = read("rows.sql", "a", url="sqlite:///rows.db").frame
    assert frame["a"].tolist() == list(range(9))
    assert frame["b"].isna().tolist() == [True] * 4 + [False] * 5
    assert frame["c"].tolist() == ["0", "1", "2", "3", "4", "5", "6", "x", "8"]


@pytest.mark.parametrize(
    ("url", "query", "message"),
    [
        (None, "SELECT 1", r"rows.sql is a query: set prepare.url to its database, such as postgresql://"),
        ("sqlite:///none.db", "SELECT 1", r"prepare.url: .*none.db is not there"),
        ("sqlite:///rows.db", "SELECT absent FROM rows", r"cannot be run at sqlite:///rows.db: .*no such column"),
        ("sqlite:///rows.db", "SELECT size, size FROM rows", r"rows.sql has two columns of the name 'size'"),
        ("sqlite:///rows.db", "no query", r"cannot be run at sqlite:///rows.db: .*syntax error"),
        ("rows.db", "SELECT 1", r"cannot be run at rows.db: Could not parse SQLAlchemy URL"),
        ("mysql+none://host/x", "SELECT 1", r"cannot be run at mysql\+none://host/x: "),
        ("postgresql://me:secret@host/x", "SELECT 1", r"prepare.url must hold no password: .* set PREPARE_PASSWORD$"),
    ],
)
def test_a_query_that_cannot_be_run_is_told(database, url, query, message):
    write(query, database)
    with pytest.raises(InputError, match=message) as caught:
        read(database, "y", url=url)
    assert "secret" not in str(caught.value)
    assert not Path("none.db").exists()


def test_the_password_comes_from_the_environment_and_is_not_told(database, monkeypatch):
    monkeypatch.setenv("PREPARE_PASSWORD", "secret")
    with pytest.raises(InputError, match=r"cannot be run at postgresql://me@127.0.0.1:1/x") as caught:
        read(database, "y", url="postgresql://me@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)
