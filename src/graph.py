"""The step as a CUDA graph: recorded once and then replayed, so that neither Python nor the launch of each kernel takes
time of a small network (Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs")."""

from __future__ import annotations

import torch
from torch import Tensor

from src.loop import Trainer, train_step

WARM_UP = 3  # steps before one is recorded, as PyTorch asks for; they count as any other


class Recorded:
    """Makes the steps of one trainer, whose learning rate has to lie on the device, where a replay reads it. Batches of
    another size are trained without a recording."""

    def __init__(self, size: int) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs = self._targets = self._loss = torch.empty(0)
        self._size, self._made = size, 0

    def __call__(self, trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
        if len(inputs) != self._size:
            return train_step(trainer, inputs, targets)
        if self._made < WARM_UP:
            self._made += 1
            return beside(trainer, inputs, targets)
        if self._graph is None:
            self._record(trainer, inputs, targets)
        assert self._graph is not None
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        self._graph.replay()
        return self._loss.clone()  # the next replay writes there

    def _record(self, trainer: Trainer, inputs: Tensor, targets: Tensor) -> None:
        """Nothing is computed here: what the step would do is written down."""
        self._inputs, self._targets, graph = inputs.clone(), targets.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._loss = train_step(trainer, self._inputs, self._targets)
        self._graph = graph


def beside(trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
    """A step on a stream of its own, where PyTorch wants those before a recording."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = train_step(trainer, inputs, targets)
    torch.cuda.current_stream().wait_stream(stream)
    return loss
