"""The model as MLflow keeps it: loaded in a process of its own, away from the project, with pickle forbidden."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.datasets import load_diabetes

from src import export, fingerprint, paths, training
from src.serving import Predictor
from src.tracking import artifacts, run, store
from src.tracking.history import History

TABLE = pd.DataFrame(
    {
        "size": [float(number) for number in range(40)] + [None] * 5,
        "colour": ["red", "blue", None] * 15,
        "day": [f"2026-01-{number % 28 + 1:02}" for number in range(45)],
        "sold": ["yes", "no", "yes"] * 15,
        "zip": [10115, 80331, 20095] * 15,
        "kind": (["low"] * 20 + ["high"] * 20 + ["odd"] * 5),
    }
)
# columns in another order, one too many, gaps, and a category that training never saw
ROWS = pd.DataFrame(
    {
        "extra": ["x"] * 4,
        "colour": ["red", "green", None, "blue"],
        "zip": [10115, 80331, 99999, None],
        "sold": ["YES", "no", None, "No"],
        "day": ["2026-01-05", "2027-12-31", None, "1999-02-03"],
        "size": [3.0, None, 39.0, -1e6],
    },
    dtype=object,
).astype({"size": float, "zip": float})

SERVE = """if True:
    import sys
    import mlflow
    import pandas as pd
    uri, *rest = sys.argv[1:]
    mlflow.set_tracking_uri(uri)
    for run_id, rows, predictions in zip(*[iter(rest)] * 3):
        model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
        model.predict(pd.read_parquet(rows)).to_parquet(predictions)
"""


@pytest.fixture
def logged(same_process, prepared_data, empty_store, workspace):
    """logged(source, task, **changes) → the run of a short training, with all that the train stage leaves in it."""
    shutil.copy2(empty_store, workspace / "mlflow.db")

    def train_and_log(source, task, **changes):
        quick = {"train.epochs": 5, "train.warmup_epochs": 1.0, "model.widths": [16], **changes}
        params, data = prepared_data(source, task, **quick)
        folder = workspace / f"checkpoints-{task}"
        folder.mkdir()
        mark = fingerprint.of(params, data.schema)
        epochs = list(training.train(params, data, folder))
        report = export.export(params, data, folder, mark)
        with run.begin(params, data.schema, mark, folder) as opened:
            artifacts.log_data(opened, data.schema)
            artifacts.log_training(opened, params, data.schema, folder, report)
        assert len(History(folder).read()[0]) == len(epochs)
        return opened, params, data, folder, report

    return train_and_log


def test_the_logged_model_answers_as_the_predictor_does(logged, workspace):
    TABLE.to_csv(workspace / "rows.csv", index=False)
    expected, words = {}, []
    for source, task, rows in (
        ("rows.csv", "classification", ROWS),
        ("diabetes", "regression", load_diabetes(as_frame=True).frame.iloc[:, ::-1]),
    ):
        opened, *_ = logged(source, task, **({"prepare.target": "kind"} if source == "rows.csv" else {}))
        rows.to_parquet(workspace / f"{task}.rows")
        expected[task] = Predictor(paths.MODELS).predict(rows)
        words += [opened.facts["run_id"], f"{task}.rows", f"{task}.predictions"]
    shutil.rmtree(workspace / "models")

    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONSAFEPATH": "1"}
    environment.pop("PYTHONPATH", None)
    uri = f"sqlite:///{workspace}/mlflow.db"
    ended = subprocess.run([sys.executable, "-c", SERVE, uri, *words], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for task, table in expected.items():
        pd.testing.assert_frame_equal(pd.read_parquet(workspace / f"{task}.predictions"), table, rtol=1e-5)
    assert set(expected["classification"]["prediction"]) <= {"low", "high", "odd"}
    assert expected["regression"]["prediction"].between(0, 400).all()  # the target's unit, not standard deviations


def test_what_the_train_stage_leaves_in_the_run(logged, workspace):
    opened, params, data, folder, report = logged("wine", "classification")
    client, run_id = store.connect(params.tracking), opened.facts["run_id"]
    assert {item.path for item in client.list_artifacts(run_id)} == {"train", "checkpoints"}
    epochs = sorted({report["best_epoch"], report["epochs"]})
    names = [f"checkpoints/epoch-{epoch:06d}.pt{suffix}" for epoch in epochs for suffix in ("", ".sha256")]
    assert [item.path for item in client.list_artifacts(run_id, "checkpoints")] == names
    kept = client.download_artifacts(run_id, "checkpoints", str(workspace))
    for name in os.listdir(kept):
        if name.endswith(".sha256"):
            subprocess.run(["sha256sum", "--check", "--strict", name], cwd=kept, check=True)

    found = client.get_run(run_id)
    assert found.data.metrics["best_train/accuracy"] == report["accuracy"]
    assert found.data.metrics["best_epoch"] == report["best_epoch"]
    assert f"Best epoch {report['best_epoch']} of 5" in found.data.tags["mlflow.note.content"]
    check_the_model(client, run_id, data.schema, workspace)

    # the stage again, complete as it is: no second model
    with opened:
        artifacts.log_training(opened, params, data.schema, folder, report)
    assert len(models_of(client, run_id)) == 1


def models_of(client, run_id):
    experiment_id = client.get_run(run_id).info.experiment_id
    return client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")


def check_the_model(client, run_id, schema, workspace):
    (model,) = models_of(client, run_id)
    assert model.model_uri == f"models:/{model.model_id}"
    place = Path(model.artifact_location.removeprefix("file://"))
    assert place.is_relative_to(workspace)
    files = [path for path in place.rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in files}
    assert {".safetensors", ".json", ".py"} <= suffixes
    assert suffixes <= {".safetensors", ".json", ".py", ".txt", ".yaml", ".yml", ""}  # none that is unpickled
    assert [path for path in files if path.read_bytes().startswith(b"\x80")] == []  # how a pickle begins
    description = (place / "MLmodel").read_text(encoding="utf-8")
    assert all(json.dumps(column.name) in description for column in schema.columns)
