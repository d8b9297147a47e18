"""What can be sought, and what not."""

import pytest
import torch

from src import models
from src.errors import InputError
from src.params import Params, changed
from src.tune import objectives


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tune.objectives": ["acuracy"]}, "task classification has no acuracy. Did you mean accuracy?"),
        ({"tune.objectives": ["rmse"]}, "task classification has no rmse"),
        ({"tune.objectives": ["latency", "loss"]}, "begin with a metric, and name each once"),
        ({"tune.objectives": ["loss", "loss"]}, "begin with a metric, and name each once"),
        ({"tune.objectives": ["loss", "latency"]}, "tune.pruner = 'median' goes by one number"),
        (
            {"tune.objectives": ["loss", "latency"], "tune.pruner": "none", "tune.sampler": "cmaes"},
            "tune.sampler = 'cmaes' goes by one number",
        ),
        ({"tune.pruner": "wilcoxon", "tune.seeds": 4}, "needs tune.seeds of 5 at least, not 4"),
    ],
)
def test_objectives_that_cannot_be_are_refused(values, message):
    with pytest.raises(InputError) as caught:
        objectives.check(changed(Params(), values))
    assert message in str(caught.value)


def test_the_monitor_is_what_is_sought_unless_something_else_is_named():
    assert objectives.of(changed(Params(), {"train.monitor": "accuracy"})) == [("accuracy", "maximise")]
    params = changed(Params(), {"tune.objectives": ["macro_f1", "parameters", "latency"], "tune.pruner": "none"})
    objectives.check(params)
    assert objectives.of(params) == [("macro_f1", "maximise"), ("parameters", "minimise"), ("latency", "minimise")]
    assert [objective.label for objective in objectives.of(params)] == ["val macro_f1", "parameters", "latency"]


def test_costs_are_those_of_the_network():
    small, large = (
        models.build("mlp", (13,), 3, changed(Params(), {"model.widths": widths}).model) for widths in ([4], [2048] * 4)
    )
    one = torch.zeros(1, 13)
    assert objectives.COSTS["parameters"](small, one) == 13 * 4 + 4 + 4 * 3 + 3
    assert 0 < objectives.COSTS["latency"](small, one) < objectives.COSTS["latency"](large, one)
