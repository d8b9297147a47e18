import copy
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src import device, footprint, training
from src.params import changed
from src.training import assemble


class Tally(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most that there were at once."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outcome = func(*args, **kwargs or {})
        for tensor in tree_leaves(outcome):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor.untyped_storage())
        return outcome

    def add(self, storage):
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.drop, storage._cdata, storage.nbytes())

    def drop(self, key, count):
        self.known.discard(key)
        self.live -= count


def counted(trainer, train, size):
    """The bytes of a step beyond the weights and their gradients, each tensor counted while it lives."""
    model = copy.deepcopy(trainer.model).train()
    with Tally() as tally:
        inputs = torch.zeros(size, *train.inputs.shape[1:])
        targets = torch.zeros(size, dtype=train.targets.dtype)
        trainer.loss(model(inputs), targets).backward()
    return tally.peak - sum(each.nbytes for each in model.parameters())


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn", "resnet"])
def test_what_a_batch_takes_is_what_its_tensors_take(prepared_data, model):
    params, data = prepared_data("digits", **{"model.name": model})
    trainer, train, _ = assemble(params, data)
    stated, seen = footprint.of_batch(trainer, train, 512), counted(trainer, train, 512)
    assert 0.9 * seen < stated < 2.5 * seen


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_a_dry_step_leaves_no_trace(prepared_data, model):
    params, data = prepared_data("digits", **{"model.name": model})
    trainer, train, _ = assemble(params, data)
    before, drawn = copy.deepcopy(trainer.model.state_dict()), torch.get_rng_state()
    footprint.of_batch(trainer, train, 64)
    assert all(torch.equal(own, before[name]) for name, own in trainer.model.state_dict().items())
    assert all(each.grad is None for each in trainer.model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_weights_gradients_and_state_are_counted(prepared_data):
    params, data = prepared_data("wine", **{"model.name": "linear", "train.optimizer": "adamw"})
    trainer, train, val = assemble(params, data)
    found = footprint.of(trainer, train, val, 16)
    assert found.weights == 4 * 4 * (13 * 3 + 3) + 4  # weights, gradients, two averages; the count of the steps
    assert found.data == sum(part.nbytes for part in (data.train.inputs, data.train.targets, *data.val[:2]))
    assert "weights, gradients and optimizer 0.7 kB" in str(found)


def test_auto_is_the_largest_power_of_two_that_fits(prepared_data, monkeypatch):
    params, data = prepared_data("digits", **{"train.batch_size": "auto", "train.resident_gb": 1.0})
    assert training.sized(params, data).train.batch_size == 1024  # of 1257 samples
    trainer, train, val = assemble(changed(params, {"train.batch_size": 2, "train.resident_gb": 1.0}), data)
    for wanted in (2, 64, 256):
        room = sum(footprint.of(trainer, train, val, wanted)) / footprint.FILL
        monkeypatch.setattr(device, "memory_of", lambda where, room=room: room)
        assert training.sized(params, data).train.batch_size == wanted
        monkeypatch.setattr(footprint, "ENOUGH", footprint.of_batch(trainer, train, 8))  # from there on by the half
        assert training.sized(params, data).train.batch_size in (wanted, wanted // 2 or 2)
        monkeypatch.undo()


def test_a_number_stays(prepared_data):
    params, data = prepared_data("wine")
    assert training.sized(params, data) is params


def test_training_says_what_it_takes(prepared_data, workspace, capsys):
    params, data = prepared_data("wine", **{"train.epochs": 1, "train.warmup_epochs": 0.0})
    list(training.train(params, data, workspace))
    assert "memory at its peak: " in capsys.readouterr().err
