import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from src import device, loop
from src.data.batches import Batches, generator_of, shuffled
from src.errors import RunError
from src.optimizers import OPTIMIZERS
from src.training import assemble


def measure_nothing(outputs, targets):
    return [{} for _ in outputs]


def trainer_of(model, lr=0.1, clip_norm=None, loss=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loss = loss or nn.CrossEntropyLoss()
    return loop.Trainer(model, loss, optimizer, lambda step: lr, measure_nothing, clip_norm=clip_norm)


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_an_epoch_is_the_tutorial_loop_to_the_last_bit(prepared_data, optimizer):
    params, data = prepared_data("wine", **{"train.optimizer": optimizer, "train.schedule": "constant"})
    trainer, train, _ = assemble(params, data)
    for number in (1, 2):
        loop.train_epoch(trainer, train, number)

    plain, same_batches, _ = assemble(params, data)
    model, optimizer = plain.model.train(), plain.optimizer
    for number in (1, 2):
        for inputs, targets in same_batches.epoch(number):
            outputs = model(inputs)
            loss = cross_entropy(outputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.equal(weights_of(trainer.model), weights_of(model))


class Double(nn.Module):
    """A network in float64 for inputs in float32."""

    def __init__(self, network):
        super().__init__()
        self.network = network.double()

    def forward(self, inputs):
        return self.network(inputs.double())


def in_float64(params, data):
    """A trainer in float64 and its batches; rounding is then too small to hide a difference."""
    trainer, train, val = assemble(params, data)
    for batches in (train, val):
        batches.targets = batches.targets.double() if batches.targets.is_floating_point() else batches.targets
    model = Double(trainer.model)
    optimizer = OPTIMIZERS[params.train.optimizer].build(model.parameters(), params.train)
    return replace(trainer, model=model, optimizer=optimizer), train, val


PLAIN = {
    "sgd": lambda weights, train: torch.optim.SGD(weights, momentum=train.momentum, weight_decay=train.weight_decay),
    "adam": lambda weights, train: torch.optim.Adam(weights, betas=train.betas, foreach=False),
    "adamw": lambda weights, train: torch.optim.AdamW(weights, betas=train.betas, weight_decay=train.weight_decay),
}


def plainly(params, data):
    """The losses of training and validation as the loop of the tutorials gives them: no batch gathered ahead, nothing
    scaled before its turn, an optimizer that is not fused."""
    trainer, train, val = in_float64(params, data)
    optimizer = PLAIN[params.train.optimizer](trainer.model.parameters(), params.train)
    mean, std = data.schema.scale if data.train.inputs.dtype == torch.uint8 else (0.0, 1.0)
    step = 0
    for number in range(1, params.train.epochs + 1):
        losses = []
        order = shuffled(len(train.targets), generator_of(params.seed, number))
        for rows in (order[start:stop] for start, stop in train.bounds):
            optimizer.param_groups[0]["lr"] = trainer.lr(step)
            optimizer.zero_grad()
            outputs = trainer.model.train()((data.train.inputs[rows].float() - mean) / std)
            loss = trainer.loss(outputs, train.targets[rows])
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(rows)
            step += 1
        with torch.no_grad():
            outputs = trainer.model.eval()((data.val.inputs.float() - mean) / std)
            yield sum(losses) / len(losses), trainer.loss(outputs, val.targets).item()


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize(
    ("source", "task", "model"),
    [
        ("digits", "classification", "mlp"),
        ("digits", "classification", "cnn"),
        ("digits", "classification", "resnet"),
        ("breast_cancer", "binary", "mlp"),
        ("diabetes", "regression", "mlp"),
        ("diabetes", "robust_regression", "linear"),
    ],
)
def test_epochs_are_those_of_the_plain_loop_to_rounding(prepared_data, source, task, model, optimizer):
    changes = {"model.name": model, "model.channels": [4, 8], "train.optimizer": optimizer, "train.epochs": 3}
    params, data = prepared_data(source, task, **changes)
    trainer, train, val = in_float64(params, data)
    epochs = list(loop.fit(trainer, train, val, 1, params.train.epochs))
    assert [(epoch.train["loss"], epoch.val["loss"]) for epoch in epochs] == [
        (pytest.approx(train_loss, rel=1e-9), pytest.approx(val_loss, rel=1e-9))
        for train_loss, val_loss in plainly(params, data)
    ]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_ragged_last_batch_changes_nothing(prepared_data, size):
    params, data = prepared_data("wine")
    model = assemble(params, data)[0].model.double().eval()
    inputs, targets = data.train.inputs.double(), data.train.targets
    _, _, mean = loop.evaluate(model, Batches(inputs, targets, size), nn.CrossEntropyLoss(), nullcontext())
    with torch.no_grad():
        each = cross_entropy(model(inputs), targets, reduction="none")
    assert mean == pytest.approx(each.mean().item(), rel=1e-13)


def test_the_training_loss_is_a_mean_over_samples():
    inputs, targets = torch.tensor([[0.0], [0.0], [0.0]]), torch.tensor([1.0, 1.0, 4.0])
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0))  # gives 0, and has no gradient there
    trainer = trainer_of(model, loss=nn.MSELoss())
    batches = Batches(inputs, targets, 2)
    losses = loop.train_epoch(trainer, batches, 1)
    assert loop.weighted_mean(losses, batches.sizes) == pytest.approx((1 + 1 + 16) / 3)


def test_evaluate_keeps_the_order_of_rows_and_the_weights(prepared_data):
    params, data = prepared_data("wine")
    trainer, _, _ = assemble(params, data)
    before = weights_of(trainer.model)
    batches = Batches(data.val.inputs, data.val.targets, 10)
    outputs, targets, _ = loop.evaluate(trainer.model, batches, trainer.loss, nullcontext())
    assert torch.equal(targets, data.val.targets)
    assert torch.allclose(outputs, trainer.model(data.val.inputs), atol=1e-6)
    assert torch.equal(weights_of(trainer.model), before)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_a_loss_that_is_not_finite_stops_at_once_and_says_where():
    inputs, targets = torch.randn(400, 3), torch.randn(400) * 1e3
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    trainer = trainer_of(model, lr=1e6, loss=nn.MSELoss())
    batches = Batches(inputs, targets, 4)
    with pytest.raises(RunError, match=r"the loss is (inf|nan) in epoch 1, step \d+, at learning rate 1e\+06") as error:
        loop.train_epoch(trainer, batches, 1)
    step = int(str(error.value).split("step ")[1].split(",")[0])
    assert 1 < step < len(batches)


def test_the_first_step_that_is_not_finite_is_the_one_named():
    losses = [torch.tensor(value) for value in (1.0, 2.0, math.nan, math.inf)]
    with pytest.raises(RunError, match=r"the loss is nan in epoch 3, step 13, at learning rate 0.12"):
        loop.check_finite(torch.stack(losses), 10, 3, lambda step: step / 100)


def test_clipping_bounds_the_norm_of_the_gradient():
    torch.manual_seed(0)
    inputs, targets = torch.randn(8, 3), torch.randn(8) * 1e4
    for clip_norm, bounded in ((0.5, True), (None, False)):
        model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
        trainer = trainer_of(model, lr=1e-9, clip_norm=clip_norm, loss=nn.MSELoss())
        loop.train_epoch(trainer, Batches(inputs, targets, 8), 1)
        norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
        assert (norm <= 0.5001) == bounded


@pytest.mark.parametrize("parts", [2, 3, 7, 1000])
@pytest.mark.parametrize(("source", "task"), [("wine", "classification"), ("diabetes", "regression")])
def test_parts_of_a_batch_add_up_to_it(prepared_data, source, task, parts):
    losses = []
    for accumulate in (1, min(parts, 1024)):
        changes = {"train.accumulate": accumulate, "train.batch_size": 50, "train.clip_norm": 1.0, "model.dropout": 0.0}
        params, data = prepared_data(source, task, **changes)
        trainer, train, val = in_float64(params, data)
        losses.append([epoch.record() for epoch in loop.fit(trainer, train, val, 1, 4)])
    for whole, in_parts in zip(*losses, strict=True):
        assert in_parts["train/loss"] == pytest.approx(whole["train/loss"], rel=1e-10)
        assert in_parts["val/loss"] == pytest.approx(whole["val/loss"], rel=1e-10)


def test_no_part_is_of_one_sample(prepared_data):
    params, data = prepared_data("digits", **{"train.accumulate": 4, "train.batch_size": 64})
    trainer, train, _ = assemble(params, data)
    seen = []
    trainer.model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    for size in (2, 3, 5, 64):
        trainer.step(trainer, train.inputs[:size], train.targets[:size])
    assert seen == [2, 3, 3, 2, 16, 16, 16, 16]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_the_precision_trains_on_the_cpu(prepared_data, precision, dtype):
    params, data = prepared_data("wine", **{"train.precision": precision, "train.epochs": 5, "train.clip_norm": 5.0})
    trainer, train, val = assemble(params, data)
    assert trainer.scaler.is_enabled() == (precision == "fp16")
    epochs = list(loop.fit(trainer, train, val, 1, 5))
    assert epochs[-1].train["loss"] < epochs[0].train["loss"]
    # the forward pass really ran in it
    with device.autocast(precision, torch.device("cpu")), torch.no_grad():
        assert trainer.model(data.val.inputs).dtype == dtype


@pytest.mark.parametrize("step", [loop.train_step, partial(loop.accumulated_step, 3)])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_no_step_waits_for_the_device(prepared_data, model, step):
    params, data = prepared_data("digits", **{"model.name": model, "model.channels": [4], "train.clip_norm": 1.0})
    trainer, train, _ = assemble(params, data)
    with device.no_waits(torch.device("cpu")):
        losses = loop.train_epoch(replace(trainer, step=step), train, 1)
    assert 0 < losses.mean() < 3


def test_a_step_that_waits_for_the_device_is_found(prepared_data):
    params, data = prepared_data("wine", **{"train.fail_on_wait": True})
    trainer, train, _ = assemble(params, data)
    loop.train_epoch(trainer, train, 1)

    class Curious(nn.Module):
        def forward(self, outputs, targets):
            loss = cross_entropy(outputs, targets)
            return loss if loss.item() < 100 else loss / 2

    with pytest.raises(RunError, match=r"waits for the device.*_local_scalar_dense"):
        loop.train_epoch(replace(trainer, loss=Curious()), train, 1)
    trainer, train, _ = assemble(*prepared_data("wine"))
    loop.train_epoch(replace(trainer, loss=Curious()), train, 1)


def test_the_learning_rate_of_each_step_reaches_the_optimizer(prepared_data):
    params, data = prepared_data("wine", **{"train.epochs": 4, "train.warmup_epochs": 1.0})
    trainer, train, val = assemble(params, data)
    for epoch in loop.fit(trainer, train, val, 1, 4):
        assert trainer.optimizer.param_groups[0]["lr"] == epoch.lr == trainer.lr(epoch.number * len(train) - 1)


@pytest.mark.parametrize("done", [0, 5, 32])
@pytest.mark.parametrize("steps", [0, 1, 31, 32, 33, 65])
def test_losses_of_steps_are_read_as_they_were_made(steps, done):
    made = torch.rand(done + steps)
    losses = loop.StepLosses(3, 100, lambda step: 0.1, made[:done])
    for number, loss in enumerate(made[done:], start=done + 1):
        losses.append(loss)
        assert len(losses) == number
        if number % 20 == 0:  # a checkpoint within the epoch
            assert torch.equal(losses.read(), made[:number])
    assert torch.equal(losses.read(), made)


@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize(("done", "bad"), [(0, 0), (0, 40), (5, 44), (32, 69)])
def test_a_loss_of_a_step_that_is_not_finite_is_named(done, bad, read_before):
    made = torch.ones(70)
    made[bad] = float("nan")

    def read() -> None:
        losses = loop.StepLosses(3, 100, lambda step: step / 1000, made[:done])
        for loss in made[done:]:
            if read_before and len(losses) == bad:
                losses.read()
            losses.append(loss)
        losses.read()

    with pytest.raises(RunError, match=f"nan in epoch 3, step {101 + bad}, at learning rate {(100 + bad) / 1000:g}"):
        read()
