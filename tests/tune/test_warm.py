"""A new study begins with the trials of earlier ones, as far as they are trials of its own."""

import pytest
from optuna.trial import TrialState

from src.params import Params, changed
from src.tune import space, study, warm

SPACE = {
    "train.lr": {"low": 1e-3, "high": 0.3, "log": True},
    "train.optimizer": ["sgd", "adamw"],
    "train.momentum": {"low": 0.5, "high": 0.95, "when": {"train.optimizer": "sgd"}},
}
BEFORE = changed(Params(), {"tune.sampler": "random", "tune.space": SPACE, "tune.pruner": "none"})


@pytest.fixture
def schema(prepared_data):
    return prepared_data("wine")[1].schema


@pytest.fixture
def earlier(schema):
    """The trials of a study of 12, one pruned and one failed."""
    with study.opened(BEFORE, schema) as tuning:
        for number in range(12):
            trial = tuning.ask()
            trial.set_user_attr("values", space.suggest(trial, BEFORE))
            trial.set_user_attr("best_epochs", [1])
            trial.report(1.0 + number, 1)
            state = {4: TrialState.PRUNED, 5: TrialState.FAIL}.get(number, TrialState.COMPLETE)
            tuning.study.tell(trial, 1.0 + number if state == TrialState.COMPLETE else None, state)
        tuning.flush()
        return tuning.study.get_trials()


def taken(params, schema):
    with study.opened(params, schema, takes_over=True) as tuning:
        assert not study.finished(tuning.study)
        return [trial for trial in tuning.study.get_trials() if warm.ORIGIN in trial.user_attrs]


def test_those_inside_the_new_space_are_taken_with_all_that_is_known_of_them(earlier, schema):
    narrow = {**SPACE, "train.lr": {"low": 1e-3, "high": 0.02, "log": True}}
    found = taken(changed(BEFORE, {"tune.space": narrow}), schema)
    inside = [
        trial for trial in earlier if trial.user_attrs["values"]["train.lr"] <= 0.02 and trial.state != TrialState.FAIL
    ]
    assert 2 < len(found) < 11
    assert [trial.user_attrs["values"] for trial in found] == [trial.user_attrs["values"] for trial in inside]
    assert [(trial.state, trial.values) for trial in found] == [(trial.state, trial.values) for trial in inside]
    assert all(trial.intermediate_values == own.intermediate_values for trial, own in zip(found, inside, strict=True))


def test_a_param_that_is_no_longer_tuned_has_to_have_been_what_it_is_now(earlier, schema):
    fixed = {key: allowed for key, allowed in SPACE.items() if key == "train.lr"}
    params = changed(BEFORE, {"tune.space": fixed, "train.optimizer": "adamw"})
    found = taken(params, schema)
    adamw = [
        trial for trial in earlier if trial.params["train.optimizer"] == "adamw" and trial.state != TrialState.FAIL
    ]
    assert len(found) == len(adamw) > 0
    assert all(trial.params.keys() == {"train.lr"} for trial in found)


@pytest.mark.parametrize("change", [{"train.epochs": 7}, {"tune.seeds": 2}, {"tune.objectives": ["accuracy"]}])
def test_none_are_taken_that_were_trained_or_judged_differently(earlier, schema, change, capsys):
    assert taken(changed(BEFORE, {"tune.space": {"train.lr": SPACE["train.lr"]}, **change}), schema) == []
    assert "no study has trials that fit" in capsys.readouterr().err


def test_the_current_params_are_not_tried_again_when_a_trial_with_them_was_taken(earlier, schema):
    params = changed(BEFORE, {"tune.space": {**SPACE, "train.schedule": ["cosine", "constant"]}})
    with study.opened(params, schema, takes_over=True) as tuning:
        first = study.first(tuning.study)
        assert first.user_attrs["values"] == space.current(params)
        assert all(trial.state != TrialState.WAITING for trial in tuning.study.trials)
    again = changed(params, {"train.lr": 0.0123})
    with study.opened(again, schema) as tuning:  # the same study, which has begun
        assert study.first(tuning.study).number == first.number
