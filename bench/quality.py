"""python -m bench.quality: how good a model is after so many seconds, for each set of params in experiments/.

  loopline   what the file says, with validation after each epoch
  tutorial   the loop that PyTorch's tutorials teach; Adam at 0.001, batches of 64
  lightning  a LightningModule and a Trainer; Adam at 0.001, batches of 64
  skorch     a NeuralNet; SGD at 0.1 for classes and at 0.01 for numbers, Adam at 0.002 for images; batches of 128

The last three are bench/peers.py, with what the examples of each train with. All have the same network with the same
first weights, the same rows, and as many epochs. After each epoch the test split is measured while the clock stands.
Each is a program of its own, they take turns, and a round is a whole training with a seed of its own; all on the CPU.
bench/results/quality.csv has every epoch, quality.png the curves; what was not measured anew stays in them.
Those of Fashion-MNIST need its four files in data/raw/fashion-mnist (README).
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
TABLE = report.RESULTS / "quality.csv"


def main() -> None:
    parser = report.parser("quality", __doc__, rounds=5)
    parser.add_argument("--only", choices=EXPERIMENTS, action="append", help="this experiment; may be repeated")
    parser.add_argument("--alone", action="store_true", help="Loopline without the others")
    parser.add_argument("--run", nargs=2, metavar=("NAME", "EXPERIMENT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    names = options.only or (QUICK if options.quick else EXPERIMENTS)
    contestants = CONTESTANTS[:1] if options.alone else CONTESTANTS
    rounds = 1 if options.quick else options.rounds
    table = pd.concat([measured(name, contestants, rounds) for name in names], ignore_index=True)
    if not options.quick:
        table = keep(table)
    headlines = [line for name in table["experiment"].unique() for line in compare(name, table)]
    report.finish("quality", not options.quick, options.json, headlines, summary(table))


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
    return pd.DataFrame(rows).assign(commit=report.commit())


def experiment(name: str, **values: Any) -> Params:
    """The params that a file in experiments/ makes, on the CPU."""
    load = YAML(typ="safe").load
    lines = EXPERIMENTS[name].resolve().read_text(encoding="utf-8").splitlines()
    settings = [line.removeprefix("-S ").partition("=") for line in lines]
    return changed(Params(), {**{key: load(value) for key, _, value in settings}, "train.device": "cpu", **values})


def make(name: str, folder: Path) -> None:
    """The data of an experiment, prepared in `folder`; its params beside them."""
    from src.data.prepare import prepare

    params, source = experiment(name), Path(experiment(name).prepare.source)
    (folder / "experiments").symlink_to(Path("experiments").resolve())
    if len(source.parts) > 1:  # no bundled set
        if not source.exists():
            raise InputError(f"{source} is missing: the README says where its files are to be had")
        (folder / source.parent).mkdir(parents=True)
        (folder / source).symlink_to(source.resolve())
    with chdir(folder):
        prepare(params)


class Curve:
    """The measure of the test split after each epoch, and the seconds that were trained until then."""

    def __init__(self, params: Params, data: Data) -> None:
        from src.data import prepared
        from src.data.batches import Batches

        test = prepared.load("test", data.schema)
        self._test = Batches(test.inputs, test.targets, 1000, scale=data.schema.scale)
        self._loss = losses.build(DEFAULT_LOSS[params.task])
        self._measure = partial(metrics.measure, params.task, in_unit=data.schema.target.in_unit)
        self.measure, self.points = MEASURES[params.task], list[dict[str, float]]()
        self._seconds, self._start = 0.0, time.perf_counter()

    def after_epoch(self, model: nn.Module) -> None:
        from src.loop import evaluate

        self._seconds += time.perf_counter() - self._start
        outputs, targets, _ = evaluate(model, self._test, self._loss, nullcontext())
        self.points.append({"seconds": self._seconds, "value": self._measure(outputs, targets)[self.measure]})
        model.train()
        self._start = time.perf_counter()


def run(contestant: str, name: str) -> None:
    """Be a contestant until ended: a training a turn, each with a seed of its own."""
    from src import training

    data = training.load_data()
    turns.lap()
    for seed in itertools.count():
        params = experiment(name, seed=seed)
        curve = loopline(params, data) if contestant == "loopline" else peer(contestant, params, data)
        turns.lap(measure=curve.measure, curve=curve.points)


def loopline(params: Params, data: Data) -> Curve:
    from src import training

    found: list[Trainer] = []
    epochs = training.train(params, data, watch=lambda trainer, _: found.append(trainer))
    curve = Curve(params, data)
    for _ in epochs:
        curve.after_epoch(found[0].model)
    return curve


def peer(contestant: str, params: Params, data: Data) -> Curve:
    import torch

    from src import training

    trainer, batches, _ = training.assemble(params, data)
    model, loss = trainer.model.to(memory_format=torch.contiguous_format), losses.build(DEFAULT_LOSS[params.task])
    inputs = torch.cat([inputs for inputs, _ in batches])
    optimizer, lr, size = torch.optim.Adam, 0.001, 64
    if contestant == "skorch":
        size = 128
        if inputs.ndim == 4:
            lr = 0.002
        else:
            optimizer, lr = torch.optim.SGD, 0.1 if params.task in metrics.PROBABILISTIC else 0.01
    work = peers.Work(model, loss, inputs, batches.targets, size, optimizer, lr, params.train.epochs)
    curve = Curve(params, data)
    peers.PEERS[contestant](work, lambda _: curve.after_epoch(model))
    return curve


def keep(table: pd.DataFrame) -> pd.DataFrame:
    """Keep these trainings in place of those with the same contestants and seeds; draw, and give, all that there are
    then."""
    one = ["experiment", "contestant", "seed"]
    if TABLE.exists():
        before = pd.read_csv(TABLE, dtype={"commit": str})
        is_new = before[one].apply(tuple, axis=1).isin(set(table[one].apply(tuple, axis=1)))
        table = pd.concat([before[~is_new], table])
    table = table.sort_values([*one, "epoch"], ignore_index=True)
    files.write_bytes(TABLE, table.to_csv(index=False, float_format="%.6g").encode())
    plots.write(report.RESULTS, {TABLE.stem: curves.picture(table)})
    return table


def compare(name: str, table: pd.DataFrame) -> list[report.Headline]:
    """How many times as long as Loopline each of the others takes to what it has reached in the end, seed by seed; 0
    where Loopline does not reach that."""
    of_it = dict(list(table[table["experiment"] == name].groupby("contestant")))
    ours, lines = of_it.pop("loopline"), []
    measure = ours["measure"].iloc[0]
    for who, theirs in of_it.items():
        rounds = [(part, ours[ours["seed"] == seed]) for seed, part in theirs.groupby("seed")]
        ends = [part["value"].iloc[-1] for part, _ in rounds]
        taken = [[seconds_to(measure, end, one) for one in each] for end, each in zip(ends, rounds, strict=True)]
        seconds = pd.DataFrame(taken, columns=["theirs", "ours"])
        what = f"{name}: times as fast as {who} to the {measure} that it ends with"
        lines.append(report.Headline(what, turns.ratio(seconds["theirs"], seconds["ours"]), "more than 1"))
    return lines


def seconds_to(measure: str, value: float, epochs: pd.DataFrame) -> float:
    """Until an epoch of one training was as good as `value`; infinite where none was."""
    is_there = epochs["value"] >= value if metrics.METRICS[measure].goal == "maximise" else epochs["value"] <= value
    return epochs.loc[is_there, "seconds"].min() if is_there.any() else float("inf")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Of each contestant: seconds of a training, and what the test split gave after it, over the seeds."""
    last = table.loc[table.groupby(["experiment", "contestant", "seed"])["epoch"].idxmax()]
    each = last.groupby(["experiment", "contestant", "measure"])
    return each.agg(
        seconds=("seconds", "median"), mean=("value", "mean"), sd=("value", "std"), seeds=("seed", "count")
    ).reset_index()


if __name__ == "__main__":
    cli.run(main)
