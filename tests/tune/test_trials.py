"""What the trainings of a trial come to, told epoch by epoch as workers tell it."""

import math
from types import SimpleNamespace

import pytest

from src.params import Params, changed
from src.tune.trials import Job, Running, Training, standard_error


def trial_of(seeds):
    return Running(SimpleNamespace(number=7), {"train.lr": 0.1}, [Training() for _ in range(seeds)])


def hear(training, *losses, epochs=None):
    """Tell a training of more epochs; it is over once it has `epochs`."""
    for loss in losses:
        number = len(training.records) + 1
        before = [record["val/loss"] for record in training.records]
        best = 1 + min(range(number), key=[*before, loss].__getitem__)
        training.hear(
            {
                "record": {"epoch": number, "val/loss": loss, "train/loss": 2 * loss},
                "best_epoch": best,
                "over": number == epochs,
                "costs": {"parameters": 42.0} if number == epochs else {},
            }
        )


def test_seeds_that_run_together_are_judged_by_their_mean_and_one_that_stopped_by_its_last_epoch():
    trial = trial_of(3)
    hear(trial.trainings[0], 3.0)
    hear(trial.trainings[1], 1.0)
    hear(trial.trainings[2], 2.0, epochs=1)
    assert trial.news("loss", "epoch") == [(1, 2.0)]
    trial.reported = 1
    assert trial.news("loss", "epoch") == []
    hear(trial.trainings[0], 2.0)
    hear(trial.trainings[1], 5.0)
    assert trial.news("loss", "epoch") == [(2, 3.0)]


def test_a_seed_that_comes_later_is_no_news_at_epochs_that_are_known():
    trial = trial_of(2)
    hear(trial.trainings[0], 3.0, 2.0, epochs=2)
    assert trial.news("loss", "epoch") == [(1, 3.0), (2, 2.0)]
    trial.reported = 2
    hear(trial.trainings[1], 9.0)
    assert trial.news("loss", "epoch") == []


def test_wilcoxon_is_told_of_each_seed_once_it_is_over():
    trial = trial_of(4)
    hear(trial.trainings[0], 3.0, 1.0, 2.0, epochs=3)
    assert trial.news("loss", "seed") == [(1, 1.0)]
    trial.reported = 1
    hear(trial.trainings[1], 5.0, 4.0)
    assert trial.news("loss", "seed") == []
    hear(trial.trainings[1], 3.0, epochs=3)
    assert trial.news("loss", "seed") == [(2, 3.0)]


def test_a_trial_whose_worker_died_tells_nothing_that_is_known():
    trial = trial_of(1)
    hear(trial.trainings[0], 3.0, 2.0)
    trial.reported = 2
    trial.begin_again()
    hear(trial.trainings[0], 3.0, 2.0)
    assert (trial.deaths, trial.news("loss", "epoch")) == (1, [])
    hear(trial.trainings[0], 1.0)
    assert trial.news("loss", "epoch") == [(3, 1.0)]


def test_what_a_trial_comes_to_is_that_of_the_best_epoch_of_each_seed():
    trial = trial_of(2)
    hear(trial.trainings[0], 3.0, 1.0, 2.0, epochs=3)
    hear(trial.trainings[1], 5.0, 4.0, 2.0, epochs=3)
    results = trial.results(["loss", "parameters"])
    assert results == {"loss": [1.0, 2.0], "parameters": [42.0, 42.0]}
    told = trial.told("complete", ["loss", "parameters"], None)
    assert told.best == 1.5
    assert told.metrics["best_val/loss_standard_error"] == pytest.approx(0.5)
    assert told.metrics["parameters"] == 42.0
    assert [record["val/loss"] for record in told.records] == [4.0, 2.5, 2.0]
    assert [record["epoch"] for record in told.records] == [1, 2, 3]
    trial.trainings[1].best_epoch = 0  # its monitor was never a number
    assert trial.results(["loss"]) is None
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / 3**0.5)


@pytest.mark.parametrize(("pruner", "rounds"), [("median", [[21, 22, 23]]), ("wilcoxon", [[21], [22], [23]])])
def test_a_job_has_a_training_for_each_seed_and_one_after_the_other_for_wilcoxon(pruner, rounds):
    params = changed(Params(), {"seed": 5, "tune.seeds": 3, "tune.pruner": pruner})
    job = Job({7: trial_of(3)})
    handed = job.rounds(params)
    assert [[training["number"] for training in together] for together in handed] == rounds
    values = [training["values"] for together in handed for training in together]
    assert values == [{"train.lr": 0.1, "seed": seed} for seed in (5, 6, 7)]


def test_mlflow_is_told_the_other_metrics_of_the_best_epoch_but_a_trial_is_judged_by_what_is_sought_alone():
    trial = trial_of(1)
    for epoch, loss, accuracy in ((1, 2.0, 0.5), (2, 1.0, 0.7), (3, 3.0, 0.9)):
        record = {"epoch": epoch, "val/loss": loss, "val/accuracy": accuracy}
        trial.trainings[0].hear({"record": record, "best_epoch": min(epoch, 2), "over": epoch == 3, "costs": {}})
    told = trial.told("complete", ["loss"], None)
    assert told.metrics == {"best_val/loss": 1.0, "best_val/accuracy": 0.7}
    assert told.best == 1.0
    trial.trainings[0].records[1]["val/loss"] = math.inf
    told = trial.told("fail", ["loss"], "not a number")
    assert (told.metrics, told.best) == ({"best_val/accuracy": 0.7}, None)
