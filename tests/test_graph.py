from dataclasses import replace

import pytest
import torch

from src import loop
from src.errors import InputError
from src.graph import WARM_UP, Recorded
from src.optimizers import OPTIMIZERS
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
