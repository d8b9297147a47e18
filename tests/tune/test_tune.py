"""python -m src.tune, run as a user runs it: real studies, a real store, a process that is really killed."""

import re
import signal
import time

import pytest

from src import files

pytestmark = pytest.mark.pipeline

QUICK = {"prepare.source": "wine", "train.epochs": 6, "train.warmup_epochs": 1.0, "model.dropout": 0.0}


@pytest.fixture
def project(with_wine, tmp_path):
    """A clone with prepared data, the test split gone: tuning must do without."""
    project = with_wine.copy(tmp_path / "project")
    project.set(**QUICK)
    (project.path / "data/prepared/test.safetensors").unlink()
    return project


def tune(project, *options, code=0):
    return project.run("python", "-m", "src.tune", *options, code=code)


def children(project):
    return [run for run in project.runs() if "mlflow.parentRunId" in run.data.tags]


@pytest.mark.long
def test_a_study_from_its_first_trial_to_the_applied_values(project):
    printed = tune(project, "--trials", "5")
    assert len(re.findall(r"^trial \d+ (complete|pruned)", printed, re.MULTILINE)) == 5
    assert re.search(r"^trial 0 complete .*lr=0.002 optimizer=adamw", printed, re.MULTILINE)
    assert "Next: python -m src.tune --trials 5 --repro" in printed
    assert printed.index("best: trial") < printed.index("importance: train.")  # which takes longer
    pages = {path.name for path in (project.path / "reports/tune").iterdir()}
    assert pages >= {"study.html", "choices.png", "history.png", "epochs.png", "parallel.png", "trials.csv"}
    assert not (project.path / "data/prepared/test.safetensors").exists()

    trials = children(project)
    (study,) = [run for run in project.runs() if run.data.tags.get("role") == "study"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2", "3", "4"]
    assert study.info.status == "FINISHED"
    assert "importance/train.lr" in study.data.metrics
    assert "importance: train." in study.data.tags["mlflow.note.content"]
    assert {item.path for item in project.client.list_artifacts(study.info.run_id, "study")} >= {"study/study.html"}
    for run in trials:
        epochs = len(project.client.get_metric_history(run.info.run_id, "val/loss"))
        if run.data.tags["state"] == "pruned":
            assert (run.info.status, run.info.run_name.endswith("-pruned"), epochs < 6) == ("KILLED", True, True)
        else:
            assert (run.info.status, epochs) == ("FINISHED", 6)
    complete = [run for run in trials if run.data.tags["state"] == "complete"]
    best = min(complete, key=lambda run: run.data.metrics["best_val/loss"])
    first = next(run for run in trials if run.data.tags["trial"] == "0")
    assert study.data.metrics["best_val/loss"] == best.data.metrics["best_val/loss"]
    assert best.data.metrics["best_val/loss"] <= first.data.metrics["best_val/loss"]

    check_apply(project)


def check_apply(project):
    commented = (project.path / "params.yaml").read_text().replace("\ntune:", "  # how far\n\n# the search\ntune:")
    (project.path / "params.yaml").write_text(commented)
    printed = tune(project, "--trials", "7", "--repro")
    assert len(re.findall(r"^trial \d+ (complete|pruned)", printed, re.MULTILINE)) == 2
    trials = children(project)
    best = min(
        (run for run in trials if run.data.tags["state"] == "complete"),
        key=lambda run: run.data.metrics["best_val/loss"],
    )
    before, after = commented.splitlines(), (project.path / "params.yaml").read_text().splitlines()
    assert len(before) == len(after)
    changed = [line.strip() for old, line in zip(before, after, strict=True) if old != line]
    wanted = {"lr": best.data.params["train.lr"], "optimizer": best.data.params["train.optimizer"]}
    assert all(line in {f"{key}: {value}" for key, value in wanted.items()} for line in changed)
    # tuned params are not part of what a study is: after --apply it is still the same one
    code = "from src.tune import __main__, crew; crew.COMMAND = ['false']; __main__.main()"  # no worker is started
    again = project.run("python", "-c", code, "--trials", "7")
    assert "7 trials have ended, and no more are asked for" in again
    assert not re.findall(r"^trial \d+ (complete|pruned)", again, re.MULTILINE)
    refused = tune(project, "--trial", "7", code=2)
    assert re.search(r"--trial 7: there is none .*\. Those that did: 0, ", refused)
    # and the pipeline has run with just what the trial had
    (run,) = [run for run in project.runs() if "tuned.study" in run.data.tags]
    assert (run.info.status, run.data.params["train.lr"]) == ("FINISHED", wanted["lr"])
    assert run.data.tags["tuned.trial"] == best.data.tags["trial"]
    evaluation = project.report("evaluate")
    assert run.data.metrics["test/accuracy"] == evaluation["accuracy"]
    assert f"test: loss {evaluation['loss']:.4g}, accuracy {evaluation['accuracy']:.4g}" in printed
    report = min(float(line.split(",")[3]) for line in (project.path / "reports/history.csv").read_text().split()[1:])
    assert report == pytest.approx(best.data.metrics["best_val/loss"], rel=1e-3)  # a lane rounds in another order


@pytest.mark.long
def test_trials_of_several_seeds_and_then_several_objectives(project):
    several = {**QUICK, "model.name": "linear", "tune.seeds": 6, "tune.pruner": "wilcoxon", "tune.sampler": "random"}
    project.set(**several)
    printed = tune(project, "--trials", "10")
    result = project.report("tune")
    assert result["best"]["seeds"] == 6
    assert "±" in printed
    trials = children(project)
    assert {run.data.tags["state"] for run in trials} == {"complete", "pruned"}
    epochs = {len(project.client.get_metric_history(run.info.run_id, "val/loss")) for run in trials}
    assert epochs == {6}  # none was stopped within a training, but between seeds
    complete = [run for run in trials if run.data.tags["state"] == "complete"]
    assert all(run.data.metrics["best_val/loss_standard_error"] > 0 for run in complete)

    sought = {"tune.objectives": ["accuracy", "parameters"], "tune.pruner": "none", "tune.seeds": 2}
    space = {"train.lr": [0.001, 0.05], "model.name": ["linear", "mlp"]}
    several |= {**sought, "tune.space": space, "tune.sampler": "grid"}
    project.set(**several)
    tune(project, "--trials", "4")
    best = project.report("tune")["best"]
    project.set(**several, **{"train.momentum": 0.8})
    assert "no study with this space" in tune(project, "--trial", "0", code=2)
    project.set(**several)
    printed = tune(project, "--trial", "0", "--export")  # tune.trials is more, but none is made for this
    assert not re.findall(r"^trial \d+ (complete|pruned)", printed, re.MULTILINE)
    result = project.report("tune")
    assert f"-S model.name={result['taken']['params']['model.name']}" in printed
    assert (result["taken"]["trial"], result["best"]) == (0, best)
    costs = {facts["params"]["model.name"]: facts["values"][1] for facts in [result["first"], *result["front"]]}
    assert costs["linear"] == 3 * 13 + 3  # nothing else has as few, so it is on the front
    assert (project.path / "reports/tune/front.png").exists()


def test_of_a_search_that_is_killed_at_its_start_mlflow_is_told_all_the_same(project):
    project.set(**{**QUICK, "train.epochs": 100_000, "tune.lanes": 1})
    search = project.start("python", "-m", "src.tune")
    deadline = time.monotonic() + 120
    while not list(project.path.glob("models/outbox/*/*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    search.kill()
    search.communicate()
    while not (project.path / "mlflow.db").exists() or [run.info.status for run in project.runs()] != ["KILLED"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.long
def test_a_killed_search_goes_on_to_the_same_total(project):
    project.set(**{**QUICK, "train.epochs": 60, "tune.pruner": "none"})
    search = project.start("python", "-m", "src.tune", "--trials", "8")
    deadline = time.monotonic() + 300
    while len(children(project)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    search.send_signal(signal.SIGKILL)
    search.communicate()
    tune(project, "--trials", "8")
    trials = children(project)
    assert len(trials) == 8
    assert len({run.data.tags["trial"] for run in trials}) == 8
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert len({run.data.params["train.lr"] for run in trials}) == 8


def test_data_that_is_missing_or_stale_is_prepared_first(new_project):
    project = new_project()
    project.set(**QUICK)
    assert "dvc repro prepare" in tune(project, "--trials", "1")
    schema = project.path / "data/prepared/schema.json"
    values = files.read_sealed(schema)
    values["made_with"]["seed"] = 1
    files.write_sealed(schema, values)
    assert "dvc repro prepare" in tune(project, "--trials", "1")
    assert '"seed": 0' in schema.read_text()


def test_a_space_that_cannot_be_is_refused_before_anything_is_made(new_project):
    project = new_project(store=False)
    project.set(**{"tune.space": {"train.lr": {"low": 0.5, "high": 0.1}}})
    printed = tune(project, code=2)
    assert printed == "error: tune.space: train.lr: low 0.5 must be below high 0.1\n"
    assert not (project.path / "mlflow.db").exists()


def test_data_that_cannot_be_prepared_is_bad_input_told_once(new_project):
    project = new_project(store=False)
    project.set(**{"prepare.target": "nothing"})
    first, *rest = tune(project, code=2).splitlines()
    assert first.endswith("running dvc repro prepare")
    assert [line.startswith("error: prepare.target = 'nothing'") for line in rest] == [True]


def test_a_journal_that_is_broken_is_bad_input_and_left_alone(project):
    journal = project.path / "models/tune.journal"
    journal.write_text("not a journal\n")
    printed = tune(project, "--trials", "1", code=2)
    assert "tune.storage = 'models/tune.journal' cannot be used" in printed
    assert journal.read_text() == "not a journal\n"
