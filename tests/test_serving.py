import numpy as np
import pandas as pd
import pytest

from src import fingerprint, model_file, paths, training
from src.data import encoding, prepared
from src.errors import InputError
from src.evaluation import Result
from src.export import export
from src.params import Params, changed
from src.serving import Predictor


@pytest.fixture
def exported(prepared_data, workspace):
    """exported(source, task, **changes) trains for two epochs and leaves models/ and reports/ in the workspace."""

    def make(source, task, **changes):
        params, data = prepared_data(source, task, **{"train.epochs": 2, "train.warmup_epochs": 1.0, **changes})
        folder = workspace / "checkpoints"
        folder.mkdir()
        list(training.train(params, data, folder))
        return params, data, export(params, data, folder, fingerprint.of(params, data.schema))

    return make


def frame_of(name):
    import sklearn.datasets

    return getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("digits", "classification"),
        ("wine", "classification"),
        ("breast_cancer", "binary"),
        ("diabetes", "regression"),
    ],
)
def test_raw_rows_give_what_the_evaluation_gave(exported, source, task):
    params, _, _ = exported(source, task)
    trained = model_file.load()
    result = Result(params, trained, prepared.load("test", trained.schema)).predictions()
    rows = frame_of(source).iloc[result["row"]]
    shuffled = rows[sorted(rows.columns, reverse=True)].assign(another=1)
    given = Predictor(paths.MODELS).predict(shuffled)
    assert list(given.columns) == list(result.columns[2:])
    pd.testing.assert_frame_equal(given.reset_index(drop=True), result[given.columns], rtol=1e-4, atol=1e-6)


def test_predictions_are_classes_or_the_targets_own_unit(exported):
    exported("breast_cancer", "binary")
    given = Predictor(paths.MODELS).predict(frame_of("breast_cancer").head(50))
    assert set(given["prediction"]) <= {"malignant", "benign"}
    chances = given[["probability_benign", "probability_malignant"]]
    assert np.allclose(chances.sum(axis=1), 1)
    assert (chances.idxmax(axis=1).str.removeprefix("probability_") == given["prediction"]).all()


def test_a_regression_predicts_near_its_target(exported):
    exported("diabetes", "regression", **{"train.epochs": 15})
    frame = frame_of("diabetes")
    given = Predictor(paths.MODELS).predict(frame)["prediction"]
    assert given.mean() == pytest.approx(frame["target"].mean(), rel=0.15)
    assert given.std() > 20


def test_missing_and_unseen_values_do_not_fail(workspace):
    frame = pd.DataFrame(
        {"colour": ["red", "blue", None] * 20, "size": [1.0, None, 3.0] * 20, "kind": ["a", "b", "b"] * 20}
    )
    (workspace / "data").mkdir()
    frame.to_csv(workspace / "data/x.csv", index=False)
    from src.data.prepare import prepare

    values = {"prepare.source": "data/x.csv", "prepare.target": "kind", "train.epochs": 2, "train.warmup_epochs": 1.0}
    params = changed(Params(), values)
    schema = prepare(params)
    (workspace / "folder").mkdir()
    data = training.load_data()
    list(training.train(params, data, workspace / "folder"))
    export(params, data, workspace / "folder", fingerprint.of(params, schema))
    rows = pd.DataFrame({"size": [None, 2.0], "colour": ["violet", None]}, index=[7, 9])
    given = Predictor(paths.MODELS).predict(rows)
    assert list(given.index) == [7, 9]
    assert set(given["prediction"]) <= {"a", "b"}
    assert len(Predictor(paths.MODELS).predict(rows.head(0))) == 0
    # an unseen colour sets no input of its column
    assert encoding.encode(rows, schema.columns)[0, :2].tolist() == [0.0, 0.0]


def test_a_row_without_a_column_is_refused_by_name(exported):
    exported("wine", "classification")
    with pytest.raises(InputError, match="the rows lack column 'alcohol'"):
        Predictor(paths.MODELS).predict(frame_of("wine").drop(columns="alcohol"))


def test_the_report_is_of_the_kept_model(exported):
    _, data, report = exported("wine", "classification")
    assert set(report) == {"loss", "accuracy", "macro_f1", "best_epoch", "epochs"}
    spec = model_file.load().spec
    assert spec["epoch"] == report["best_epoch"]
    assert spec["val"]["loss"] == min(pd.read_csv(paths.HISTORY)["val/loss"])
    assert model_file.load().schema == data.schema


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_tampered_model_is_refused(exported, name):
    exported("wine", "classification")
    path = paths.MODELS / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:-5] if name.endswith("json") else content)
    with pytest.raises(InputError, match="dvc repro"):
        model_file.load()
