"""The memory that a training takes, known before it begins: from dry steps of a copy of the model."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from src import device
from src.data.batches import Batches
from src.loop import Trainer

FILL = 0.5  # share of the memory that a training may take: of all of it, so that the answer is the same the next time
ENOUGH = 1 << 28  # bytes of a batch from which on a larger one takes as much more as it has more samples


class Footprint(NamedTuple):
    """Bytes: of the weights, with their gradients and what the optimizer keeps; of one batch on its way through the
    network and back, at the moment when most is held; and of the data that lies on the device."""

    weights: int
    batch: int
    data: int

    def __str__(self) -> str:
        parts = {"weights, gradients and optimizer": self.weights, "a batch": self.batch, "data": self.data}
        words = ", ".join(f"{name} {in_words(count)}" for name, count in parts.items())
        return f"{in_words(sum(self))} ({words})"


def of(trainer: Trainer, train: Batches, val: Batches, size: int) -> Footprint:
    """Of a training with batches of `size` samples."""
    weights = sum(each.nbytes for each in trainer.model.parameters())
    kept = sum(each.nbytes for each in _tensors(trainer.optimizer.state_dict()))
    data = sum(split.inputs.nbytes + split.targets.nbytes for split in (train, val) if not split.streamed)
    return Footprint(2 * weights + kept, of_batch(trainer, train, size), data)


def largest(trainer: Trainer, train: Batches, val: Batches) -> int:
    """The largest power of two, 2 at least, for which a training fits into FILL of the memory, and no larger than
    there are samples. Of a batch that would be large, the bytes follow from those of one half as large."""
    weights, taken, data = of(trainer, train, val, 2)
    size, limit = 2, FILL * device.memory_of(train.device) - weights - data
    while 2 * size <= min(len(train.targets), 1_000_000):
        taken = of_batch(trainer, train, 2 * size) if taken < ENOUGH else 2 * taken
        if taken > limit:
            break
        size *= 2
    return size


def of_batch(trainer: Trainer, batches: Batches, size: int) -> int:
    """Bytes that a batch of `size` samples takes at the peak of a step, by a step of a copy of the model with numbers
    that are all 0: what forward keeps for backward, and room for two more of the largest."""
    model, where = copy.deepcopy(trainer.model).train(), batches.device
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = torch.zeros(size, *batches.inputs.shape[1:], device=where)
    targets = torch.zeros(size, dtype=batches.targets.dtype, device=where)
    unmoved = torch.random.fork_rng([where] if where.type == "cuda" else [])
    with unmoved, trainer.autocast, saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.loss(model(inputs), targets).backward()
    return sum(kept.values()) + 2 * max(kept.values(), default=0)


def in_words(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def _tensors(state: object) -> list[Tensor]:
    """All that are in a state, however deep."""
    if isinstance(state, Tensor):
        return [state]
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for each in inner for tensor in _tensors(each)]
