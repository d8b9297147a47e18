"""python -m bench.loop: the training loop beside the limit of the machine, and beside what people would use instead.

All train the same network (src/models.py, the same first weights) with Adam on the same training split, with the same
batch size and number of threads and with the same allocator, and report each epoch's mean loss:

  loopline   train_epoch, as the train stage calls it
  limit      the same step, over and over on one batch that is in place
  ready      the same on an epoch's batches, made before: what it costs that each comes from the memory
  tutorial   a DataLoader and the loop that PyTorch's tutorials teach
  lightning  a LightningModule and a Trainer, its logger, checkpoints and progress bar off
  skorch     a NeuralNet that does not split or print

The last three (bench/peers.py) get images that are scaled already, torch's default memory format and its default Adam,
which is not fused. Each is a program of its own, and they take turns, round by round (bench/turns.py), begun anew
after each fifth of the rounds; all on the CPU.
The peers are in bench/requirements.txt; Fashion-MNIST has to lie in data/raw/fashion-mnist (README).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from bench import peers, report, turns
from src import cli
from src.errors import InputError
from src.params import Params, changed

if TYPE_CHECKING:
    from torch import Tensor

    from src.data.batches import Batches
    from src.loop import Trainer
    from src.training import Data

IMAGES = Path("data/raw/fashion-mnist")
NEVER = 100_000  # epochs: a contestant trains until it is ended
LR = 1e-3
STARTS = 5  # times that all begin anew: where the memory of a process happens to lie makes 3% for a small network
SAME = 0.1  # share of itself by which a loss may differ from ours, in the first round that counts


class Workload(NamedTuple):
    """settings: params; rows: of the training split, None for all; epochs: in a round; aims: beside whom, and what."""

    settings: dict[str, Any]
    rows: int | None
    epochs: int
    aims: dict[str, str]


SHARES = {"limit": "share of the limit", "ready": "share of that with batches made before"}
FASHION = {"prepare.source": IMAGES.name, "prepare.split": "given", "prepare.split_column": "split"}


def aims(limit: str, *beside: str) -> dict[str, str]:
    """What is aimed at: a share of the limit, and times as fast as each of the peers."""
    return {"limit": limit, "ready": "", **dict(zip(peers.PEERS, beside, strict=True))}


CONVOLUTIONS = aims("at least 0.97", "more than 1", "more than 1", "more than 1")
WORKLOADS = {
    "fashion-mlp": Workload(
        {**FASHION, "model.widths": [128], "train.batch_size": 256},
        None,
        1,
        aims("at least 0.9", "at least 2.5", "at least 3", "at least 2"),
    ),
    "digits-mlp": Workload(
        {"prepare.source": "digits", "model.widths": [64], "train.batch_size": 64},
        None,
        30,
        aims("at least 0.9", "at least 3", "at least 3", "at least 2"),
    ),
    "fashion-cnn": Workload(
        {**FASHION, "model.name": "cnn", "model.channels": [16, 32, 64], "train.batch_size": 128},
        6400,
        1,
        CONVOLUTIONS,
    ),
    "fashion-resnet": Workload(
        {**FASHION, "model.name": "resnet", "model.channels": [16, 32, 64], "train.batch_size": 128},
        3200,
        1,
        CONVOLUTIONS,
    ),
}


def main() -> None:
    parser = report.parser("loop", __doc__, rounds=25)
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="this workload; may be repeated")
    parser.add_argument("--run", nargs=2, metavar=("NAME", "WORKLOAD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    peers.check()
    rows, headlines = [], []
    for name in options.only or WORKLOADS:
        rounds = 1 if options.quick else options.rounds
        cli.say(f"{name}: {rounds} rounds of {', '.join(CONTESTANTS)}")
        table = measure(name, rounds)
        rows += [row(name, contestant, table) for contestant in CONTESTANTS]
        headlines += compare(name, table)
    report.finish("loop", not (options.quick or options.only), options.json, headlines, pd.DataFrame(rows))


def measure(name: str, rounds: int) -> pd.DataFrame:
    """Seconds and loss of every contestant, a round a row."""
    with tempfile.TemporaryDirectory() as folder:
        make(name, Path(folder))
        entries = {contestant: ["-m", "bench.loop", "--run", contestant, name] for contestant in CONTESTANTS}
        edges = [rounds * start // STARTS for start in range(STARTS + 1)]
        races = (
            turns.race(entries, last - first, Path(folder), before=first)
            for first, last in pairwise(edges)
            if last > first
        )
        told = chain.from_iterable(races)
        return pd.concat({number: pd.DataFrame(each).unstack() for number, each in enumerate(told)}, axis=1).T


def row(name: str, contestant: str, table: pd.DataFrame) -> dict[str, Any]:
    seconds = table[contestant, "seconds"]
    return {
        "workload": name,
        "contestant": contestant,
        "seconds": seconds.median(),
        "lower quartile": seconds.quantile(0.25),
        "upper quartile": seconds.quantile(0.75),
        "rounds": len(seconds),
        "first loss": table[contestant, "loss"].iloc[0],
    }


def compare(name: str, table: pd.DataFrame) -> list[report.Headline]:
    """The ratios to all others; RuntimeError when one has not learned the same, as then they say nothing."""
    ours, lines = table["loopline"], []
    for contestant, aim in WORKLOADS[name].aims.items():
        theirs = table[contestant]
        apart = abs(theirs["loss"].iloc[0] / ours["loss"].iloc[0] - 1)
        if contestant in peers.PEERS and apart > SAME:
            raise RuntimeError(f"{name}: the loss of {contestant} is {apart:.0%} from ours: not the same training")
        what = SHARES.get(contestant, f"times as fast as {contestant}")
        lines.append(report.Headline(f"{name}: {what}", turns.ratio(theirs["seconds"], ours["seconds"]), aim))
    return lines


def make(name: str, folder: Path) -> None:
    """The data of a workload, prepared in `folder`."""
    from src.data.prepare import prepare

    if WORKLOADS[name].settings["prepare.source"] == IMAGES.name:
        if not IMAGES.is_dir():
            raise InputError(f"{IMAGES} is missing: the README says where its four files are to be had")
        (folder / IMAGES.name).symlink_to(IMAGES.resolve())
    with chdir(folder):
        prepare(settings(name))


def load(name: str) -> Data:
    """The prepared data of a workload, as many rows of it to train on as it says."""
    from src import training

    data = training.load_data()
    return data._replace(train=data.train._make(part[: WORKLOADS[name].rows] for part in data.train))


def settings(name: str) -> Params:
    common = {"model.dropout": 0.0, "train.optimizer": "adam", "train.lr": LR, "train.schedule": "constant"}
    return changed(Params(), {**common, "train.epochs": NEVER, "train.device": "cpu", **WORKLOADS[name].settings})


class Watch:
    """Counts the epochs of a contestant, and ends a lap after each round of them."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.count, self.start = epochs, 0, time.perf_counter()

    def epoch(self, loss: float) -> None:
        self.count += 1
        if self.count == self.epochs:
            turns.lap(seconds=time.perf_counter() - self.start, loss=loss)
            self.count, self.start = 0, time.perf_counter()


def run(contestant: str, name: str) -> None:
    """Be a contestant until ended. Threads and first weights are those that `assemble` sets for all."""
    from src import training

    trainer, batches, _ = training.assemble(settings(name), load(name))
    CONTESTANTS[contestant](trainer, batches, Watch(WORKLOADS[name].epochs))


def loopline(trainer: Trainer, batches: Batches, watch: Watch) -> None:
    from src.loop import train_epoch, weighted_mean

    for number in range(1, NEVER):
        watch.epoch(weighted_mean(train_epoch(trainer, batches, number), batches.sizes))


def limit(trainer: Trainer, batches: Batches, watch: Watch) -> None:
    whole = next(batches.epoch(1))
    in_place = {size: tuple(part[:size].clone() for part in whole) for size in batches.sizes}
    arithmetic(trainer, [in_place[size] for size in batches.sizes], watch)


def ready(trainer: Trainer, batches: Batches, watch: Watch) -> None:
    arithmetic(trainer, [tuple(part.clone() for part in batch) for batch in batches.epoch(1)], watch)


def arithmetic(trainer: Trainer, batches: list[tuple[Tensor, ...]], watch: Watch) -> None:
    """The steps of an epoch, over and over: no order, no learning rate, no loss read."""
    model, optimizer = trainer.model.train(), trainer.optimizer
    while True:
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = trainer.loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
        watch.epoch(loss.item())


def peer(train: peers.Peer, trainer: Trainer, batches: Batches, watch: Watch) -> None:
    """What trains by Adam with torch's defaults."""
    import torch

    (model, inputs), size = peers.given(trainer, batches), batches.sizes[0]
    train(peers.Work(model, trainer.loss, inputs, batches.targets, size, torch.optim.Adam, LR, NEVER), watch.epoch)


CONTESTANTS: dict[str, Callable[[Trainer, Batches, Watch], None]] = {
    "loopline": loopline,
    "limit": limit,
    "ready": ready,
    **{name: partial(peer, train) for name, train in peers.PEERS.items()},
}


if __name__ == "__main__":
    cli.run(main)
