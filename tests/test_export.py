import csv

import pytest
import torch

from src import checkpoints, export, files, fingerprint, model_file, paths, training
from src.evaluation import Result
from src.serving import Predictor
from src.tracking.history import TIMINGS

# overfits at once, so that the best epoch is not the last
CHANGES = {"train.lr": 0.02, "train.patience": 3, "train.epochs": 30, "train.schedule": "constant"}


@pytest.fixture
def trained(prepared_data, workspace):
    params, data = prepared_data("diabetes", "regression", **CHANGES)
    folder = workspace / "checkpoints"
    folder.mkdir()
    epochs = list(training.train(params, data, folder))
    mark = fingerprint.of(params, data.schema)
    return params, data, epochs, folder, mark, export.export(params, data, folder, mark)


def test_the_model_is_that_of_the_best_epoch(trained):
    _, _, epochs, folder, mark, report = trained
    best = min(epochs, key=lambda epoch: epoch.val["loss"])
    assert best.number < len(epochs)
    assert (report["best_epoch"], report["epochs"]) == (best.number, len(epochs))
    model = model_file.load()
    weights = checkpoints.read(checkpoints.path_of(folder, best.number))["model"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.network.state_dict().items())
    assert model.spec["val"] == best.val
    assert (model.spec["epoch"], model.spec["monitor"]) == (best.number, "loss")
    assert model.spec["fingerprint"] == mark.digest


def test_the_report_is_measured_with_that_model_on_the_training_split(trained):
    params, data, epochs, _, _, report = trained
    assert files.read_json(paths.REPORTS / "train.json") == report
    measured = Result(params, model_file.load(), data.train).metrics
    assert {name: report[name] for name in measured} == measured
    # in evaluation mode and after the epoch: not the mean over a moving model with dropout
    assert report["loss"] != epochs[report["best_epoch"] - 1].train["loss"]


def test_the_history_has_every_epoch_and_no_timing(trained):
    epochs = trained[2]
    with paths.HISTORY.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [{key: value for key, value in epoch.record().items() if key not in TIMINGS} for epoch in epochs]
    assert [{key: float(value) for key, value in row.items()} for row in rows] == expected


def test_exported_twice_it_is_the_same_to_the_byte(trained):
    params, data, _, folder, mark, _ = trained
    written = (paths.WEIGHTS, paths.SPEC, paths.HISTORY, paths.REPORTS / "train.json")
    before = [path.read_bytes() for path in written]
    for path in written:
        path.unlink()
    export.export(params, data, folder, mark)
    assert [path.read_bytes() for path in written] == before


@pytest.mark.parametrize("wanted", ["f1", 0.2])
def test_a_threshold_is_kept_with_the_model_and_decides_everywhere(prepared_data, workspace, wanted, capsys):
    import sklearn.datasets

    short = {"train.epochs": 2, "train.warmup_epochs": 1.0, "train.threshold": wanted}
    params, data = prepared_data("breast_cancer", "binary", **short)
    folder = workspace / "checkpoints"
    folder.mkdir()
    list(training.train(params, data, folder))
    export.export(params, data, folder, fingerprint.of(params, data.schema))
    model = model_file.load()
    found = [
        Result(params, trained, data.val) for trained in (model, model._replace(spec={"batch_size": model.batch_size}))
    ]
    if wanted == "f1":
        assert f"threshold: {model.threshold:.3g}, for the best f1 on validation" in capsys.readouterr().err
        assert found[0].metrics["f1"] >= found[1].metrics["f1"]
    else:
        assert model.threshold == wanted
        assert found[0].metrics["balanced_accuracy"] != found[1].metrics["balanced_accuracy"]
    table = found[0].predictions()
    assert ((table["probability_malignant"] > model.threshold) == (table["prediction"] == "malignant")).all()
    assert found[0].per_class()["support"].sum() == len(table)
    rows = sklearn.datasets.load_breast_cancer(as_frame=True).frame.iloc[table["row"]]
    served = Predictor(paths.MODELS).predict(rows)
    assert (served["prediction"].to_numpy() == table["prediction"]).all()
