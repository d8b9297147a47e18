"""python -m bench.quality: how good a model is after so many seconds, for each set of params in experiments/.

  loopline   what the file says, with validation after each epoch
  tutorial   the loop that PyTorch's tutorials teach; Adam at 0.001, batches of 64
  lightning  a LightningModule and a Trainer; Adam at 0.001, batches of 64
  skorch     a NeuralNet; SGD at 0.1 for classes and at 0.01 for numbers, Adam at 0.002 for images; batches of 128

The last three (bench/peers.py) train as people begin with them, at one learning rate; what sets them apart from the
first is the recipe and the tool: bench.loop has the tool alone. All have the same network with the same first weights,
the same rows, and as many epochs. After each epoch the test split is measured while the clock stands. Each is a program
of its own, they take turns, and a round is a whole training with a seed of its own; all on the CPU.

bench/results/quality-<device>.csv has every epoch, and the picture beside it the curves. What trains on Fashion-MNIST
needs its four files in data/raw/fashion-mnist (README).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from contextlib import chdir, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from ruamel.yaml import YAML

from bench import curves, peers, report, turns
from src import cli, files, losses, metrics, plots
from src.errors import InputError
from src.losses import DEFAULT_LOSS
from src.params import Params, changed

if TYPE_CHECKING:
    from torch import nn

    from src.loop import Trainer
    from src.training import Data

EXPERIMENTS = {path.stem: path for path in sorted(Path("experiments").glob("*.txt"))}
CONTESTANTS = ("loopline", *peers.PEERS)
QUICK = ("digits", "diabetes")
MEASURES = {"classification": "accuracy", "binary": "accuracy", "regression": "rmse", "robust_regression": "mae"}
TABLE = report.RESULTS / f"quality-{report.slug(report.device())}.csv"


def main() -> None:
    parser = report.parser("quality", __doc__, rounds=5)
    parser.add_argument("--only", choices=EXPERIMENTS, action="append", help="this experiment; may be repeated")
    parser.add_argument("--alone", action="store_true", help="Loopline without the others, which draws no curve")
    parser.add_argument("--run", nargs=2, metavar=("NAME", "EXPERIMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    names = options.only or (QUICK if options.quick else EXPERIMENTS)
    if not options.alone:
        peers.check()
    for name in names:
        source_of(name)
    for name in names:
        contestants = CONTESTANTS[:1] if options.alone else CONTESTANTS
        table = measured(name, contestants, 1 if options.quick else options.rounds)
        if not (options.quick or options.alone):
            keep(name, table)
        part = name + ", alone" * options.alone
        report.finish("quality", not options.quick, options.json, compare(name, table), summary(table), part)


def measured(name: str, contestants: tuple[str, ...], rounds: int) -> pd.DataFrame:
    """Every epoch of every training of an experiment, a row each."""
    cli.say(f"{name}: {rounds} rounds of {', '.join(contestants)}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        make(name, Path(folder))
        entries = {contestant: ["-m", "bench.quality", "--run", contestant, name] for contestant in contestants}
        for seed, told in enumerate(turns.race(entries, rounds, Path(folder), warm_up=0)):
            for contestant, facts in told.items():
                of = {"experiment": name, "contestant": contestant, "seed": seed, "measure": facts["measure"]}
                rows += [{**of, "epoch": epoch, **point} for epoch, point in enumerate(facts["curve"], start=1)]
            cli.say(f"{name}: round {seed + 1} of {rounds} is over")
    return pd.DataFrame(rows)


def experiment(name: str, **values: Any) -> Params:
    """The params that a file in experiments/ makes, on the CPU."""
    load = YAML(typ="safe").load
    lines = EXPERIMENTS[name].resolve().read_text(encoding="utf-8").splitlines()
    settings = [line.removeprefix("-S ").partition("=") for line in lines]
    return changed(Params(), {**{key: load(value) for key, _, value in settings}, "train.device": "cpu", **values})


def source_of(name: str) -> Path | None:
    """The file or folder that an experiment reads; None for a bundled set, InputError when it is not there."""
    source = Path(experiment(name).prepare.source)
    if len(source.parts) == 1:
        return None
    if not source.exists():
        raise InputError(f"{source} is missing: the README says where its files are to be had")
    return source


def make(name: str, folder: Path) -> None:
    """The data of an experiment, prepared in `folder`; its params beside them."""
    from src.data.prepare import prepare

    params, source = experiment(name), source_of(name)
    (folder / "experiments").symlink_to(Path("experiments").resolve())
    if source:
        (folder / source.parent).mkdir(parents=True)
        (folder / source).symlink_to(source.resolve())
    with chdir(folder):
        prepare(params)


class Curve:
    """The measure of the test split after each epoch, and the seconds that were trained until then, from `start` on."""

    def __init__(self, params: Params, data: Data) -> None:
        from src.data import prepared
        from src.data.batches import Batches

        test = prepared.load("test", data.schema)
        self._test = Batches(test.inputs, test.targets, 1000, scale=data.schema.scale)
        self._loss = losses.build(DEFAULT_LOSS[params.task])
        self._measure = partial(metrics.measure, params.task, in_unit=data.schema.target.in_unit)
        self.measure, self.points = MEASURES[params.task], list[dict[str, float]]()
        self._seconds = self._start = 0.0

    def start(self) -> None:
        self._start = time.perf_counter()

    def after_epoch(self, model: nn.Module) -> None:
        from src.loop import evaluate

        self._seconds += time.perf_counter() - self._start
        outputs, targets, _ = evaluate(model, self._test, self._loss, nullcontext())
        self.points.append({"seconds": self._seconds, "value": self._measure(outputs, targets)[self.measure]})
        model.train()
        self._start = time.perf_counter()


def run(contestant: str, name: str) -> None:
    """Be a contestant until ended: a training a turn, each with a seed of its own. Before the first a short one, with
    the imports."""
    from src import training

    data = training.load_data()
    few = data._replace(train=data.train._make(part[:256] for part in data.train))
    train = loopline if contestant == "loopline" else partial(peer, peers.PEERS[contestant])
    train(experiment(name, **{"train.epochs": 1, "train.warmup_epochs": 0.0}), few)
    turns.lap()
    for seed in itertools.count():
        curve = train(experiment(name, seed=seed), data)
        turns.lap(measure=curve.measure, curve=curve.points)


def loopline(params: Params, data: Data) -> Curve:
    from src import training

    found: list[Trainer] = []
    epochs = training.train(params, data, watch=lambda trainer, _: found.append(trainer))
    curve = Curve(params, data)
    curve.start()
    for _ in epochs:
        curve.after_epoch(found[0].model)
    return curve


def peer(train: peers.Peer, params: Params, data: Data) -> Curve:
    import torch

    from src import training

    trainer, batches, _ = training.assemble(params, data)
    (model, inputs), loss = peers.given(trainer, batches), losses.build(DEFAULT_LOSS[params.task])
    optimizer, lr, size = torch.optim.Adam, 0.001, 64
    if train is peers.skorch:
        size = 128
        if inputs.ndim == 4:
            lr = 0.002
        else:
            optimizer, lr = torch.optim.SGD, 0.1 if params.task in metrics.PROBABILISTIC else 0.01
    work = peers.Work(model, loss, inputs, batches.targets, size, optimizer, lr, params.train.epochs)
    curve = Curve(params, data)
    curve.start()
    train(work, lambda _: curve.after_epoch(model))
    return curve


def keep(name: str, table: pd.DataFrame) -> None:
    """Keep the epochs of an experiment in place of those before, and draw those of all."""
    table = table.assign(commit=report.commit())
    if TABLE.exists():
        before = pd.read_csv(TABLE, dtype={"commit": str})
        table = pd.concat([before[before["experiment"] != name], table])
    table = table.sort_values(["experiment", "contestant", "seed", "epoch"], ignore_index=True)
    files.write_bytes(TABLE, table.to_csv(index=False, float_format="%.6g").encode())
    plots.write(report.RESULTS, {TABLE.stem: curves.picture(table)})


def compare(name: str, table: pd.DataFrame) -> list[report.Headline]:
    """How many times as long as Loopline each of the others takes until it stays at least as good as it is in the end,
    seed by seed; 0 where Loopline does not."""
    of_it = dict(list(table.groupby("contestant")))
    ours, lines = of_it.pop("loopline"), []
    for who, theirs in of_it.items():
        rounds = [(part, ours[ours["seed"] == seed]) for seed, part in theirs.groupby("seed")]
        taken = [[seconds_to(part["value"].iloc[-1], one) for one in (part, own)] for part, own in rounds]
        seconds = pd.DataFrame(taken, columns=["theirs", "ours"])
        what = f"{name}: times as fast as {who} to the {ours['measure'].iloc[0]} that it ends with"
        lines.append(report.Headline(what, turns.ratio(seconds["theirs"], seconds["ours"]), "more than 1"))
    return lines


def seconds_to(value: float, epochs: pd.DataFrame) -> float:
    """Until the epochs of one training stay as good as `value`; infinite where they do not."""
    sign = 1 if metrics.METRICS[epochs["measure"].iloc[0]].goal == "maximise" else -1
    worst_from_here = (sign * epochs["value"])[::-1].cummin()[::-1]
    there = epochs.loc[worst_from_here >= sign * value, "seconds"]
    return float("inf") if there.empty else there.min()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Of each contestant: seconds of a training, and what the test split gave after it, over the seeds."""
    last = table.loc[table.groupby(["experiment", "contestant", "seed"])["epoch"].idxmax()]
    each = last.groupby(["experiment", "contestant", "measure"])
    return each.agg(
        seconds=("seconds", "median"), mean=("value", "mean"), sd=("value", "std"), seeds=("seed", "count")
    ).reset_index()


if __name__ == "__main__":
    cli.run(main)
