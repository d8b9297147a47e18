"""Batches gathered from tensors that already lie on the device: no Python a sample, no copy a step."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


class Batches:
    """The batches of one split.

    inputs: float32 [N, ...], or uint8, which becomes (value - mean) / std by `scale` a batch at a time; targets: [N];
    both on the device that trains. The last batch is smaller where
    `size` does not divide N, unless one sample would be alone in it: batch normalisation has no variance of one,
    so that sample joins the batch before.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, size: int, seed: int = 0, scale: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        self.inputs, self.targets, self.seed, self.scale = inputs, targets, seed, scale
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
            yield self._scaled(self.inputs[start:stop]), self.targets[start:stop]

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every sample once, in an order that is a function of (seed, epoch) and of nothing else."""
        order = permutation(len(self.inputs), self.seed, number).to(self.inputs.device)
        for start, stop in self.bounds:
            index = order[start:stop]
            yield self._scaled(self.inputs[index]), self.targets[index]

    def _scaled(self, inputs: Tensor) -> Tensor:
        if inputs.dtype != torch.uint8:
            return inputs
        mean, std = self.scale
        return inputs.float().sub_(mean).div_(std)


def permutation(length: int, seed: int, epoch: int) -> Tensor:
    """A shuffle of range(length), int64 on the CPU, so that every device trains in the same order."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0] >> 1))
    return torch.randperm(length, generator=generator)
