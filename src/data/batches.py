"""Batches gathered from tensors that already lie on the device: no Python a sample, no copy a step."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from src.augment import augment, width


class Batches:
    """The batches of one split.

    inputs: float32 [N, ...], or uint8, which becomes (value - mean) / std by `scale` a batch at a time; targets: [N];
    both on the device that trains. The last batch is smaller where `size` does not divide N, unless one sample would
    be alone in it: batch normalisation has no variance of one, so that sample joins the batch before.
    balance: an epoch draws N samples, every class as often as the others, instead of each sample once.
    strengths: of the changes to the images of an epoch, by AUGMENTATIONS; those of evaluation are never changed.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        size: int,
        seed: int = 0,
        scale: tuple[float, float] = (0.0, 1.0),
        balance: bool = False,
        strengths: dict[str, float] | None = None,
    ) -> None:
        self.inputs, self.targets, self.seed, self.scale = inputs, targets, seed, scale
        self.balance = balance
        self.strengths = strengths if strengths and any(strengths.values()) else None
        starts = range(0, len(inputs), size)
        bounds = [(start, min(start + size, len(inputs))) for start in starts]
        if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
            bounds[-2:] = [(bounds[-2][0], len(inputs))]
        self.bounds = bounds

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.bounds)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, in the order of the rows: for evaluation."""
        for start, stop in self.bounds:
            yield self._ready(self.inputs[start:stop]), self.targets[start:stop]

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's samples, in an order that is a function of (seed, epoch) and of nothing else."""
        generator = generator_of(self.seed, number)
        order = balanced(self.targets.cpu(), generator) if self.balance else shuffled(len(self.inputs), generator)
        order = order.to(self.inputs.device)
        draws = torch.rand(len(order), width(), generator=generator) if self.strengths else None
        for start, stop in self.bounds:
            index = order[start:stop]
            own = None if draws is None else draws[start:stop]
            yield self._ready(self.inputs[index], own), self.targets[index]

    def _ready(self, inputs: Tensor, draws: Tensor | None = None) -> Tensor:
        """What the network gets: float, scaled, and augmented where there are draws."""
        raw = inputs.dtype == torch.uint8
        inputs = inputs.float() if raw else inputs
        mean, std = self.scale if raw else (0.0, 1.0)  # others are scaled already
        if draws is not None and self.strengths:
            inputs = augment(inputs, draws.to(inputs.device), self.strengths, fill=mean)
        return inputs.sub_(mean).div_(std) if raw else inputs


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """Random numbers that (seed, epoch) decide, on the CPU, so that every device trains in the same order."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def shuffled(length: int, generator: torch.Generator) -> Tensor:
    """Every number of range(length) once, int64."""
    return torch.randperm(length, generator=generator)


def balanced(targets: Tensor, generator: torch.Generator) -> Tensor:
    """As many places as there are targets [N], int64: a class at random, then one of its samples, with replacement."""
    _, number, counts = targets.unique(return_inverse=True, return_counts=True)
    by_class = number.argsort(stable=True)
    chosen = torch.randint(len(counts), (len(targets),), generator=generator)
    within = (torch.rand(len(targets), dtype=torch.float64, generator=generator) * counts[chosen]).long()
    return by_class[(counts.cumsum(0) - counts)[chosen] + within]
