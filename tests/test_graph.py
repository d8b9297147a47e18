from dataclasses import replace

import pytest
import torch

from src import loop
from src.device import no_waits
from src.errors import InputError
from src.graph import WARM_UP, Recorded
from src.lanes import Lanes, obstacle
from src.optimizers import OPTIMIZERS
from src.params import changed
from src.training import assemble, step_of

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def records(trainer, train, val):
    return [epoch.record() for epoch in loop.fit(trainer, train, val, 1, 4)]


def timeless(record):
    return {name: value for name, value in record.items() if name != "samples_per_second"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_learning_rate_on_the_device_is_the_same_one(prepared_data, optimizer):
    """What a replay reads: all of it but the recording itself, which needs a GPU."""
    found = []
    for kind in (float, torch.tensor):
        params, data = prepared_data("wine", **{"train.optimizer": optimizer, "train.epochs": 4})
        trainer, train, val = assemble(params, data)
        trainer.optimizer.param_groups[0]["lr"] = kind(params.train.lr)
        found.append([timeless(record) for record in records(trainer, train, val)])
        assert isinstance(trainer.optimizer.param_groups[0]["lr"], torch.Tensor) == (kind is torch.tensor)
    for plain, on_device in zip(*found, strict=True):
        assert on_device == pytest.approx(plain, rel=1e-4)


def test_it_is_asked_for_and_for_a_gpu_alone(prepared_data):
    params, _ = prepared_data("wine", **{"train.cuda_graph": True, "train.precision": "fp32"})
    assert step_of(params.train, torch.device("cpu"), 64) is loop.train_step
    assert isinstance(step_of(params.train, torch.device("cuda"), 64), Recorded)
    params, _ = prepared_data("wine")
    assert step_of(params.train, torch.device("cuda"), 64) is loop.train_step


@pytest.mark.parametrize("changes", [{"train.accumulate": 2}, {"train.precision": "fp16"}])
def test_what_cannot_be_recorded_is_refused(prepared_data, changes):
    params, _ = prepared_data("wine", **{"train.cuda_graph": True, **changes})
    with pytest.raises(InputError, match=r"train\.cuda_graph needs train.accumulate: 1"):
        step_of(params.train, torch.device("cuda"), 64)


@GPU
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_recorded_steps_train_as_plain_ones_do(prepared_data, model):
    changes = {"model.name": model, "train.device": "cuda", "train.precision": "fp32", "train.epochs": 4}
    params, data = prepared_data("digits", **{**changes, "model.dropout": 0.0, "train.cuda_graph": True})
    trainer, train, val = assemble(params, data)
    assert len(train) > WARM_UP
    recorded = records(trainer, train, val)
    trainer, train, val = assemble(params, data)
    for one, other in zip(recorded, records(replace(trainer, step=loop.train_step), train, val), strict=True):
        assert timeless(one) == pytest.approx(timeless(other), rel=1e-3)


def test_recorded_steps_may_be_those_of_lanes(prepared_data):
    trainer, *_ = assemble(*prepared_data("wine"))
    assert obstacle([replace(trainer, step=Recorded(64))]) is None


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_step_of_lanes_changes_all_in_place_and_waits_for_nothing(prepared_data, model):
    """What a recording of it relies on."""
    rules = [{"train.optimizer": name} for name in OPTIMIZERS]
    params, data = prepared_data("digits", **{"model.name": model, "train.clip_norm": 1.0, "model.dropout": 0.1})
    trainers, train, val = zip(*(assemble(changed(params, own), data) for own in rules), strict=True)
    lanes = Lanes(trainers, train, val[0])

    def kept():
        moved = [{**rule._kept, **rule._single, "steps": rule._step_count} for rule in lanes._rules]
        named = [lanes._network.weights, lanes._network.buffers, {"flat": lanes._network.flat}, *moved]
        return [tensor.data_ptr() for part in named for tensor in part.values()]

    before, weights = kept(), lanes._network.flat.clone()
    rate, batch = torch.full((3, 1), 0.01), next(train[0].epoch(1))
    with no_waits(torch.device("cpu")):
        losses = [lanes._step(rate, *batch) for _ in range(2)]
    assert kept() == before
    assert (lanes._network.flat != weights).any(1).all()
    assert torch.stack(losses).isfinite().all()


@GPU
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_recorded_lanes_train_as_plain_ones_do(prepared_data, model):
    changes = {"model.name": model, "train.device": "cuda", "train.precision": "fp32", "train.epochs": 4}
    found = []
    for is_recorded in (True, False):
        params, data = prepared_data("digits", **{**changes, "model.dropout": 0.0, "train.cuda_graph": is_recorded})
        entries = [assemble(changed(params, {"train.lr": lr}), data) for lr in (0.0003, 0.001, 0.003)]
        trainers, train, val = zip(*entries, strict=True)
        assert len(train[0]) > WARM_UP
        lanes, told = Lanes(trainers, train, val[0]), []
        for epochs in lanes.fit(4):
            told += [timeless(epochs[lane].record()) for lane in lanes.numbers]
            if len(told) == 6:
                lanes.drop([1])  # two epochs: what is left is recorded anew
        found.append(told)
    assert len(found[0]) == 10
    for recorded, plain in zip(*found, strict=True):
        assert recorded == pytest.approx(plain, rel=1e-3)


@GPU
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_lanes_drop_out_on_a_gpu_too(prepared_data, model):
    params, data = prepared_data("digits", **{"model.name": model, "train.device": "cuda", "train.cuda_graph": True})
    entries = [assemble(changed(params, {"model.dropout": share}), data) for share in (0.1, 0.4)]
    trainers, train, val = zip(*entries, strict=True)
    (told,) = Lanes(trainers, train, val[0]).fit(1)
    assert [epoch.number for epoch in told.values()] == [1, 1]
