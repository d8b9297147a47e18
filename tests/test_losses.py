from typing import get_args

import pytest
import torch
from torch.nn import functional

from src.data.schema import Target
from src.errors import InputError
from src.losses import DEFAULT_LOSS, LOSSES, build, weights_of
from src.params import Params, changed
from src.sections import Task

CASES = [(name, task) for name, loss in LOSSES.items() for task in loss.tasks]


def settings(**values):
    return changed(Params(), {f"train.{key}": value for key, value in values.items()}).train


def batch(task, rows=7):
    """Outputs that need a gradient, and targets, as a model and the data give them."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, 4) if task == "classification" else (rows,)
    outputs = (2 * torch.randn(shape, generator=generator)).requires_grad_()
    if task == "classification":
        return outputs, torch.randint(4, (rows,), generator=generator)
    if task == "binary":
        return outputs, torch.randint(2, (rows,), generator=generator).float()
    return outputs, 2 * torch.randn(rows, generator=generator)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_loss_is_a_finite_scalar_with_a_gradient(name, task):
    outputs, targets = batch(task)
    loss = LOSSES[name].build()(outputs, targets)
    loss.backward()
    assert loss.shape == ()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()
    assert outputs.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_loss_is_the_mean_over_samples(name, task):
    outputs, targets = batch(task)
    loss = LOSSES[name].build()
    parts = [loss(outputs[part], targets[part]) * len(targets[part]) for part in (slice(0, 5), slice(5, 7))]
    assert loss(outputs, targets).item() == pytest.approx(sum(parts).item() / 7)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_following_the_gradient_makes_a_loss_smaller(name, task):
    outputs, targets = batch(task)
    loss = LOSSES[name].build()
    before = loss(outputs, targets)
    before.backward()
    assert loss(outputs - 0.1 * outputs.grad, targets) < before


@pytest.mark.parametrize(("name", "task"), CASES)
def test_extreme_outputs_give_a_finite_loss(name, task):
    outputs, targets = batch(task)
    assert LOSSES[name].build()(1e4 * outputs.detach(), targets).isfinite()


def cross_entropy(outputs, targets):
    return -(outputs - outputs.logsumexp(1, keepdim=True)).gather(1, targets[:, None]).mean()


def smoothed(outputs, targets):
    uniform = -(outputs - outputs.logsumexp(1, keepdim=True)).mean()
    return 0.9 * cross_entropy(outputs, targets) + 0.1 * uniform


def huber(outputs, targets):
    error = (outputs - targets).abs()
    return torch.where(error <= 1, 0.5 * error**2, error - 0.5).mean()


@pytest.mark.parametrize(
    ("name", "task", "formula"),
    [
        ("cross_entropy", "classification", cross_entropy),
        ("smoothed_cross_entropy", "classification", smoothed),
        ("bce_with_logits", "binary", lambda x, y: (functional.softplus(x) - x * y).mean()),
        ("mse", "regression", lambda x, y: ((x - y) ** 2).mean()),
        ("l1", "robust_regression", lambda x, y: (x - y).abs().mean()),
        ("huber", "robust_regression", huber),
    ],
)
def test_a_loss_is_its_formula(name, task, formula):
    outputs, targets = batch(task)
    assert LOSSES[name].build()(outputs, targets).item() == pytest.approx(formula(outputs, targets).item())


def test_every_task_has_a_default_that_fits_it():
    assert set(DEFAULT_LOSS) == set(get_args(Task)) - {"auto"}
    for task, name in DEFAULT_LOSS.items():
        assert task in LOSSES[name].tasks


@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for name, task in CASES if task in ("classification", "binary")]
)
def test_weights_of_classes_weigh_each_sample(name, task):
    outputs, targets = batch(task, rows=40)
    classes = list(range(4 if task == "classification" else 2))
    target = Target(name="y", classes=classes, counts=torch.bincount(targets.long()).tolist())
    plain = build(name, settings(), target)
    assert plain(outputs, targets) == LOSSES[name].build()(outputs, targets)
    chosen = {str(number): float(number + 1) for number in classes[1:]}  # class 0 is not named and counts 1
    parts = [
        plain(outputs[row : row + 1], targets[row : row + 1]).item() * (int(targets[row]) + 1)
        for row in range(len(targets))
    ]
    assert build(name, settings(class_weights=chosen), target)(outputs, targets).item() == pytest.approx(
        sum(parts) / len(parts), rel=1e-5
    )


def test_balanced_weights_give_every_class_the_same_say():
    weights = weights_of("balanced", ["a", "b"], [90, 10])
    assert weights == pytest.approx([100 / 180, 100 / 20])
    assert 90 * weights[0] == pytest.approx(10 * weights[1])


def test_a_weight_of_a_class_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"train.class_weights.c is no class. There are: a, b"):
        weights_of({"c": 2.0}, ["a", "b"], [1, 1])


def test_a_weight_of_positives_is_that_of_torch():
    outputs, targets = batch("binary", rows=40)
    target = Target(name="y", classes=["no", "yes"], counts=[20, 20])
    wanted = functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=torch.tensor(3.0))
    params = changed(Params(), {"task": "binary", "train.pos_weight": 3.0})
    assert build("bce_with_logits", params.train, target)(outputs, targets).item() == pytest.approx(wanted.item())
