import pandas as pd
import pytest
import sklearn.metrics
import torch

from src import evaluation, model_file, plots
from src.data import prepared
from src.errors import RunError
from src.evaluation import Result
from src.model_file import Trained
from src.training import assemble


def result_of(prepared_data, source, task):
    params, data = prepared_data(source, task)
    trained = Trained(assemble(params, data)[0].model, data.schema, {"batch_size": 64})
    return Result(params, trained, prepared.load("test", data.schema))


def test_classification_numbers_are_those_of_scikit_learn(prepared_data, workspace):
    result = result_of(prepared_data, "wine", "classification")
    paths = result.write_tables(workspace / "tables")
    table = pd.read_csv(workspace / "tables/predictions.csv")
    assert len(paths) == 2
    assert result.metrics["accuracy"] == pytest.approx((table["actual"] == table["prediction"]).mean())
    f1 = sklearn.metrics.f1_score(table["actual"], table["prediction"], average="macro")
    assert result.metrics["macro_f1"] == pytest.approx(f1)
    wanted = sklearn.metrics.precision_recall_fscore_support(table["actual"], table["prediction"], zero_division=0)
    found = pd.read_csv(workspace / "tables/per_class.csv")
    assert list(found["class"]) == ["class_0", "class_1", "class_2"]
    for column, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        assert found[column].to_numpy() == pytest.approx(values), column


def test_binary_numbers_are_those_of_scikit_learn(prepared_data):
    result = result_of(prepared_data, "breast_cancer", "binary")
    table = result.predictions()
    scores, positive = table["probability_malignant"], table["actual"] == "malignant"
    assert result.metrics["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(positive, scores))
    assert result.metrics["average_precision"] == pytest.approx(
        sklearn.metrics.average_precision_score(positive, scores)
    )
    assert result.metrics["loss"] == pytest.approx(sklearn.metrics.log_loss(positive, scores), rel=1e-4)


def test_regression_numbers_are_in_the_targets_own_unit(prepared_data):
    result = result_of(prepared_data, "diabetes", "regression")
    table = result.predictions()
    assert table["actual"].between(20, 350).all()
    assert result.metrics["mae"] == pytest.approx((table["actual"] - table["prediction"]).abs().mean())
    assert result.metrics["r2"] == pytest.approx(sklearn.metrics.r2_score(table["actual"], table["prediction"]))
    assert result.per_class().empty


@pytest.mark.parametrize(
    ("source", "task", "names"),
    [
        ("wine", "classification", {"confusion"}),
        ("breast_cancer", "binary", {"confusion", "roc", "precision_recall"}),
        ("diabetes", "regression", {"residuals", "prediction"}),
    ],
)
def test_pictures_suit_the_task_and_are_the_same_twice(prepared_data, workspace, source, task, names):
    result = result_of(prepared_data, source, task)
    first = plots.write(workspace / "first", result.figures())
    second = plots.write(workspace / "second", result.figures())
    assert {path.stem for path in first} == names
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in first)


@pytest.mark.parametrize(
    ("minimum", "met"),
    [
        ({}, True),
        ({"accuracy": 0.9, "loss": 0.2}, True),
        ({"accuracy": 0.9001}, False),
        ({"loss": 0.1999}, False),
        ({"accuracy": 0.5, "loss": 0.1}, False),
        ({"roc_auc": 0.0}, False),
    ],
)
def test_the_gate_goes_by_each_metrics_own_goal(minimum, met):
    measured = {"accuracy": 0.9, "loss": 0.2, "roc_auc": float("nan")}
    if met:
        assert evaluation.check_minimum(measured, minimum) is None
    else:
        with pytest.raises(RunError, match=r"validate.minimum is not met: .* The test split was not opened"):
            evaluation.check_minimum(measured, minimum)


def test_two_files_alone_rebuild_the_model(prepared_data, workspace):
    params, data = prepared_data("digits", **{"model.name": "cnn", "model.channels": [4, 8]})
    model = assemble(params, data)[0].model.eval()
    model_file.save(workspace / "elsewhere", model.state_dict(), data.schema, model=params.model.model_dump())
    assert {path.name for path in (workspace / "elsewhere").iterdir()} == {"model.safetensors", "model.json"}
    rebuilt = model_file.load(workspace / "elsewhere").network
    for name, weights in model.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[name], weights)
    with torch.no_grad():  # in another memory format, where some CPUs round otherwise
        assert torch.allclose(rebuilt(data.val.inputs), model(data.val.inputs), atol=1e-5)
