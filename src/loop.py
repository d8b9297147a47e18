"""The training loop: forward, loss, backward, update. It knows torch and nothing of files, tracking or tuning."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.data.batches import Batches
from src.errors import RunError

CHECK_EVERY = 32  # steps between looks at the loss: a look makes a GPU wait, so not at every step

Measure = Callable[[Tensor, Tensor], dict[str, float]]
Between = Callable[[list[Tensor]], None]  # called after each step with the losses of the epoch so far


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. `number` counts from 1; `lr` is that of its last step; means are over samples."""

    number: int
    lr: float
    train: dict[str, float]  # loss, in training mode, while the weights still moved
    val: dict[str, float]  # loss and the task's metrics, after the epoch
    samples_per_second: float

    def record(self) -> dict[str, float]:
        """The epoch as one flat row: what the history keeps and the tracker shows."""
        split_metrics = {"train": self.train, "val": self.val}
        named = {f"{split}/{name}": value for split, values in split_metrics.items() for name, value in values.items()}
        return {"epoch": self.number, "lr": self.lr, **named, "samples_per_second": self.samples_per_second}


@dataclass(frozen=True)
class Trainer:
    """A model and what moves it. `lr(step)` is the learning rate, `autocast` the precision of the forward pass."""

    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    lr: Callable[[int], float]
    measure: Measure
    autocast: AbstractContextManager[object]
    clip_norm: float | None = None


def go_on(losses: list[Tensor]) -> None:
    """What there is to do between two steps, unless a caller has more: nothing."""


def fit(
    trainer: Trainer,
    train: Batches,
    val: Batches,
    first: int,
    last: int,
    done: Sequence[Tensor] = (),
    between: Between = go_on,
) -> Iterator[Epoch]:
    """Train epochs `first` to `last` (from 1, both included), yielding after each; the caller may stop at any.

    done: the losses of the steps of epoch `first` that were made before, which are not made again.
    """
    for number in range(first, last + 1):
        start, skipped = time.perf_counter(), train.samples(len(done))
        train_loss = train_epoch(trainer, train, number, done, between)
        seconds, done = time.perf_counter() - start, ()
        outputs, targets, val_loss = evaluate(trainer.model, val, trainer.loss, trainer.autocast)
        val_metrics = {"loss": val_loss, **trainer.measure(outputs, targets)}
        if not math.isfinite(val_loss):
            raise RunError(f"the validation loss is {val_loss} after epoch {number}. Try a smaller train.lr")
        lr = trainer.lr(number * len(train) - 1)
        yield Epoch(number, lr, {"loss": train_loss}, val_metrics, (len(train.targets) - skipped) / seconds)


def train_epoch(
    trainer: Trainer, split: Batches, number: int, done: Sequence[Tensor] = (), between: Between = go_on
) -> float:
    """One pass over the training split, `done` steps of it made before; returns the mean loss over its samples."""
    model, optimizer, losses = trainer.model.train(), trainer.optimizer, list(done)
    first_step = (number - 1) * len(split)
    for step, (inputs, targets) in enumerate(split.epoch(number, len(done)), start=first_step + len(done)):
        set_lr(optimizer, trainer.lr(step))
        optimizer.zero_grad(set_to_none=True)
        with trainer.autocast:
            outputs = model(inputs)  # forward
            loss = trainer.loss(outputs, targets)  # loss
        loss.backward()  # backward
        if trainer.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), trainer.clip_norm)
        optimizer.step()  # update
        losses.append(loss.detach())
        if len(losses) % CHECK_EVERY == 0:
            check_finite(losses[-CHECK_EVERY:], step + 1 - CHECK_EVERY, number, trainer.lr)
        between(losses)
    check_finite(losses, first_step, number, trainer.lr)
    return weighted_mean(losses, split.sizes)


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
    return torch.cat(outputs), torch.cat(targets), weighted_mean(losses, split.sizes)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def weighted_mean(losses: list[Tensor], sizes: list[int]) -> float:
    """Mean over samples from means over batches: sums over counts, so a small last batch weighs what it should."""
    per_batch = torch.stack(losses).cpu().double()  # read once an epoch; the CPU, as not every GPU has float64
    return float((per_batch * per_batch.new_tensor(sizes)).sum() / sum(sizes))


def check_finite(losses: list[Tensor], first_step: int, epoch: int, lr: Callable[[int], float]) -> None:
    """RunError naming epoch, step and learning rate of the first loss that is infinite or not a number."""
    finite = torch.stack(losses).isfinite()
    if not finite.all():
        step = first_step + int(finite.long().argmin())
        raise RunError(
            f"the loss is {losses[step - first_step].item()} in epoch {epoch}, step {step + 1}, at learning rate "
            f"{lr(step):g}. Checkpoints of earlier epochs are kept. Try a smaller train.lr or a train.clip_norm"
        )
