import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from src.data import encoding, profile, report
from src.data.prepare import prepare
from src.data.schema import SPLITS
from src.params import Params, changed


def table(rows=600, **columns):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": draw.normal(40, 10, rows).round(1),
            "city": draw.choice(["Ulm", "Bonn", "Kiel"], rows, p=[0.6, 0.3, 0.1]),
            "member": draw.choice(["yes", "no"], rows),
            "day": pd.date_range("2020-01-01", periods=rows, freq="12h").strftime("%Y-%m-%d"),
        }
    )
    frame.loc[::10, "age"] = np.nan
    return frame.assign(y=draw.normal(size=rows).round(3) + (frame["city"] == "Ulm"), **columns)


def looked_at(frame, task="regression", **values):
    """(schema, profiles by name, warnings) of a prepared table."""
    frame.to_csv("mine.csv", index=False)
    wanted = {"prepare.source": "mine.csv", "prepare.target": "y", "task": task}
    schema = prepare(changed(Params(), {**wanted, **{f"prepare.{key}": value for key, value in values.items()}}))
    found = list(profile.profiles(schema, {name: profile.sample(name, schema) for name in SPLITS}))
    return schema, {row.name: row for row in found}, profile.warnings(schema, found)


def test_a_profile_says_what_the_table_has(workspace):
    frame = table()
    schema, found, wonders = looked_at(frame)
    assert list(found) == ["y", "age", "city", "member", "day"]
    assert found["age"].missing == pytest.approx(0.1, abs=0.03)
    assert found["age"].summary == f"{schema.columns[0].low:.4g} to {schema.columns[0].high:.4g}"
    assert found["city"].summary.startswith("Ulm 58%, Bonn")
    assert found["city"].labels == ["Ulm", "Bonn", "Kiel"]
    assert found["member"].labels[0] in ("yes", "no")
    assert found["day"].summary == "2020-01-01 to 2020-10-26"
    for row in found.values():
        assert all(sum(own) == pytest.approx(1) for own in row.shares.values())
    assert wonders == []


@given(st.lists(st.floats(-1e3, 1e3) | st.none(), min_size=2, max_size=30))
def test_encoded_numbers_lead_back_to_themselves(fit_all, values):
    frame = pd.DataFrame({"c": pd.Series(values, dtype=float)})
    [column] = fit_all(frame, {"c": "numeric"})
    back = profile.values_of(column, encoding.encode(frame, [column]))
    assert back == pytest.approx(frame["c"].to_numpy(), abs=1e-2, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["b", None, "a", "b"], "categorical", [1, np.nan, 0, 1]),
        (["yes", "no", None], "boolean", [1, 0, np.nan]),
        (["mid", "low", None], ["low", "mid", "high"], [1, 0, np.nan]),
        (["1970-01-11", "1970-01-01", None], "datetime", [10, 0, np.nan]),
    ],
)
def test_encoded_words_lead_back_to_their_places(fit_all, values, kind, expected):
    frame = pd.DataFrame({"c": values})
    [column] = fit_all(frame, {"c": kind})
    assert profile.values_of(column, encoding.encode(frame, [column])) == pytest.approx(expected, abs=1e-4, nan_ok=True)


@given(*[st.lists(st.floats(-5, 5), min_size=1, max_size=30)] * 2)
def test_the_distance_is_that_of_scipy(one, other):
    wanted = ks_2samp(one, other, method="asymp").statistic
    assert profile._distance(np.array(one), np.array(other)) == pytest.approx(wanted)


def test_a_column_that_gives_the_target_away_is_named(workspace):
    frame = table()
    _, found, wonders = looked_at(frame.assign(copy=3 * frame["y"] + 7))
    assert found["copy"].alone > 0.98 > found["city"].alone > 0
    assert len(wonders) == 1
    assert wonders[0].startswith(f"'copy' alone predicts the target almost perfectly ({found['copy'].alone:.1%} of")
    classes = table().assign(y=lambda rows: rows["city"], code=lambda rows: rows["city"].str.upper())
    _, found, wonders = looked_at(classes.drop(columns="city"), "classification")
    assert found["code"].alone == 1
    assert wonders[0].startswith("'code' alone predicts the target almost perfectly (100.0%")


def test_drift_between_splits_is_named(workspace):
    _, found, wonders = looked_at(table(), split="time", split_column="day")
    assert found["day"].drift == 1
    assert any(line.startswith("'day' is distributed otherwise in val or test than in train") for line in wonders)
    assert not any(line.startswith("'age'") for line in wonders)


def test_a_rare_class_is_named(workspace):
    rare = np.where(np.arange(600) % 40 == 0, "yes", "no")
    _, _, wonders = looked_at(table().assign(y=rare), "binary")
    assert any(line.startswith("class 'yes' has 1") and "train.class_weights" in line for line in wonders)


def test_of_a_large_split_rows_from_all_of_it_are_looked_at(workspace, monkeypatch):
    monkeypatch.setattr(profile, "SAMPLE", 100)
    schema, _, _ = looked_at(table().assign(y=np.arange(600.0)))
    own = profile.sample("train", schema)
    assert len(own.inputs) == len(own.targets) == 100
    assert own.targets.min() < 60
    assert own.targets.max() > 540


def test_the_page_needs_nothing_else_and_names_are_text(workspace):
    frame = table().rename(columns={"age": "<script>alert(1)</script>"}).assign(id=range(600))
    schema, _, _ = looked_at(frame)
    report.write(schema)
    page = (workspace / "reports/data.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    for word in ("600", "420", "90", "mine.csv", "an id", "city", "Nothing stands out"):
        assert word in page
    columns = pd.read_csv("reports/columns.csv")
    assert columns["column"].tolist() == ["y", *(column.name for column in schema.columns)]
    assert (workspace / "reports/plots/prepare/target.png").read_bytes().startswith(b"\x89PNG")


def test_images_are_shown_by_class(workspace):
    schema = prepare(changed(Params(), {"prepare.source": "digits"}))
    assert report.write(schema) == []
    page = (workspace / "reports/data.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 10


def test_the_same_data_gives_the_same_report(workspace):
    schema, _, _ = looked_at(table())
    written = []
    for _ in range(2):
        report.write(schema)
        written.append([path.read_bytes() for path in sorted((workspace / "reports").rglob("*.*"))])
    assert written[0] == written[1]
