"""The step as a CUDA graph: recorded once and then replayed, so that neither Python nor the launch of each kernel takes
time of a small network (Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from src.loop import Trainer, train_step

WARM_UP = 3  # calls before one is recorded, as PyTorch asks for; they count as any other


class Recording:
    """Calls a function of tensors, records it when that was done a few times, and replays it from then on. All calls
    give it tensors of the same shapes and dtypes, and what else it reads and changes stays where it is."""

    def __init__(self) -> None:
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[Tensor] = []  # where a replay reads
        self._result = torch.empty(0)

    def __call__(self, function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        if self._calls < WARM_UP:
            self._calls += 1
            return beside(function, given)
        if self._graph is None:
            self._graph = self._record(function, given)
        for own, other in zip(self._given, given, strict=True):
            own.copy_(other)
        self._graph.replay()
        return self._result.clone()  # the next replay writes there

    def _record(self, function: Callable[..., Tensor], given: Sequence[Tensor]) -> torch.cuda.CUDAGraph:
        """Nothing is computed here: what the function would do is written down."""
        self._given, graph = [part.clone() for part in given], torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._result = function(*self._given)
        return graph


class Recorded:
    """Makes the steps of one trainer, whose learning rate has to lie on the device, where a replay reads it. Batches of
    another size are trained without a recording."""

    def __init__(self, size: int) -> None:
        self._size, self._step = size, Recording()

    def __call__(self, trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
        if len(inputs) != self._size:
            return train_step(trainer, inputs, targets)
        return self._step(partial(train_step, trainer), inputs, targets)


def beside(function: Callable[..., Tensor], given: Sequence[Tensor]) -> Tensor:
    """A call on a stream of its own, where PyTorch wants those before a recording."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function(*given)
    torch.cuda.current_stream().wait_stream(stream)
    return result
