import math

import pytest
import torch

from src import models
from src.errors import InputError
from src.models import ACTIVATIONS, MODELS
from src.params import Params, changed

SHAPES = [(1,), (13,), (1, 1, 1), (1, 8, 8), (3, 5, 7), (2, 1, 9)]
FITTING = [(name, shape) for name, entry in MODELS.items() for shape in SHAPES if entry.ndim in (None, len(shape))]
OTHERS = [(name, shape) for name in MODELS for shape in SHAPES if (name, shape) not in FITTING]


def build(name, shape, outputs, **values):
    torch.manual_seed(0)
    settings = changed(Params(), {f"model.{key}": value for key, value in values.items()}).model
    return models.build(name, shape, outputs, settings)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("name", "shape"), FITTING)
def test_a_model_maps_a_batch_to_one_row_of_outputs_a_sample(name, shape, outputs):
    model = build(name, shape, outputs)
    for rows in (2, 5):
        found = model.train()(torch.randn(rows, *shape))
        assert found.shape == ((rows,) if outputs == 1 else (rows, outputs))
        assert found.dtype == torch.float32
        assert found.isfinite().all()
    alone = model.eval()(torch.randn(1, *shape))
    assert alone.shape == ((1,) if outputs == 1 else (1, outputs))


@pytest.mark.parametrize(("name", "shape"), FITTING)
def test_the_gradient_reaches_every_parameter(name, shape):
    model = build(name, shape, 3)
    model(torch.randn(16, *shape)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize(("name", "shape"), FITTING)
def test_samples_do_not_see_each_other_in_evaluation(name, shape):
    model = build(name, shape, 3).eval()
    inputs = torch.randn(6, *shape)
    together = model(inputs)
    assert torch.allclose(together, torch.cat([model(row[None]) for row in inputs]), atol=1e-5)
    assert torch.equal(together, model(inputs))  # dropout is off


@pytest.mark.parametrize(("name", "shape"), FITTING)
def test_the_seed_decides_the_first_weights(name, shape):
    first, second = build(name, shape, 2).state_dict(), build(name, shape, 2).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "shape"), OTHERS)
def test_data_that_a_model_cannot_take_is_refused_with_those_that_can(name, shape):
    with pytest.raises(InputError) as caught:
        build(name, shape, 2)
    message = str(caught.value)
    assert message.startswith(f"model.name = '{name}' cannot take this data")
    assert str(list(shape)) in message
    able = [other for other in MODELS if (other, shape) in FITTING]
    assert message.endswith(f"use {', '.join(able)}")


def test_a_cnn_on_a_table_is_refused():
    with pytest.raises(InputError, match=r"For tables use linear, mlp"):
        build("cnn", (13,), 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_the_activation_is_the_one_asked_for(name, activation):
    kinds = {type(module) for module in build(name, (1, 8, 8), 3, activation=activation).modules()}
    assert kinds & set(ACTIVATIONS.values()) == {ACTIVATIONS[activation]}


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_dropout_is_the_share_asked_for(name):
    model = build(name, (1, 8, 8), 3, dropout=0.25)
    shares = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert shares == {0.25}


def test_widths_and_channels_are_those_asked_for():
    def shapes(model):
        return [tuple(value.shape) for key, value in model.named_parameters() if key.endswith("weight")]

    assert shapes(build("mlp", (4,), 3, widths=[6, 5])) == [(6, 4), (5, 6), (3, 5)]
    assert shapes(build("mlp", (4,), 3, widths=[])) == shapes(build("linear", (4,), 3)) == [(3, 4)]
    assert shapes(build("cnn", (1, 8, 8), 3, channels=[6])) == [(6, 1, 3, 3), (6,), (3, 24)]
    assert shapes(build("resnet", (1, 8, 8), 3, channels=[6]))[-1] == (3, 6)


def test_a_linear_model_is_one_matrix_and_a_bias():
    model = build("linear", (2, 3, 4), 5)
    inputs = torch.randn(7, 2, 3, 4)
    weight, bias = model.parameters()
    assert weight.shape == (5, math.prod((2, 3, 4)))
    assert torch.allclose(model(inputs), inputs.flatten(1) @ weight.T + bias, atol=1e-6)
