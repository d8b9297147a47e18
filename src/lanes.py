"""Trainings that run as one program, a lane each: one step is made for all of them with the operations of one.

A lane is what src/loop.py would train alone, with its own learning rate, schedule, optimizer, dropout and order of the
samples, and gives the same epochs, to rounding. What has to be equal is what the operations are made of: architecture,
loss, batch size, data. A lane that ends is taken out, and costs nothing from then on.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from src.data.batches import Batches
from src.errors import RunError
from src.fused import SGD, Adam, AdamW, Fused
from src.graph import Recorded, Recording
from src.loop import Epoch, Trainer, check_finite, concluded, train_step
from src.stacked import Stacked

Told = dict[int, Epoch | RunError]


def obstacle(trainers: Sequence[Trainer]) -> str | None:
    """Why these cannot be lanes of one program, if they cannot."""
    for trainer in trainers:
        if type(trainer.optimizer) not in RULES:
            return f"there is no rule in src/lanes.py for the optimizer {type(trainer.optimizer).__name__}"
        if trainer.step is not train_step and not isinstance(trainer.step, Recorded):
            return "train.accumulate and train.fail_on_wait make steps of one training"
        if not all(parameter.requires_grad for parameter in trainer.model.parameters()):
            return "the network has weights that are not trained"
        if trainer.scaler.is_enabled():
            return "train.precision fp16 scales the gradients of one training"
        if getattr(trainer.loss, "reduction", None) != "mean":
            return "the loss has no `reduction`, so the lanes' losses cannot be told apart"
    return None


class Lanes:
    """Trainings, from where they are. `trainers` and `train` have one entry a lane, in the same order; the batches
    may differ in their seed alone. ValueError for networks that are not of one architecture.

    numbers: the lanes that are left, by their place in `trainers`.
    """

    def __init__(self, trainers: Sequence[Trainer], train: Sequence[Batches], val: Batches) -> None:
        kinds = [kind(trainer.optimizer) for trainer in trainers]
        self.numbers = sorted(range(len(trainers)), key=kinds.__getitem__)
        self._trainers, self._train, self._val = trainers, train, val
        self._network = Stacked([trainers[lane].model for lane in self.numbers])
        self._loss = copy.copy(trainers[0].loss)
        self._loss.reduction = "none"  # type: ignore[assignment]
        self._rules = []
        for _, lanes in groupby(self.numbers, kinds.__getitem__):
            optimizers = [trainers[lane].optimizer for lane in lanes]
            self._rules.append(RULES[type(optimizers[0])](optimizers, self._network.flat))  # type: ignore[arg-type]
        self._arrange()

    def fit(self, last: int, first: int = 1) -> Iterator[Told]:
        """Train all lanes to the epoch `last`, counted from 1, from where their trainers are: before the epoch `first`.
        After each epoch, what it gave each lane. A lane whose loss is not finite gives its RunError, and is out.
        Between two epochs the caller may `drop` lanes."""
        for number in range(first, last + 1):
            if not self.numbers:
                return
            yield self._epoch(number)

    def drop(self, lanes: Collection[int]) -> None:
        """Take lanes out, by their numbers: what they are made of is given up."""
        left = [place for place, lane in enumerate(self.numbers) if lane not in lanes]
        if len(left) == len(self.numbers):
            return
        first = 0
        for rule in self._rules:
            own = [place - first for place in left if first <= place < first + len(rule)]
            first += len(rule)
            rule.keep(torch.tensor(own, dtype=torch.int64))
        self._rules = [rule for rule in self._rules if len(rule)]
        self.numbers = [self.numbers[place] for place in left]
        if left:
            self._network.keep(torch.tensor(left))
            self._arrange()

    def weights(self, lane: int) -> dict[str, Tensor]:
        """Those of a lane between two epochs, as a state_dict on the CPU."""
        return self._network.state(self.numbers.index(lane))

    def write_back(self) -> None:
        """Bring the trainers of the lanes that are left to where these are, between two epochs."""
        for lane in self.numbers:
            self._trainers[lane].model.load_state_dict(self.weights(lane))
        first = 0
        for rule in self._rules:
            own = self.numbers[first : first + len(rule)]
            rule.write_back([self._trainers[lane].optimizer for lane in own])  # type: ignore[misc]
            first += len(own)

    def _arrange(self) -> None:
        """What follows from the lanes that are left."""
        lanes = [self._trainers[lane] for lane in self.numbers]
        batches = {self._train[lane].seed: self._train[lane] for lane in self.numbers}
        self._batches = list(batches.values())  # one for each order of the samples
        places = {seed: place for place, seed in enumerate(batches)}
        order = [places[self._train[lane].seed] for lane in self.numbers]
        self._order = torch.tensor(order, device=self._network.flat.device)
        limits = [lane.clip_norm or float("inf") for lane in lanes]
        is_limited = min(limits) < float("inf")
        self._limits = torch.tensor(limits, dtype=torch.float64).to(self._network.flat) if is_limited else None
        # what was recorded computes with the lanes that there were then
        self._recording = Recording() if isinstance(lanes[0].step, Recorded) else None

    def _epoch(self, number: int) -> Told:
        start = time.perf_counter()
        losses = self._train_epoch(number).cpu()
        speed = len(self._batches[0].targets) / (time.perf_counter() - start)
        measured = self._evaluate()
        told: Told = {}
        for place, lane in enumerate(self.numbers):
            trainer, batches = self._trainers[lane], self._batches[0]
            own = losses[:, place]
            try:
                check_finite(own, (number - 1) * len(batches), number, trainer.lr)
                told[lane] = concluded(trainer, batches, number, own, speed, measured[place])
            except RunError as error:
                told[lane] = error
        self.drop([lane for lane, what in told.items() if isinstance(what, RunError)])
        return told

    def _train_epoch(self, number: int) -> Tensor:
        """One pass; the loss of each step of each lane, [steps, K], on the device."""
        first = (number - 1) * len(self._batches[0])
        steps = range(first, first + len(self._batches[0]))
        lanes = [self._trainers[lane] for lane in self.numbers]
        rates = torch.tensor([[[lane.lr(step)] for lane in lanes] for step in steps], dtype=torch.float64)
        rates = rates.to(self._network.flat)
        sizes, pairs = self._batches[0].sizes, zip(*(each.epoch(number) for each in self._batches), strict=True)
        losses = []
        for rate, size, pair in zip(rates, sizes, pairs, strict=True):
            batch = rate, *self._together(pair)
            recording = self._recording if size == sizes[0] else None
            losses.append(recording(self._step, *batch) if recording else self._step(*batch))
        return torch.stack(losses)

    def _step(self, rate: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step of all lanes at the rates [K, 1]; their losses [K]."""
        with self._trainers[0].autocast:
            outputs = self._network(inputs, len(self._batches) == 1, training=True)  # forward
            losses = self._loss(outputs, targets.expand(len(rate), *targets.shape[-1:])).mean(1)  # loss
        # backward: a lane moves no other lane's loss. (The sum, as torch imports sympy for the gradient of a vector)
        gradients = torch.autograd.grad(losses.sum(), list(self._network.weights.values()))
        self._update(torch.cat([gradient.reshape(len(rate), -1) for gradient in gradients], 1), rate)  # update
        return losses.detach()

    @torch.no_grad()
    def _update(self, gradients: Tensor, rate: Tensor) -> None:
        """gradients: [K, P], as the network's weights lie; rate: [K, 1]."""
        if self._limits is not None:
            norms = gradients.norm(dim=1)
            gradients *= (self._limits / (norms + 1e-6)).clamp(max=1).unsqueeze(1)
        counts = [len(rule) for rule in self._rules]
        rows = (part.split(counts) for part in (self._network.flat, gradients, rate))
        for rule, *own in zip(self._rules, *rows, strict=True):
            rule.move(*own)

    def _together(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The batches of one step: as they are for lanes that share them, else one a lane."""
        if len(pairs) == 1:
            return pairs[0]
        inputs, targets = (torch.stack(part)[self._order] for part in zip(*pairs, strict=True))
        return inputs, targets

    @torch.no_grad()
    def _evaluate(self) -> list[dict[str, float]]:
        """Loss and metrics of each lane on the validation split."""
        outputs, targets, losses = [], [], []
        for inputs, wanted in self._val:
            with self._trainers[0].autocast:
                given = self._network(inputs, shared=True, training=False)
                losses.append(self._loss(given, wanted.expand(len(given), -1)))
            outputs.append(given.float().transpose(1, -1))  # [K, N, classes] or [K, N]
            targets.append(wanted)
        means = torch.cat(losses, 1).mean(1).tolist()
        measured = self._trainers[0].measure(torch.cat(outputs, 1), torch.cat(targets))
        return [{"loss": mean, **own} for mean, own in zip(means, measured, strict=True)]


def kind(optimizer: Any) -> tuple[Any, ...]:
    """Optimizers of the same kind are moved by the same operations."""
    rule = RULES[type(optimizer)]
    return (rule.name, *(optimizer.settings[name] for name in rule.uniform))


class Rule:
    """The update of lanes of one kind, whose weights are rows that follow one another. `uniform` names the settings
    that are the same for all of them, `single` those of which each lane has its own, `kept` what there is of each
    weight.

    weights, gradients: [lanes, P], contiguous; rate, and what is single: [lanes, 1].
    """

    name: str
    uniform: tuple[str, ...] = ()
    single: tuple[str, ...] = ("weight_decay",)
    kept: tuple[str, ...] = ()

    def __init__(self, optimizers: Sequence[Fused], like: Tensor) -> None:
        self._count = len(optimizers)
        self._settings = {name: optimizers[0].settings[name] for name in self.uniform}
        each = {name: [optimizer.settings[name] for optimizer in optimizers] for name in self.single}
        self._single = {
            name: torch.tensor(values, dtype=torch.float64).unsqueeze(1).to(like) for name, values in each.items()
        }
        none = [torch.zeros_like(parameter) for parameter in optimizers[0].params]
        self._kept = {
            name: torch.stack([flat(optimizer.state.get(name, none)) for optimizer in optimizers]) for name in self.kept
        }
        # of the lanes that go on, which are at the same step: one that is about to be dropped may be at none
        self._step_count = torch.stack([optimizer.step_count for optimizer in optimizers]).max()

    def __len__(self) -> int:
        """Lanes that it moves."""
        return self._count

    def keep(self, rows: Tensor) -> None:
        """Leave only the lanes at the places `rows`, int64."""
        self._count = len(rows)
        self._single = {name: values[rows] for name, values in self._single.items()}
        self._kept = {name: values[rows] for name, values in self._kept.items()}

    def move(self, weights: Tensor, gradients: Tensor, rate: Tensor) -> None:
        """One step. Gradients may be written over."""
        self._step_count.add_(1)
        self._move(weights, gradients, rate)

    def write_back(self, optimizers: Sequence[Fused]) -> None:
        """Bring the optimizers of the lanes, in their order, to where these are."""
        for row, optimizer in enumerate(optimizers):
            optimizer.step_count.copy_(self._step_count)
            for name, parts in optimizer.state.items():
                own = self._kept[name][row].split([part.numel() for part in parts])
                for part, values in zip(parts, own, strict=True):
                    part.copy_(values.view_as(part))

    def _move(self, weights: Tensor, gradients: Tensor, rate: Tensor) -> None:
        raise NotImplementedError


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


class SGDRule(Rule):
    name = "sgd"
    single = ("weight_decay", "momentum")
    kept = ("momentum_buffer",)

    def _move(self, weights: Tensor, gradients: Tensor, rate: Tensor) -> None:
        buffer = self._kept["momentum_buffer"]
        gradients.addcmul_(weights, self._single["weight_decay"])
        torch.addcmul(gradients, buffer, self._single["momentum"], out=buffer)
        weights.addcmul_(buffer, rate, value=-1)


class AdamRule(Rule):
    """Adam and AdamW, which differ in a weight decay that Adam has none of. torch's kernel takes one rate a call: it
    adds its move, at a rate of 1, to what the weights decay by, and each lane goes against that at its own rate."""

    name = "adam"
    uniform = ("beta1", "beta2", "eps")
    kept = ("exp_avg", "exp_avg_sq", "moves")

    def __init__(self, optimizers: Sequence[Fused], like: Tensor) -> None:
        super().__init__(optimizers, like)
        self._settings |= {"amsgrad": False, "maximize": False, "weight_decay": 0.0, "lr": -1.0}

    def _move(self, weights: Tensor, gradients: Tensor, rate: Tensor) -> None:
        moves = torch.mul(weights, self._single["weight_decay"], out=self._kept["moves"])
        averages = [self._kept["exp_avg"]], [self._kept["exp_avg_sq"]]
        torch._fused_adam_([moves], [gradients], *averages, [], [self._step_count], **self._settings)
        weights.addcmul_(moves, rate, value=-1)


RULES: dict[type, type[Rule]] = {SGD: SGDRule, Adam: AdamRule, AdamW: AdamRule}
