"""The real pipeline in temporary clones: DVC, MLflow and the stages as a user runs them."""

import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

pytestmark = pytest.mark.pipeline

QUICK = {"prepare.source": "wine", "train.epochs": 2, "train.warmup_epochs": 1}
SHORT = ("-S", "train.epochs=3", "-S", "train.warmup_epochs=1")


def steps(project, run_id, key):
    return [metric.step for metric in project.client.get_metric_history(run_id, key)]


def wait_for(condition, seconds=120, pause=0.05):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)


def history_of(project):
    return next(project.path.glob("models/checkpoints/*/history.jsonl"), None)


def epochs_so_far(project):
    path = history_of(project)
    return path.read_text().count("\n") if path else 0


def test_the_first_repro_makes_everything_and_the_second_runs_nothing(new_project):
    project = new_project(store=False)
    printed = project.run("dvc", "repro")
    report = project.report("evaluate")
    assert report["accuracy"] >= 0.97
    assert f"accuracy {report['accuracy']:.4g}" in printed

    (run,) = project.runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "digits-mlp-adamw-lr0.002-seed0")
    for key in ("train/loss", "val/loss", "val/accuracy", "val/macro_f1", "lr", "samples_per_second"):
        assert steps(project, run.info.run_id, key) == list(range(1, 61)), key
    metrics = run.data.metrics
    assert metrics["test/accuracy"] == report["accuracy"]
    assert (
        metrics["best_val/loss"]
        == project.report("validate")["loss"]
        == min(metric.value for metric in project.client.get_metric_history(run.info.run_id, "val/loss"))
    )
    assert metrics["best_train/accuracy"] == project.report("train")["accuracy"]
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert run.data.params["train.lr"] == "0.002"
    assert run.data.params["prepare.fractions.val"] == "0.15"
    tags = run.data.tags
    assert tags["git.commit"] == project.run("git", "rev-parse", "HEAD").strip()
    assert (tags["git.dirty"], tags["dvc.stage"]) == ("false", "train")
    schema = json.loads((project.path / "data/prepared/schema.json").read_text())
    assert tags["data.digest"] == schema["digest"]
    assert (project.path / "models/checkpoints" / tags["fingerprint"]).is_dir()
    assert "**digits**" in tags["mlflow.note.content"]
    (data,) = run.inputs.dataset_inputs
    assert schema["digest"].startswith(data.dataset.digest)
    folders = {item.path for item in project.client.list_artifacts(run.info.run_id)}
    assert folders == {"checkpoints", "data", "train", "validate", "evaluate"}
    assert json.loads((project.path / "models/run.json").read_text())["run_id"] == run.info.run_id

    check_what_mlflow_has(project, run, {"loss", "accuracy", "macro_f1"})
    check_the_model_that_mlflow_has(project, run)
    check_what_dvc_shows(project)


def check_the_model_that_mlflow_has(project, run):
    """In a process of its own, away from the project, with pickle forbidden."""
    code = f"""if True:
        import mlflow
        from sklearn.datasets import load_digits
        mlflow.set_tracking_uri("sqlite:///{project.path}/mlflow.db")
        model = mlflow.pyfunc.load_model("runs:/{run.info.run_id}/model")
        rows = load_digits(as_frame=True).frame
        given = model.predict(rows[sorted(rows.columns.drop("target"))])
        print(len(given), (given["prediction"] == rows["target"]).mean() > 0.97)
    """
    environment = {**project.environment, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    printed = project.run("python", "-c", code, cwd=project.path.parent, env=environment)
    assert printed.split()[-2:] == ["1797", "True"]


def check_what_dvc_shows(project):
    before = (project.path / "models/model.safetensors").stat().st_mtime_ns
    printed = project.run("dvc", "repro")
    assert "Running stage" not in printed
    assert (project.path / "models/model.safetensors").stat().st_mtime_ns == before
    assert project.run("git", "status", "--porcelain").split() == ["??", "dvc.lock", "??", "reports/"]
    assert "macro_f1" in project.run("dvc", "metrics", "show")
    assert "index.html" in project.run("dvc", "plots", "show")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "a result")
    project.set(**{"train.epochs": 2, "train.warmup_epochs": 1})
    project.run("dvc", "repro", "--quiet")
    assert "reports/evaluate.json" in project.run("dvc", "metrics", "diff")
    assert "index.html" in project.run("dvc", "plots", "diff")
    assert "\nparams.yaml" in project.run("dvc", "params", "diff")


@pytest.mark.long
def test_a_csv_file_of_the_users_own(new_project):
    project = new_project()
    wine = pd.DataFrame(
        {
            "colour": ["red", "white", None, "rosé"] * 15,
            "sugar": [1.5, None, 3.0, 4.5] * 15,
            "price": [index % 7 + 10 * (index % 4) for index in range(60)],
        }
    )
    path = project.path / "data/raw/mine.csv"
    wine.to_csv(path, index=False)
    own = ("-S", "prepare.source=data/raw/mine.csv", "-S", "prepare.target=price", "-S", "task=auto")
    project.run("dvc", "exp", "run", *own, *SHORT)
    schema = json.loads((project.path / "data/prepared/schema.json").read_text())
    assert [(column["name"], column["indicator"]) for column in schema["columns"]] == [
        ("colour", True),
        ("sugar", True),
    ]
    assert schema["columns"][0]["categories"] == ["red", "rosé", "white"]
    predictions = pd.read_csv(project.path / "reports/tables/predictions.csv")
    actual = wine["price"].iloc[predictions["row"]].to_numpy()
    assert predictions["actual"].to_numpy() == pytest.approx(actual, abs=1e-4)

    assert "Running stage" not in project.run("dvc", "repro")
    pd.concat([wine, wine]).to_csv(path, index=False)
    assert "Running stage 'prepare'" in project.run("dvc", "repro", "prepare")
    rows = json.loads((project.path / "data/prepared/schema.json").read_text())["rows"]
    assert sum(rows.values()) == 120


@pytest.mark.long
def test_temporary_and_queued_experiments_of_other_tasks_reach_the_one_store(new_project):
    project = new_project(store=False)
    regression = {"loss", "rmse", "mae", "r2"}
    tasks = {
        ("breast_cancer", "binary"): {"loss", "accuracy", "f1", "balanced_accuracy", "roc_auc", "average_precision"},
        ("diabetes", "regression"): regression,
        ("diabetes", "robust_regression"): regression,
    }
    ways = ["--queue", "--queue", "--temp"]
    for way, (source, task) in zip(ways, tasks, strict=True):
        project.run("dvc", "exp", "run", way, "-S", f"prepare.source={source}", "-S", f"task={task}", *SHORT)
    try:
        # not to its last line: the workers hold on to its output until the queue is empty
        assert project.start("dvc", "queue", "start", "-j", "2").wait(timeout=120) == 0
        wait_for(lambda: project.run("dvc", "queue", "status").count("Success") == 2, seconds=600, pause=2)
    finally:
        project.run("dvc", "queue", "stop", "--kill", code=None)
    runs = {run.data.tags["task"]: run for run in project.runs()}
    assert len(project.runs()) == len(runs) == 3
    for (_, task), names in tasks.items():
        run = runs[task]
        assert run.data.tags["dvc.exp"] in run.info.run_name
        check_what_mlflow_has(project, run, names)
    assert len(list(project.path.glob("models/checkpoints/*/history.jsonl"))) == 3


def check_what_mlflow_has(project, run, names):
    """names: of the metrics of each split."""
    assert run.info.status == "FINISHED"
    for split in ("best_train", "best_val", "test"):
        assert {key for key in run.data.metrics if key.startswith(f"{split}/")} == {f"{split}/{name}" for name in names}
    tables = {Path(item.path).name for item in project.client.list_artifacts(run.info.run_id, "evaluate")}
    assert {"predictions.csv"} < tables
    assert ("per_class.csv" in tables) == ("accuracy" in names)
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(project.path)


@pytest.mark.long
def test_terminated_and_gone_on_with_equals_never_stopped(new_project):
    stopped = new_project("stopped")
    stopped.set(**{"train.epochs": 150, "prepare.source": "breast_cancer", "task": "binary"})
    stopped.run("dvc", "repro", "--quiet", "prepare")
    whole = stopped.copy(stopped.path.with_name("whole"))
    stage = stopped.start("python", "-m", "stages.train")
    wait_for(lambda: epochs_so_far(stopped) >= 20)
    stage.send_signal(signal.SIGTERM)
    printed, _ = stage.communicate(timeout=60)
    assert stage.returncode == 143, printed
    assert "Traceback" not in printed
    assert 20 <= epochs_so_far(stopped) < 150
    (run,) = stopped.runs()
    assert run.info.status == "KILLED"

    printed = stopped.run("dvc", "repro")
    assert "going on after epoch" in printed
    (same,) = stopped.runs()
    assert (same.info.run_id, same.info.status) == (run.info.run_id, "FINISHED")
    for key in ("val/loss", "train/loss", "lr"):
        assert steps(stopped, run.info.run_id, key) == list(range(1, 151))

    whole.run("python", "-m", "stages.train")
    whole.run("python", "-m", "stages.evaluate")
    for name in ("models/model.safetensors", "models/model.json", "reports/history.csv", "reports/evaluate.json"):
        assert (stopped.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_interrupted_under_dvc(new_project):
    project = new_project()
    project.set(**{"train.epochs": 5000})
    repro = project.start("dvc", "repro", start_new_session=True)
    wait_for(lambda: epochs_so_far(project) >= 5)
    os.killpg(repro.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    printed, _ = repro.communicate(timeout=60)
    assert repro.returncode != 0
    assert "interrupted. The same command goes on" in printed
    (run,) = project.runs()
    assert run.info.status == "KILLED"


def test_a_loss_that_is_not_finite_fails_the_run_in_words(new_project):
    project = new_project()
    project.set(**{"prepare.source": "diabetes", "task": "regression", "train.optimizer": "sgd", "train.lr": 100.0})
    project.run("dvc", "repro", "--quiet", "prepare")
    printed = project.run("python", "-m", "stages.train", code=1)
    assert printed.count("error: ") == 1
    assert "in epoch" in printed.partition("error: ")[2]
    assert "at learning rate" in printed
    assert "Traceback" not in printed
    (run,) = project.runs()
    assert run.info.status == "FAILED"
    assert "traceback.txt" in {item.path for item in project.client.list_artifacts(run.info.run_id)}
    project.set(**{"prepare.source": "diabetes", "task": "regression", "train.epochs": 3, "train.warmup_epochs": 1})
    project.run("python", "-m", "stages.train")
    assert [run.info.status for run in project.runs()] == ["FAILED", "FINISHED"]


def test_the_gate_stops_before_the_test_split_is_opened(new_project):
    project = new_project()
    project.set(
        **{"prepare.source": "wine", "train.epochs": 2, "train.warmup_epochs": 1, "validate.minimum": {"loss": 0.001}}
    )
    printed = project.run("dvc", "repro", code=None)
    assert "validate.minimum is not met: loss is" in printed
    assert "The test split was not opened" in printed
    assert "Running stage 'evaluate'" not in printed
    assert not (project.path / "reports/evaluate.json").exists()
    (run,) = project.runs()
    assert run.info.status == "FAILED"
    assert "Traceback" not in printed


GOOD = "colour,size,kind\n" + "".join(f"{c},{n},{k}\n" for n in range(12) for c, k in (("red", "a"), ("blue", "b")))
BAD = {
    "unknown key": ({}, "train:\n  lrr: 1\n", "train.lrr is not a known param. Did you mean train.lr?"),
    "wrong type": ({}, "train:\n  lr: fast\n", "train.lr = 'fast': must be a valid number"),
    "out of bounds": ({}, "train:\n  lr: -1\n", "train.lr = -1: must be greater than 0"),
    "fractions": ({}, "prepare:\n  fractions: {train: 0.9, val: 0.2, test: 0.1}\n", "they must sum to 1"),
    "no such file": ({"prepare.source": "data/raw/none.csv"}, "", "neither a file nor a bundled set"),
    "no target": ({"prepare.source": "data/raw/x.csv"}, "", "prepare.target must name the column to predict"),
    "wrong target": (
        {"prepare.source": "data/raw/x.csv", "prepare.target": "kinds"},
        "",
        "prepare.target = 'kinds' is no column of data/raw/x.csv. Did you mean kind?",
    ),
    "decimals as classes": (
        {"prepare.source": "wine", "prepare.target": "alcohol"},
        "",
        "For numbers set task: regression",
    ),
    "three classes": ({"prepare.source": "wine", "task": "binary"}, "", "has 3 classes; task binary needs 2"),
    "text for numbers": (
        {"prepare.source": "data/raw/x.csv", "prepare.target": "kind", "task": "regression"},
        "",
        "a regression needs numbers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_to_prepare_is_one_message_and_changes_nothing(new_project, name):
    values, text, message = BAD[name]
    project = new_project(store=False)
    (project.path / "data/raw/x.csv").write_text(GOOD)
    prepared = project.path / "data/prepared"
    prepared.mkdir()
    (prepared / "schema.json").write_text("what was there before")
    project.set(**values) if values else (project.path / "params.yaml").write_text(text)
    printed = project.run("python", "-m", "stages.prepare", code=2)
    assert message in printed
    assert printed.startswith("error: ")
    assert "Traceback" not in printed
    assert [path.name for path in prepared.iterdir()] == ["schema.json"]
    assert (prepared / "schema.json").read_text() == "what was there before"


def test_bad_input_to_train_is_one_message_and_opens_no_run(with_wine, tmp_path):
    project = with_wine.copy(tmp_path / "project")
    cases = [
        ({"model.name": "cnn"}, "'cnn' cannot take this data"),
        ({"train.device": "cuda:77"}, "'cuda:77' is not on this machine"),
        ({"tracking.uri": "mlruns"}, "tracking.uri = 'mlruns' is a folder, which MLflow no longer takes"),
    ]
    for values, message in cases:
        project.set(**{"prepare.source": "wine", **values})
        printed = project.run("python", "-m", "stages.train", code=2)
        assert message in printed
        assert "Traceback" not in printed
    with sqlite3.connect(project.path / "mlflow.db") as store:
        assert store.execute("select count(*) from runs").fetchone() == (0,)


def test_a_run_that_the_store_no_longer_has_is_opened_anew_once(finished, empty_store, tmp_path):
    project = finished.copy(tmp_path / "project")
    origin = finished.runs()[0].info.run_id
    (project.path / "mlflow.db").write_bytes(empty_store.read_bytes())  # as in a clone with a pulled cache
    project.run("python", "-m", "stages.validate")
    project.run("python", "-m", "stages.evaluate")
    (run,) = project.runs()
    assert run.data.tags["restored.run_id"] == origin
    assert {"best_val/accuracy", "test/accuracy"} <= set(run.data.metrics)
    assert run.info.status == "FINISHED"


@pytest.mark.long
def test_dvc_killed_outright_takes_its_stage_with_it_and_the_next_repro_finishes(new_project):
    project = new_project()
    project.set(**{"train.epochs": 400, "prepare.source": "breast_cancer", "task": "binary"})
    repro = project.start("dvc", "repro")
    wait_for(lambda: epochs_so_far(project) >= 5 and project.runs())
    stages = [process for process in psutil.Process(repro.pid).children(recursive=True) if is_stage(process)]
    repro.kill()
    repro.wait()
    assert stages
    _, alive = psutil.wait_procs(stages, timeout=5)
    assert not alive
    assert f"dvc (process {repro.pid}) is gone, and this stage with it" in repro.stdout.read()
    (run,) = project.runs()
    assert "going on after epoch" in project.run("dvc", "repro")
    (same,) = project.runs()
    assert (same.info.run_id, same.info.status) == (run.info.run_id, "FINISHED")
    assert steps(project, run.info.run_id, "val/loss") == list(range(1, 401))


def is_stage(process):
    return "stages.train" in process.cmdline()


def in_full_training(project):
    """A train stage that has been at it for some epochs, and of which MLflow knows."""
    project.set(**{"train.epochs": 5000})
    project.run("dvc", "repro", "--quiet", "prepare")
    stage = project.start("python", "-m", "stages.train")
    wait_for(lambda: epochs_so_far(project) >= 5 and project.runs())
    return stage


@pytest.mark.long
def test_a_train_stage_killed_outright_is_told_by_the_process_beside_it(new_project):
    project = new_project()
    stage = in_full_training(project)
    second = project.run("python", "-m", "stages.train", code=1)
    assert f"error: process {stage.pid} is training with these very settings: wait for it, or end it" in second
    beside = psutil.Process(stage.pid).children()
    stage.kill()
    stage.communicate()
    _, left = psutil.wait_procs(beside, timeout=30)
    assert beside
    assert not left
    if project.runs()[0].info.status == "RUNNING":  # a machine so busy that its few seconds were too short
        project.run("python", "-m", "src.doctor", "--sync")
    assert project.runs()[0].info.status == "KILLED"


@pytest.mark.long
def test_what_lost_its_power_is_killed_in_mlflow_once_anything_starts(new_project):
    project = new_project()
    stage = in_full_training(project)
    processes = [*psutil.Process(stage.pid).children(), stage]
    for process in processes:
        process.kill()
    stage.communicate()
    assert project.runs()[0].info.status == "RUNNING"
    project.set(**{"train.epochs": 3, "train.lr": 0.002})
    printed = project.run("python", "-m", "stages.train")
    assert "was left RUNNING by a process that is gone: KILLED at" in printed
    assert [run.info.status for run in project.runs()] == ["KILLED", "FINISHED"]
    assert not list((project.path / "models/outbox").glob("*/"))


@pytest.mark.long
def test_a_result_that_dvc_restores_is_tagged_in_mlflow(new_project):
    project = new_project()
    project.set(**QUICK)
    project.run("dvc", "repro", "--quiet")
    project.run("python", "-m", "src.reuse")
    (first,) = project.runs()
    assert "reused.time" not in first.data.tags
    project.run("dvc", "exp", "run", "-S", "train.lr=0.1", "--quiet")
    project.set(**QUICK)
    project.run("git", "commit", "-qam", "back")
    printed = project.run("dvc", "repro")
    assert "restored" in printed or "cached" in printed, printed
    assert f"run {first.info.run_name} is in use again" in project.run("python", "-m", "src.reuse")
    assert project.run("python", "-m", "src.reuse") == ""
    tags = project.client.get_run(first.info.run_id).data.tags
    assert tags["reused.commit"] == project.run("git", "rev-parse", "HEAD").strip()
    assert tags["reused.time"].endswith("Z")

    def status():
        return project.client.get_run(first.info.run_id).info.status

    assert status() == "FINISHED"
    project.set(**QUICK, **{"validate.minimum": {"loss": 0.001}})
    project.run("dvc", "repro", "--quiet", code=255)
    project.run("python", "-m", "src.reuse")
    assert status() == "FAILED"  # not all stages have passed
    project.set(**QUICK)
    project.run("dvc", "repro", "--quiet")
    project.run("python", "-m", "src.reuse")
    assert status() == "FINISHED"
