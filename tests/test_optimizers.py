from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from src.optimizers import OPTIMIZERS, SCHEDULES, learning_rate, unused
from src.params import Params, changed

# for each setting a value that is not its default: a new setting needs an entry here
OTHER = {
    "momentum": 0.5,
    "betas": [0.5, 0.9],
    "weight_decay": 0.1,
    "warmup_epochs": 7.5,
    "step_epochs": 7,
    "step_factor": 0.5,
}


def used(registry):
    """Every setting that some entry of the registry uses."""
    return sorted({name for entry in registry.values() for name in entry.uses})


def settings(**values):
    return changed(Params(), {f"train.{name}": value for name, value in values.items()}).train


@pytest.fixture(scope="module")
def tumours():
    """A small real problem: standardised inputs [569, 30], targets [569]."""
    inputs, targets = load_breast_cancer(return_X_y=True)
    inputs = torch.tensor(inputs, dtype=torch.float32)
    return (inputs - inputs.mean(0)) / inputs.std(0), torch.tensor(targets, dtype=torch.float32)


def train(name, train, problem, steps=20):
    """(loss before, loss after, weights after) of a logistic regression that starts away from 0."""
    inputs, targets = problem
    torch.manual_seed(0)
    model = nn.Linear(inputs.shape[1], 1)
    optimizer = OPTIMIZERS[name].build(model.parameters(), train)
    losses = []
    for _ in range(steps):
        loss = binary_cross_entropy_with_logits(model(inputs)[:, 0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1], model.weight.detach().clone()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_makes_the_loss_smaller(name, tumours):
    before, after, _ = train(name, settings(lr=0.05), tumours, steps=40)
    assert after < before / 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_learning_rate_matters_and_is_the_one_given(name, tumours):
    parameters = [nn.Parameter(torch.ones(2))]
    assert OPTIMIZERS[name].build(parameters, settings(lr=0.25)).param_groups[0]["lr"] == 0.25
    assert not torch.equal(train(name, settings(lr=0.01), tumours)[2], train(name, settings(lr=0.02), tumours)[2])


@pytest.mark.parametrize("setting", used(OPTIMIZERS))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_heeds_exactly_what_it_uses(name, setting, tumours):
    plain = train(name, settings(), tumours)[2]
    other = train(name, settings(**{setting: OTHER[setting]}), tumours)[2]
    assert torch.equal(plain, other) is (setting not in OPTIMIZERS[name].uses)


def test_adam_ignores_momentum_and_says_so(tumours):
    weights = [train("adam", settings(optimizer="adam", momentum=value), tumours)[2] for value in (0.0, 0.5, 0.99)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert "momentum" in unused(settings(optimizer="adam"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_unused_settings_are_all_that_the_choice_does_not_use(optimizer, schedule):
    found = unused(settings(optimizer=optimizer, schedule=schedule))
    chosen = {*OPTIMIZERS[optimizer].uses, *SCHEDULES[schedule].uses}
    assert sorted(found) == sorted({*used(OPTIMIZERS), *used(SCHEDULES)} - chosen)


def test_adamw_decays_weights_whatever_the_gradient():
    weights = nn.Parameter(torch.full((3,), 2.0))
    optimizer = OPTIMIZERS["adamw"].build([weights], settings(lr=0.1, weight_decay=0.5))
    weights.grad = torch.zeros(3)
    optimizer.step()
    assert weights.tolist() == pytest.approx([2.0 * (1 - 0.1 * 0.5)] * 3)


def test_sgd_weight_decay_is_an_l2_penalty():
    weights = nn.Parameter(torch.full((3,), 2.0))
    optimizer = OPTIMIZERS["sgd"].build([weights], settings(lr=0.1, weight_decay=0.5, momentum=0.0))
    weights.grad = torch.ones(3)
    optimizer.step()
    assert weights.tolist() == pytest.approx([2.0 - 0.1 * (1 + 0.5 * 2.0)] * 3)


def rates(schedule, steps_per_epoch=5, **values):
    """The learning rate of every step of a training, with peak 1."""
    train = settings(schedule=schedule, lr=1.0, **values)
    rate = learning_rate(train, steps_per_epoch)
    return [rate(step) for step in range(steps_per_epoch * train.epochs)]


@pytest.mark.parametrize("name", SCHEDULES)
@given(
    epochs=st.integers(1, 300),
    steps_per_epoch=st.integers(1, 50),
    warmup=st.floats(0, 0.999),
    place=st.floats(0, 1, exclude_max=True),
)
def test_a_rate_is_above_0_and_at_most_the_peak(name, epochs, steps_per_epoch, warmup, place):
    train = settings(schedule=name, epochs=epochs, warmup_epochs=warmup * epochs, lr=0.5)
    steps = steps_per_epoch * epochs
    for step in (0, int(place * steps), steps - 1):
        assert 0 < learning_rate(train, steps_per_epoch)(step) <= 0.5


@pytest.mark.parametrize("setting", used(SCHEDULES))
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_heeds_exactly_what_it_uses(name, setting):
    same = rates(name) == rates(name, **{setting: OTHER[setting]})
    assert same is (setting not in SCHEDULES[name].uses)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_length_of_an_epoch_does_not_move_a_rate_in_time(name):
    assert rates(name, steps_per_epoch=6)[::3] == pytest.approx(rates(name, steps_per_epoch=2))


def test_constant_is_constant():
    assert set(rates("constant")) == {1.0}


def test_cosine_warms_up_in_a_line_then_falls():
    found = rates("cosine", epochs=20, warmup_epochs=4.0)
    rise, fall = found[:21], found[20:]
    assert rise[1:] == pytest.approx([step / 20 for step in range(1, 21)])
    assert max(found) == found[20] == 1.0
    assert all(later < earlier for earlier, later in pairwise(fall))
    assert found[60] == pytest.approx(0.5)  # half way down
    assert found[-1] < 0.01


def test_cosine_without_warmup_starts_at_the_peak():
    assert rates("cosine", warmup_epochs=0.0)[0] == 1.0


def test_one_cycle_has_one_peak():
    found = rates("one_cycle", epochs=20)
    peak = found.index(max(found))
    assert (peak, found[peak]) == (30, 1.0)  # 30% of 100 steps
    assert found[0] == pytest.approx(1 / 25)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert len(set(found[peak:])) == len(found[peak:])


def test_step_drops_after_every_step_epochs():
    found = rates("step", epochs=9, step_epochs=3, step_factor=0.5)
    assert found == [1.0] * 15 + [0.5] * 15 + [0.25] * 15
