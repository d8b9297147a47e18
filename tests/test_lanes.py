"""A lane gives what its training gives alone. In float64, where rounding is too small to hide a difference."""

import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from src import lanes, loop
from src.errors import RunError
from src.fused import SGD
from src.losses import LOSSES
from src.metrics import PROBABILISTIC
from src.models import MODELS
from src.optimizers import OPTIMIZERS, SCHEDULES
from src.params import changed
from src.stacked import Stacked
from src.training import assemble

DATA = {
    "classification": "wine",
    "binary": "breast_cancer",
    "regression": "diabetes",
    "robust_regression": "diabetes",
}


class Wrapped(nn.Module):
    """What a network does, by a layer that src/stacked.py does not know."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        return self.network(inputs)


class Lookahead(SGD):
    """An optimizer that lanes have no rule for."""


def in_float64(params, data, wrapped=False):
    trainer, train, val = assemble(params, data)
    model = trainer.model.double()
    for batches in (train, val):
        batches.inputs = batches.inputs.double()
        batches.targets = batches.targets.double() if batches.targets.is_floating_point() else batches.targets
    optimizer = OPTIMIZERS[params.train.optimizer].build(model.parameters(), params.train)
    model = Wrapped(model) if wrapped else model
    return replace(trainer, model=model, optimizer=optimizer, loss=trainer.loss.double()), train, val


def alone(params, data):
    """The epochs of a training alone, then its RunError if it has one."""
    trainer, train, val = in_float64(params, data)
    told = []
    try:
        told.extend(loop.fit(trainer, train, val, 1, params.train.epochs))
    except RunError as error:
        told.append(error)
    return told


def as_lanes(settings, data, wrapped=False, drop=()):
    """What each lane gives; `drop` has pairs of an epoch and the lanes that are dropped after it."""
    entries = [in_float64(params, data, wrapped) for params in settings]
    program = lanes.Lanes([entry[0] for entry in entries], [entry[1] for entry in entries], entries[0][2])
    told = [[] for _ in settings]
    for number, given in enumerate(program.fit(settings[0].train.epochs), 1):
        for lane, what in given.items():
            told[lane].append(what)
        program.drop([lane for after, gone in drop if after == number for lane in gone])
    return told


def check_equal(given, wanted):
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted, strict=True):
        if isinstance(other, RunError):
            assert str(one) == str(other)
            continue
        assert (one.number, one.lr) == (other.number, other.lr)
        assert one.train == pytest.approx(other.train, rel=1e-9, nan_ok=True)
        assert one.val == pytest.approx(other.val, rel=1e-9, abs=1e-12, nan_ok=True)
        assert torch.allclose(one.losses, other.losses, rtol=1e-9)


def variants(params):
    """Every optimizer with every schedule, each with settings of its own and one of two seeds."""
    draw = random.Random(0)
    for optimizer, schedule in product(OPTIMIZERS, SCHEDULES):
        yield changed(
            params,
            {
                "seed": draw.choice([0, 1]),
                "train.optimizer": optimizer,
                "train.schedule": schedule,
                "train.lr": 10 ** draw.uniform(-3, -1.5),
                "train.momentum": draw.choice([0.0, 0.5, 0.9]),
                "train.weight_decay": draw.choice([0.0, 0.01, 0.1]),
                "train.betas": draw.choice([[0.9, 0.999], [0.8, 0.99]]),
                "train.clip_norm": draw.choice([None, 0.1, 1.0]),
                "train.step_epochs": 1,
                "train.warmup_epochs": draw.choice([0.0, 0.5]),
            },
        )


@pytest.mark.parametrize("model", [*MODELS, "mlp in a layer of its own", "cnn in a layer of its own"])
def test_a_lane_gives_the_epochs_of_its_training_alone(prepared_data, model):
    name, _, wrapped = model.partition(" ")
    small = {"model.widths": [12, 7], "model.channels": [4, 6], "model.activation": "silu", "model.dropout": 0.0}
    source = "digits" if MODELS[name].ndim else "wine"
    few = {"train.epochs": 2, "train.batch_size": 32, "train.warmup_epochs": 0.5}
    params, data = prepared_data(source, **{"model.name": name, **few, **small})
    data = data._replace(train=data.train._replace(inputs=data.train.inputs[:120], targets=data.train.targets[:120]))
    settings = list(variants(params))
    for given, one in zip(as_lanes(settings, data, bool(wrapped)), settings, strict=True):
        check_equal(given, alone(one, data))


def test_the_first_step_does_not_import_sympy(prepared_data):
    """Which torch needs for a gradient that it is told where to begin: half a second in each worker."""
    params, _ = prepared_data("wine", **{"train.warmup_epochs": 0})
    code = f"""if True:
        import sys
        from src import lanes, params, training
        settings, data = params.check({params.model_dump(by_alias=True)}), training.load_data()
        trainers, train, val = zip(*(training.assemble(settings, data) for _ in range(2)))
        [told] = lanes.Lanes(trainers, train, val[0]).fit(1)
        print(sorted(told), "sympy" in sys.modules)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "[0, 1] False\n", run.stderr


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_trainings_go_on_from_where_lanes_have_left_them(prepared_data, model):
    few = {"train.epochs": 4, "train.batch_size": 32, "model.name": model, "model.widths": [12], "model.channels": [4]}
    params, data = prepared_data("digits" if model == "cnn" else "wine", **few, **{"model.dropout": 0.0})
    data = data._replace(train=data.train._replace(inputs=data.train.inputs[:120], targets=data.train.targets[:120]))
    settings = list(variants(params))
    entries = [in_float64(own, data) for own in settings]
    program = lanes.Lanes([entry[0] for entry in entries], [entry[1] for entry in entries], entries[0][2])
    for number, _ in enumerate(program.fit(2), 1):
        program.drop([0] if number == 1 else [])
    program.write_back()
    left = range(1, len(settings), 2)  # some go on as lanes, the others alone
    program = lanes.Lanes([entries[lane][0] for lane in left], [entries[lane][1] for lane in left], entries[0][2])
    told = list(program.fit(4, 3))
    for place, lane in enumerate(left):
        check_equal([epoch[place] for epoch in told], alone(settings[lane], data)[2:])
    for lane in range(2, len(settings), 2):
        trainer, train, val = entries[lane]
        check_equal(list(loop.fit(trainer, train, val, 3, 4)), alone(settings[lane], data)[2:])


OF_TASKS = [(name, task) for name, loss in LOSSES.items() for task in loss.tasks]


@pytest.mark.parametrize(
    ("loss", "task", "weights"),
    [(*pair, "none") for pair in OF_TASKS] + [(*pair, "balanced") for pair in OF_TASKS if pair[1] in PROBABILISTIC],
)
def test_with_every_loss(prepared_data, loss, task, weights):
    params, data = prepared_data(
        DATA[task],
        task,
        **{"train.loss": loss, "train.class_weights": weights, "train.epochs": 2, "train.warmup_epochs": 0.5},
        **{"model.dropout": 0.0, "model.widths": [9]},
    )
    settings = [changed(params, {"seed": seed, "train.lr": lr}) for seed, lr in ((0, 0.01), (0, 0.001), (3, 0.01))]
    for given, one in zip(as_lanes(settings, data), settings, strict=True):
        check_equal(given, alone(one, data))


def test_a_lane_that_is_dropped_or_diverges_changes_no_other(prepared_data):
    params, data = prepared_data(
        "diabetes", "regression", **{"model.dropout": 0.0, "train.epochs": 4, "train.warmup_epochs": 0.5}
    )
    tried = [("adamw", 0.01), ("sgd", 100.0), ("sgd", 0.01), ("adam", 0.01), ("sgd", 0.003), ("adamw", 0.1)]
    settings = [changed(params, {"train.optimizer": name, "train.lr": lr}) for name, lr in tried]
    told = as_lanes(settings, data, drop=[(1, [0]), (2, [2, 3])])
    assert [len(own) for own in told] == [1, 1, 2, 2, 4, 4]
    assert isinstance(told[1][0], RunError)
    for given, one in zip(told, settings, strict=True):
        check_equal(given, alone(one, data)[: len(given)])


def test_when_no_lane_is_left_it_ends(prepared_data):
    params, data = prepared_data("wine", **{"model.dropout": 0.0, "train.epochs": 3})
    assert [len(own) for own in as_lanes([params, params], data, drop=[(1, [0, 1])])] == [1, 1]


def test_dropout_is_the_same_in_distribution(prepared_data):
    """The means over seeds, alone and as lanes, lie within four standard errors of each other; without dropout, they
    are equal."""
    params, data = prepared_data("wine", **{"train.epochs": 3, "train.warmup_epochs": 0.5, "model.widths": [16]})
    shares = (0.0, 0.5, 0.8)
    settings = [changed(params, {"seed": seed, "model.dropout": share}) for seed in range(24) for share in shares]
    together, apart = as_lanes(settings, data), [alone(one, data) for one in settings]
    for first, share in enumerate(shares):
        for split in ("train", "val"):
            pairs = zip(together[first :: len(shares)], apart[first :: len(shares)], strict=True)
            differences = torch.tensor(
                [getattr(a[-1], split)["loss"] - getattr(b[-1], split)["loss"] for a, b in pairs]
            )
            error = differences.std() / math.sqrt(len(differences))
            assert abs(differences.mean()) <= 4 * error + 1e-9, (share, split)
            assert bool(share) == bool(error > 1e-9), (share, split)


def test_the_share_of_a_dropout_lies_where_the_weights_do():
    networks = [nn.Sequential(nn.Linear(4, 3), nn.Dropout(share)).to("meta") for share in (0.1, 0.5)]
    assert [buffer.device.type for buffer in Stacked(networks).buffers.values()] == ["meta"]


def test_what_cannot_be_lanes_is_said(prepared_data):
    params, data = prepared_data("wine")
    trainer = assemble(params, data)[0]
    assert lanes.obstacle([trainer]) is None
    parts = assemble(changed(params, {"train.accumulate": 2}), data)[0]
    assert "train.accumulate" in lanes.obstacle([trainer, parts])
    assert "Lookahead" in lanes.obstacle([replace(trainer, optimizer=Lookahead(trainer.model.parameters(), 0.1, 0.9))])
    assert "reduction" in lanes.obstacle([replace(trainer, loss=nn.Identity())])


def test_networks_of_another_architecture_are_refused(prepared_data):
    params, data = prepared_data("wine")
    entries = [assemble(changed(params, {"model.activation": name}), data) for name in ("relu", "gelu")]
    with pytest.raises(ValueError, match="one architecture"):
        lanes.Lanes([entry[0] for entry in entries], [entry[1] for entry in entries], entries[0][2])
