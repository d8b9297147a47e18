"""The end of a search: what is best, what cannot be told from it, and by how much tuning has won."""

import optuna
import pytest
from optuna.trial import TrialState

from src.errors import InputError
from src.tune import report, study
from src.tune.objectives import Objective

LOSS, ACCURACY, PARAMETERS = (
    Objective("loss", "minimise"),
    Objective("accuracy", "maximise"),
    Objective("parameters", "minimise"),
)


def study_of(sought, *trials):
    """A study of completed trials: of each the values by seed of each objective."""
    directions = ["minimize" if objective.goal == "minimise" else "maximize" for objective in sought]
    made = optuna.create_study(directions=directions)
    for place, by_seed in enumerate(trials):
        named = dict(zip((objective.name for objective in sought), by_seed, strict=True))
        made.add_trial(
            optuna.trial.create_trial(
                params={"train.lr": 0.1 + place},
                distributions={"train.lr": optuna.distributions.FloatDistribution(0.0, 100.0)},
                values=[sum(values) / len(values) for values in by_seed],
                user_attrs={
                    "values": {"train.lr": 0.1 + place},
                    "by_seed": named,
                    "best_epochs": [3] * len(by_seed[0]),
                },
            )
        )
    made.set_user_attr(study.FIRST, 0)
    return made


def test_what_seeds_cannot_tell_apart_is_named_and_the_gain_has_its_interval():
    made = study_of(
        [LOSS],
        [[2.0, 2.2, 2.1, 2.1]],
        [[1.0, 1.2, 1.1, 1.1]],  # one less than the first, whatever the seed
        [[1.3, 1.0, 1.2, 0.98]],
    )
    result = report.summary(made, [LOSS], None)
    assert (result["best"]["trial"], result["alike"]) == (1, [2])
    assert result["gain"] == {"mean": pytest.approx(-1), "low": pytest.approx(-1), "high": pytest.approx(-1)}
    words = report.in_words(result)
    assert "best: trial 1, val loss 1.1 (trial 0: 2.1)" in words
    assert "against trial 0: -1 (95%: -1 to -1, over 4 seeds)" in words
    assert "these seeds cannot tell it from trial 2" in words
    mean, low, high = report.difference(made.trials[2], made.trials[1], "loss")
    # of (0.3, -0.2, 0.1, -0.12): mean 0.02, standard deviation 0.22568, and 3.182 is Student's t
    assert (mean, high - low) == (pytest.approx(0.02), pytest.approx(2 * 3.1824 * 0.22568 / 2, rel=1e-3))


def test_one_seed_says_nothing_of_chance():
    made = study_of([LOSS], [[2.0]], [[1.0]])
    result = report.summary(made, [LOSS], None)
    assert (result["gain"], result["alike"]) == (None, [])
    assert "against" not in report.in_words(result)


def test_another_trial_can_be_taken_but_none_that_did_not_complete():
    made = study_of([LOSS], [[2.0]], [[1.0]])
    made.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, user_attrs={"values": {}}))
    report.check_choice(made, 0)
    result = report.summary(made, [LOSS], 0)
    assert (result["best"]["trial"], result["taken"]["trial"]) == (1, 0)
    words = report.in_words(result)
    assert "best: trial 1, val loss 1 (trial 0: 2)\ntaken, by --trial: trial 0, val loss 2\n  train.lr: 0.1" in words
    for number, how in ((2, "it is pruned"), (99, "there is none with this number")):
        message = rf"--trial {number}: {how}, and one that has completed is wanted\. Those that did: 0, 1"
        with pytest.raises(InputError, match=message):
            report.check_choice(made, number)


def test_the_table_has_a_row_for_every_trial():
    made = study_of([LOSS], [[2.0, 4.0]], [[1.0, 1.0]])
    attrs = {"values": {"train.lr": 9.0}, "by_seed": None, "best_epochs": [1, 2]}
    made.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, user_attrs=attrs))
    made.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={**attrs, "error": "too hot"}))
    table = report.trials(made, [LOSS])
    assert table["state"].to_list() == ["complete", "complete", "pruned", "fail"]
    assert table["val loss"].to_list()[:2] == [3.0, 1.0]
    assert table["val loss standard error"].to_list()[:2] == [1.0, 0.0]
    assert table["val loss"][2:].isna().all()
    assert table["train.lr"].to_list() == [0.1, 1.1, 9.0, 9.0]
    assert table["error"].to_list()[3] == "too hot"


def test_a_front_has_what_nothing_is_better_than_in_all():
    sought = [ACCURACY, PARAMETERS]
    made = study_of(sought, [[0.9], [5000.0]], [[0.8], [10.0]], [[0.7], [20.0]], [[0.95], [9000.0]])
    result = report.summary(made, sought, None)
    assert [facts["trial"] for facts in result["front"]] == [3, 0, 1]
    words = report.in_words(result)
    assert "best: trial 3, val accuracy 0.95, parameters 9,000 (trial 0: 0.9)" in words
    assert "Pareto front: 3 trials; --trial N takes another than 3" in words
    assert [column.header for column in report.ranking(made, sought).columns][2:4] == ["val accuracy", "parameters"]
