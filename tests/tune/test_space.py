import optuna
import pytest

from src.params import Params, changed
from src.sections import Range
from src.tune import space

SPACE = {
    "train.lr": {"low": 1e-4, "high": 0.3, "log": True},
    "train.batch_size": {"low": 8.0, "high": 64.0},
    "train.optimizer": ["sgd", "adam"],
    "model.dropout": {"low": 0.0, "high": 0.5},
}


def params_with(values):
    return changed(Params(), {"tune.space": values})


def test_suggested_values_lie_in_the_space_and_are_params():
    params = params_with(SPACE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [space.suggest(study.ask(), params) for _ in range(50)]
    for values in seen:
        changed(params, values)  # each is a value that its param can take
        assert 1e-4 <= values["train.lr"] <= 0.3
        assert isinstance(values["train.batch_size"], int)
        assert float(f"{values['train.lr']:.4g}") == values["train.lr"]
    assert {values["train.optimizer"] for values in seen} == {"sgd", "adam"}


def test_the_default_space_is_fine():
    space.check(Params())
    assert space.current(Params()) == {"train.lr": 0.002, "train.optimizer": "adamw"}


@pytest.mark.parametrize(
    "values", [{"train.lr": [0.5, 0.1]}, {"train.lr": {"low": 0.01, "high": 0.1}}, {"train.clip_norm": [1.0, 2.0]}]
)
def test_current_params_outside_the_space_have_no_trial(values):
    assert space.current(params_with(values)) is None


def test_a_range_reads_as_a_range_and_a_list_as_choices():
    read = params_with(SPACE).tune.space
    assert read["train.lr"] == Range(low=1e-4, high=0.3, log=True)
    assert read["train.optimizer"] == ["sgd", "adam"]
