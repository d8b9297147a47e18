import optuna
import pytest

from src.errors import InputError
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


def test_a_choice_may_be_a_list_or_null_and_a_condition_may_name_it():
    params = params_with(
        {
            "model.widths": [[64], [128, 64], [256, 128]],
            "train.clip_norm": [None, 1.0],
            "train.betas": {"choices": [[0.9, 0.999], [0.8, 0.99]], "when": {"model.widths": [[64]]}},
        }
    )
    space.check(params)
    assert space.current(params) == {"model.widths": [256, 128], "train.clip_norm": None}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(
        {"model.widths": space.stored([64], params.tune.space["model.widths"]), "train.clip_norm": None}
    )
    asked = study.ask()
    first = space.suggest(asked, params)
    assert (first["model.widths"], first["train.clip_norm"], "train.betas" in first) == ([64], None, True)
    assert asked.params["model.widths"] == "[64]"  # Optuna's stores have no lists
    betas = [[0, 0.99], [0.9, 0.999]]
    assert space.stored([0.0, 0.99], betas) == "[0, 0.99]"  # as it is written, whatever the param makes of it
    for _ in range(20):
        values = space.suggest(study.ask(), params)
        changed(params, values)
        assert ("train.betas" in values) == (values["model.widths"] == [64])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tune.space": {}}, "tune.space is empty"),
        ({"tune.space": {"train.lrr": [0.1]}}, "train.lrr is no model or train param. Did you mean train.lr?"),
        ({"tune.space": {"train.lr": {"low": -1.0, "high": 1.0}}}, "train.lr = -1.0: must be greater than 0"),
        ({"tune.space": {"train.lr": {"low": 0.5, "high": 0.1}}}, "low 0.5 must be below high 0.1"),
        ({"tune.space": {"train.optimizer": ["adm"]}}, "Did you mean adam?"),
        ({"tune.space": {"train.optimizer": []}}, "train.optimizer has no choices"),
        ({"tune.space": {"train.optimizer": {"low": 0.1, "high": 1.0}}}, "is no number: give a list of choices"),
        ({"tune.sampler": "grid"}, "train.lr: for tune.sampler grid give a step, or a list of choices"),
        ({"tune.space": {"train.lr": {"low": 0.1, "high": 1.0, "step": 2.0}}}, "step 2 is larger than the range"),
        (
            {"tune.space": {"train.momentum": {"low": 0.1, "high": 0.9, "when": {"train.optimizr": "sgd"}}}},
            "its condition names train.optimizr, which is not tuned",
        ),
        ({"tune.space": {"train.optimizer": {"choices": []}}}, "train.optimizer has no choices"),
        ({"tune.space": {"model.widths": [[64], [0]]}}, "model.widths.0 = 0: must be greater than or equal to 1"),
        ({"tune.space": {"train.monitor": ["loss", "accuracy"]}}, "train.monitor is not to be tuned"),
        ({"tune.space": {"prepare.source": ["iris"]}}, "prepare.source is no model or train param"),
        (
            {
                "tune.space": {
                    "model.widths": [[64], [8]],
                    "train.lr": {"low": 0.1, "high": 1.0, "when": {"model.widths": [64]}},
                }
            },
            "model.widths is 64, which is never tried: a list is one of several in the condition, [[64]]",
        ),
        ({"tune.space": {"model.widths": [[64], {"a": 1}]}}, "model.widths.1 = {'a': 1}: must be a number, a word"),
        (
            {
                "tune.space": {
                    "train.optimizer": {"choices": ["sgd"], "when": {"train.schedule": "step"}},
                    "train.schedule": {"choices": ["step"], "when": {"train.optimizer": "sgd"}},
                }
            },
            "the conditions go round in a circle",
        ),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(values, message):
    with pytest.raises(InputError) as error:
        space.check(changed(Params(), values))
    mistakes = str(error.value).removeprefix("params has 1 mistake:\n  ")
    assert message in mistakes
    assert "\n" not in mistakes
