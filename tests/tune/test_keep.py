"""The weights of the best trials are kept on request, and they are those that gave the best values."""

import pytest
import torch

from src import model_file
from src.data.prepared import load
from src.tune import kept

pytestmark = pytest.mark.pipeline


def loss_of(project, folder, monkeypatch):
    """On the validation split, where it is what model.json says; and the epoch that this says."""
    monkeypatch.chdir(project.path)
    trained = model_file.load(folder)
    val = load("val", trained.schema)
    with torch.no_grad():
        logits = trained.network(val.inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, val.targets).item()
    assert loss == pytest.approx(trained.spec["val"]["loss"], rel=1e-5)
    return loss, trained.spec["epoch"]


@pytest.mark.parametrize(("lanes", "seeds"), [(1, 1), (3, 1), (2, 2)])
def test_the_best_trials_have_their_weights_kept(new_project, lanes, seeds, monkeypatch):
    project = new_project()
    project.set(
        **{
            "prepare.source": "breast_cancer",
            "task": "binary",
            "model.widths": [64],
            "train.epochs": 12,
            "train.schedule": "constant",
            "tune.space": {"train.lr": {"low": 0.02, "high": 0.1, "log": True}},  # overfits: the last is not the best
            "tune.pruner": "none",
            "tune.trials": 6,
            "tune.lanes": lanes,
            "tune.seeds": seeds,
            "tune.keep": 2,
        }
    )
    printed = project.run("python", "-m", "src.tune")
    found = project.report("tune")
    (study,) = (project.path / "models/tune.weights").iterdir()
    names = {folder.name for folder in study.iterdir()}
    best = f"trial-{found['best']['trial']}"
    assert len(names) == 2
    assert best in names
    (line,) = (line for line in printed.splitlines() if line.startswith("weights, of the best first: "))
    assert f"models/tune.weights/{study.name}/{best}" in line
    losses, epochs = [], []
    for place in range(seeds):
        number = found["best"]["trial"] * seeds + place
        loss, epoch = loss_of(project, kept.of_training(study, number, seeds), monkeypatch)
        losses.append(loss)
        epochs.append(epoch)
    assert sum(losses) / seeds == pytest.approx(found["best"]["values"][0], rel=1e-5)
    assert min(epochs) < 12
    assert not list(project.path.glob("models/tune.checkpoints/*/*"))
    (parent,) = [run for run in project.runs() if run.data.tags.get("role") == "study"]
    told = [item.path for item in project.client.list_artifacts(parent.info.run_id, "weights")]
    assert told == sorted(f"weights/{name}" for name in names)


def test_only_trials_that_have_ended_and_are_not_among_the_best_lose_their_weights(tmp_path):
    for trial in (3, 5, 8, 9, 12):
        kept.of_trial(tmp_path, trial).mkdir()
    taken_over, running = 1, 12
    ranked = [taken_over, 8, 3, 9, 5]
    assert [path.name for path in kept.best(tmp_path, ranked, 2)] == ["trial-8", "trial-3"]
    kept.remove_others(tmp_path, ranked, ranked, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"trial-8", "trial-3", f"trial-{running}"}


def test_a_trial_that_fails_leaves_no_weights(new_project):
    project = new_project()
    space = {"train.lr": [0.001, 100.0], "train.optimizer": ["sgd", "adam"]}
    grid = {"tune.space": space, "tune.sampler": "grid", "tune.pruner": "none", "tune.trials": 4}
    few = {"prepare.source": "diabetes", "task": "regression", "train.epochs": 3, "train.warmup_epochs": 0.0}
    project.set(**{**few, **grid, "train.patience": 1, "tune.seeds": 2, "tune.keep": 4})
    printed = project.run("python", "-m", "src.tune")
    found = project.report("tune")["trials"]
    assert found["fail"]
    assert found["complete"] + found["fail"] == 4
    (study,) = (project.path / "models/tune.weights").iterdir()
    assert len(list(study.iterdir())) == found["complete"]
    assert all(len(list(folder.glob("seed-*/model.json"))) == 2 for folder in study.iterdir())
    assert f"of {found['complete']} trials" in printed
