"""The training loop: forward, loss, backward, update. It knows torch and nothing of files, tracking or tuning."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from src import device
from src.data.batches import Batches
from src.errors import RunError
from src.optimizers import Optimizer

NO_LOSSES = torch.empty(0)
CHECK_EVERY = 32  # losses that are sent to the CPU, and looked at, at once

Measure = Callable[[Tensor, Tensor], list[dict[str, float]]]  # of each of K networks, whose outputs are [K, N, ...]
Between = Callable[["StepLosses"], None]  # called after each step with the losses of the epoch so far


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. `number` counts from 1; `lr` is that of its last step; means are over samples."""

    number: int
    lr: float
    train: dict[str, float]  # loss, in training mode, while the weights still moved
    val: dict[str, float]  # loss and the task's metrics, after the epoch
    samples_per_second: float
    losses: Tensor = field(repr=False, compare=False)  # of each step, float32 [steps], on the CPU

    def record(self) -> dict[str, float]:
        """The epoch as one flat row: what the history keeps and the tracker shows."""
        split_metrics = {"train": self.train, "val": self.val}
        named = {f"{split}/{name}": value for split, values in split_metrics.items() for name, value in values.items()}
        return {"epoch": self.number, "lr": self.lr, **named, "samples_per_second": self.samples_per_second}


def of_record(record: dict[str, float]) -> Epoch:
    """The epoch of which this was the record, without the losses of its steps."""
    parts = {
        split: {key.partition("/")[2]: value for key, value in record.items() if key.startswith(f"{split}/")}
        for split in ("train", "val")
    }
    return Epoch(
        int(record["epoch"]), record["lr"], **parts, samples_per_second=record["samples_per_second"], losses=NO_LOSSES
    )


@dataclass(frozen=True)
class Trainer:
    """A model and what moves it. `lr(step)` is the learning rate, `autocast` the precision of the forward pass, and
    `scaler` keeps the gradients of float16 from vanishing. `step` makes one step: train_step, or the same faster."""

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    lr: Callable[[int], float]
    measure: Measure
    autocast: AbstractContextManager[object] = field(default_factory=nullcontext)
    scaler: Any = field(default_factory=lambda: GradScaler(enabled=False))  # its types know torch's optimizers alone
    clip_norm: float | None = None
    step: "Step" = field(default_factory=lambda: train_step)


Step = Callable[[Trainer, Tensor, Tensor], Tensor]


def go_on(losses: "StepLosses") -> None:
    """What there is to do between two steps, unless a caller has more: nothing."""


def fit(
    trainer: Trainer,
    train: Batches,
    val: Batches,
    first: int,
    last: int,
    done: Tensor = NO_LOSSES,
    between: Between = go_on,
) -> Iterator[Epoch]:
    """Train epochs `first` to `last` (from 1, both included), yielding after each; the caller may stop at any.

    done: the losses of the steps of epoch `first` that were made before, which are not made again; float32, on the CPU.
    """
    for number in range(first, last + 1):
        start, skipped = time.perf_counter(), train.samples(len(done))
        losses = train_epoch(trainer, train, number, done, between)
        seconds, done = time.perf_counter() - start, NO_LOSSES
        outputs, targets, val_loss = evaluate(trainer.model, val, trainer.loss, trainer.autocast)
        [measured] = trainer.measure(outputs.unsqueeze(0), targets)
        speed = (len(train.targets) - skipped) / seconds
        yield concluded(trainer, train, number, losses, speed, {"loss": val_loss, **measured})


def concluded(
    trainer: Trainer,
    train: Batches,
    number: int,
    losses: Tensor,
    samples_per_second: float,
    val: dict[str, float],
) -> Epoch:
    """An epoch from the losses of its steps and what validation gave after it. RunError when its loss is not finite."""
    if not math.isfinite(val["loss"]):
        raise RunError(f"the validation loss is {val['loss']} after epoch {number}. Try a smaller train.lr")
    lr, mean = trainer.lr(number * len(train) - 1), weighted_mean(losses, train.sizes)
    return Epoch(number, lr, {"loss": mean}, val, samples_per_second, losses)


def train_epoch(
    trainer: Trainer, split: Batches, number: int, done: Tensor = NO_LOSSES, between: Between = go_on
) -> Tensor:
    """One pass over the training split, the steps whose losses are `done` made before. Returns the loss of each step,
    float32 [steps], on the CPU; RunError when one is not finite."""
    trainer.model.train()
    first_step = (number - 1) * len(split)
    losses = StepLosses(number, first_step, trainer.lr, done)
    for step, (inputs, targets) in enumerate(split.epoch(number, len(losses)), start=first_step + len(losses)):
        set_lr(trainer.optimizer, trainer.lr(step))
        losses.append(trainer.step(trainer, inputs, targets))
        between(losses)
    return losses.read()


def train_step(trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
    """One step; returns the mean loss over the batch, a scalar that stays on the device."""
    trainer.optimizer.zero_grad()
    with trainer.autocast:
        outputs = trainer.model(inputs)  # forward
        loss = trainer.loss(outputs, targets)  # loss
    trainer.scaler.scale(loss).backward()  # backward
    update(trainer)  # update
    return loss.detach()


def accumulated_step(parts: int, trainer: Trainer, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same step for a batch that is too large for the memory: it goes through in parts, whose gradients add up."""
    trainer.optimizer.zero_grad()
    losses = []
    count = max(min(parts, len(inputs) // 2), 1)  # batch normalisation has no variance of one sample
    for part, wanted in zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True):
        with trainer.autocast:
            loss = trainer.loss(trainer.model(part), wanted) * (len(part) / len(inputs))
        trainer.scaler.scale(loss).backward()
        losses.append(loss.detach())
    update(trainer)
    return torch.stack(losses).sum()


def update(trainer: Trainer) -> None:
    """Move the weights along the gradients, shortened where clip_norm bounds them."""
    if trainer.clip_norm:
        trainer.scaler.unscale_(trainer.optimizer)
        nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.clip_norm)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()


class StepLosses:
    """The losses of the steps of an epoch, those of `done` made before. CHECK_EVERY of them at a time are sent to the
    CPU while the next steps are made, and are looked at after those: no GPU waits for Python, one that is not finite
    is seen before the epoch ends, and an epoch of many steps does not keep a tensor for each."""

    def __init__(self, epoch: int, first_step: int, lr: Callable[[int], float], done: Tensor) -> None:
        self._epoch, self._first_step, self._lr = epoch, first_step, lr
        self._arrived, self._count = [done], len(done)  # float32, on the CPU; of all
        self._coming: tuple[Callable[[], Tensor], int] | None = None  # and the step of the first
        self._newest: list[Tensor] = []

    def __len__(self) -> int:
        return self._count

    def append(self, loss: Tensor) -> None:
        """loss: of the next step, a scalar on its device. RunError when an earlier one is not finite."""
        self._newest.append(loss)
        self._count += 1
        if len(self._newest) == CHECK_EVERY:
            self._send()

    def read(self) -> Tensor:
        """All so far, float32 [steps], on the CPU; waits for the device. RunError when one is not finite."""
        if self._newest:
            self._send()
        self._receive()
        self._arrived = [torch.cat(self._arrived)]
        return self._arrived[0]

    def _send(self) -> None:
        self._receive()
        first = self._first_step + self._count - len(self._newest)
        self._coming, self._newest = (device.to_host(torch.stack(self._newest)), first), []

    def _receive(self) -> None:
        if self._coming:
            (arrive, first), self._coming = self._coming, None
            values = arrive()
            check_finite(values, first, self._epoch, self._lr)
            self._arrived.append(values)


@torch.no_grad()
def evaluate(
    model: nn.Module, split: Batches, loss_function: nn.Module, autocast: AbstractContextManager[object]
) -> tuple[Tensor, Tensor, float]:
    """Every number of validation, evaluation and tuning comes from here.

    Returns outputs [N, ...] float32, targets [N], and the mean loss over samples (not over batches).
    """
    model.eval()
    outputs, targets, losses = [], [], []
    for inputs, wanted in split:
        with autocast:
            given = model(inputs)
            losses.append(loss_function(given, wanted))
        outputs.append(given.float())
        targets.append(wanted)
    return torch.cat(outputs), torch.cat(targets), weighted_mean(torch.stack(losses).cpu(), split.sizes)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # a recorded step reads it where it lies
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def weighted_mean(losses: Tensor, sizes: list[int]) -> float:
    """Mean over samples from means over batches, on the CPU: sums over counts, so a small last batch weighs what it
    should."""
    return sum(map(mul, losses.tolist(), sizes)) / sum(sizes)


def check_finite(losses: Tensor, first_step: int, epoch: int, lr: Callable[[int], float]) -> None:
    """RunError naming epoch, step and learning rate of the first loss [steps] that is infinite or not a number."""
    values = losses.tolist()
    if not math.isfinite(sum(values)):
        step, loss = next((step, loss) for step, loss in enumerate(values, first_step) if not math.isfinite(loss))
        raise RunError(
            f"the loss is {loss} in epoch {epoch}, step {step + 1}, at learning rate {lr(step):g}. Checkpoints of "
            "earlier epochs are kept. Try a smaller train.lr or a train.clip_norm"
        )
