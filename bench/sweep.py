"""python -m bench.sweep: a search over learning rate and optimizer, by lanes, one trial after the other, and by others.

Each way tries as many trials of the same training on digits, by TPE, without pruning, and keeps every epoch of each in
an MLflow store of its own:

  lanes       python -m src.tune, as it is
  untracked   the same with nothing of it for MLflow
  one by one  the same with tune.lanes: 1
  optuna      a study in SQLite, the loop of PyTorch's tutorials over DataLoaders, `mlflow.log_metrics` each epoch
  ray         Ray Tune with OptunaSearch and its MLflow callback, the same loop in processes of one core

Time runs from the first trial that is asked for to the last that is told of: imports are left out, and the time until
MLflow has all, and that of the whole command, stand beside. (Loopline imports MLflow within it where a search takes
over half a minute, and else after it.) The ways take turns; each round has a seed of its own. The MLP and the CNN are
searched, and the MLP by a thousand trials too: what MLflow costs a search shows there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from bench import report, turns
from src import cli
from src.errors import InputError
from src.params import Params, changed

if TYPE_CHECKING:
    from src.tracking.sweep import Trial
    from src.tune.crew import Crew
    from src.tune.study import Tuning

SPACE = {"train.lr": {"low": 1e-4, "high": 0.3, "log": True}, "train.optimizer": ["sgd", "adam", "adamw"]}
WORKERS = 2


AfterEpoch = Callable[[int, dict[str, float]], None]  # called with the number of the epoch, and its metrics


class Work(NamedTuple):
    """What is searched: params, and the number of trials."""

    params: dict[str, Any]
    trials: int


MLP = {"model.name": "mlp", "model.widths": [64], "train.epochs": 20}
WORKLOADS = {
    "mlp": Work(MLP, 64),
    "cnn": Work({"model.name": "cnn", "model.channels": [8, 16], "train.epochs": 5}, 32),
    "thousand": Work(MLP, 1000),
}
WAYS = {
    "mlp": ["lanes", "untracked", "one by one", "optuna", "ray"],
    "cnn": ["lanes", "one by one"],
    "thousand": ["lanes", "untracked"],
}
AIMS = {
    ("mlp", "optuna"): "at least 15",
    ("mlp", "one by one"): "at least 5",
    ("mlp", "untracked"): "at least 0.98",
    ("mlp", "ray"): "",
    ("cnn", "one by one"): "at least 2.5",
    ("thousand", "untracked"): "at least 0.98",
}


def main() -> None:
    parser = report.parser("sweep", __doc__, rounds=5)
    parser.add_argument("--only", choices=WORKLOADS, help="of the three")
    parser.add_argument("--ray", type=int, default=1, metavar="N", help="rounds with Ray Tune, minutes each (1)")
    parser.add_argument("--run", nargs=4, metavar=("WORKLOAD", "WAY", "SEED", "TRIALS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run[0], options.run[1], int(options.run[2]), int(options.run[3]))
        return
    if find_spec("ray") is None:
        raise InputError("ray cannot be imported: python -m pip install -c requirements.lock -r bench/requirements.txt")
    rounds, headlines, tables = 1 if options.quick else options.rounds, [], []
    for workload in [options.only] if options.only else WORKLOADS:
        table = measure(workload, rounds, options.ray, 8 if options.quick else WORKLOADS[workload].trials)
        names = ("sweep", "told", "best")
        seconds, told, best = (table.pivot(index="seed", columns="way", values=name) for name in names)
        for way in [way for way in WAYS[workload][1:] if way in seconds]:
            has = seconds[way].notna()
            ratio, later = (turns.ratio(each[way][has], each["lanes"][has]) for each in (seconds, told))
            headlines.append(report.Headline(f"{workload}: times {way}", ratio, AIMS[workload, way]))
            headlines.append(report.Headline(f"{workload}: the same, until MLflow has all", later))
            gain = float((best[way] - best["lanes"]).median())
            headlines.append(report.Headline(f"{workload}: best val loss below that of {way}", gain, "at least 0"))
        tables.append(table.groupby("way", sort=False).median().reset_index().assign(workload=workload))
    table = pd.concat(tables).drop(columns="seed")
    report.finish("sweep", not options.quick, options.json, headlines, table, options.only or "")


def measure(workload: str, rounds: int, ray: int, trials: int) -> pd.DataFrame:
    """way, seed, seconds (sweep, told, command), best validation loss; a row a run. ray: rounds with it."""
    rows = []
    with tempfile.TemporaryDirectory(dir=".") as place:
        for seed in range(rounds):
            ways = [way for way in WAYS[workload] if way != "ray" or seed < ray]
            for way in ways[seed % len(ways) :] + ways[: seed % len(ways)]:
                folder = Path(place).resolve() / f"{way}-{seed}"
                folder.mkdir()
                start = time.perf_counter()
                words = ["-m", "bench.sweep", "--run", workload, way, str(seed), str(trials)]
                facts = turns.alone(words, folder)
                rows.append({"way": way, "seed": seed, **facts, "command": time.perf_counter() - start})
                cli.say(f"{workload}, {way}, seed {seed}: {facts}")
    return pd.DataFrame(rows)


def run(workload: str, way: str, seed: int, trials: int) -> None:
    """One search by one way, in this folder; print its facts."""
    from src.data.prepare import prepare

    tuned = {"tune.space": SPACE, "tune.trials": trials, "tune.pruner": "none", "tune.workers": WORKERS}
    tuned |= {"tune.lanes": 1 if way == "one by one" else "auto"}
    params = changed(
        Params(),
        {
            "seed": seed,
            "model.dropout": 0.0,
            "train.warmup_epochs": 0.0,
            "train.device": "cpu",
            **WORKLOADS[workload].params,
            **tuned,
        },
    )
    with redirect_stdout(sys.stderr):
        prepare(changed(params, {"seed": 0}))
        facts = RUNS[way](params)
    print(json.dumps(facts))


class Unsaid:
    """In place of a study in MLflow."""

    def log(self, trials: Sequence[Trial]) -> None:
        pass


def untracked(params: Params) -> dict[str, float]:
    from src.data import schema as schemas
    from src.tune import search, study
    from src.tune.crew import Crew

    with study.opened(params, schemas.load()) as tuning, Crew(params, search.most_lanes(params)) as crew:
        return searched(params, tuning, crew, Unsaid())


def loopline(params: Params) -> dict[str, float]:
    from src.data import schema as schemas
    from src.tracking import courier, store, sweep
    from src.tune import search, study
    from src.tune.crew import Crew

    schema = schemas.load()
    store.experiment(store.connect(params.tracking), params.tracking)  # the first one makes the store
    courier.start(courier.LATER)
    with study.opened(params, schema) as tuning, Crew(params, search.most_lanes(params)) as crew:
        with sweep.begin(params, tuning.study.study_name, schema) as parent:
            start = time.perf_counter()
            facts = searched(params, tuning, crew, parent)
        return {**facts, "told": time.perf_counter() - start}


def searched(params: Params, tuning: Tuning, crew: Crew, parent: Any) -> dict[str, float]:
    """Search; how long it took, and the best that it found."""
    from src.tune import study
    from src.tune.search import Search

    start = time.perf_counter()
    for _ in Search(tuning, params, crew, params.tune.trials, parent).trials():
        pass
    over = time.perf_counter()
    cli.say(f"{crew.lanes} lanes")
    return {"sweep": over - start, "told": over - start, "best": study.ranking(tuning.study)[0].value or 0.0}


def plain(params: Params, lr: float, name: str, after_epoch: AfterEpoch) -> float:
    """Train once as the tutorials do; the best validation loss."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from bench.peers import given
    from src.training import assemble, load_data

    trainer, train, val = assemble(params, load_data())
    model, inputs = given(trainer, train)
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    decay = {} if name == "adam" else {"weight_decay": params.train.weight_decay}
    momentum = {"momentum": params.train.momentum} if name == "sgd" else {}
    optimizer = kinds[name](model.parameters(), lr=lr, **decay, **momentum)  # type: ignore[operator]
    training = DataLoader(TensorDataset(inputs, train.targets), params.train.batch_size, shuffle=True)
    validation = DataLoader(TensorDataset(torch.cat([x for x, _ in val]), val.targets), params.train.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, params.train.epochs * len(training))
    best = float("inf")
    for epoch in range(1, params.train.epochs + 1):
        model.train()
        total = 0.0
        for x, y in training:
            optimizer.zero_grad()
            loss = trainer.loss(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        model.eval()
        lost, right = 0.0, 0
        with torch.no_grad():
            for x, y in validation:
                outputs = model(x)
                lost += trainer.loss(outputs, y).item() * len(y)
                right += (outputs.argmax(1) == y).sum().item()
        count = len(val.targets)
        best = min(best, lost / count)
        after_epoch(
            epoch, {"train/loss": total / len(training), "val/loss": lost / count, "val/accuracy": right / count}
        )
    return best


def optuna_alone(params: Params) -> dict[str, float]:
    import mlflow
    import optuna
    import torch

    torch.set_num_threads(1)  # the fastest for a network of this size
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    mlflow.set_experiment("sweep")
    study = optuna.create_study(storage="sqlite:///study.db", sampler=optuna.samplers.TPESampler(seed=params.seed))

    def objective(trial: optuna.Trial) -> float:
        with mlflow.start_run(nested=True):
            lr, name = trial.suggest_float("lr", 1e-4, 0.3, log=True), trial.suggest_categorical("o", KINDS)
            mlflow.log_params({"lr": lr, "optimizer": name})

            def after_epoch(epoch: int, values: dict[str, float]) -> None:
                trial.report(values["val/loss"], epoch)
                mlflow.log_metrics(values, step=epoch)

            return plain(params, lr, name, after_epoch)

    with mlflow.start_run(run_name="study"):
        start = time.perf_counter()
        study.optimize(objective, n_trials=params.tune.trials)
        over = time.perf_counter()
    return {"sweep": over - start, "told": over - start, "best": study.best_value}


def ray_tune(params: Params) -> dict[str, float]:
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    folder = Path.cwd()
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def trainable(config: dict[str, Any]) -> None:
        import torch

        os.chdir(folder)
        torch.set_num_threads(1)
        plain(params, config["lr"], config["optimizer"], lambda _, values: tune.report(dict(values)))

    start = time.perf_counter()
    found = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr": tune.loguniform(1e-4, 0.3), "optimizer": tune.choice(KINDS)},
        tune_config=tune.TuneConfig(
            metric="val/loss", mode="min", num_samples=params.tune.trials, search_alg=OptunaSearch(seed=params.seed)
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="sweep")],
        ),
    ).fit()
    over = time.perf_counter()
    best = min(result.metrics_dataframe["val/loss"].min() for result in found)
    ray.shutdown()
    return {"sweep": over - start, "told": over - start, "best": float(best)}


KINDS = ["sgd", "adam", "adamw"]
RUNS: dict[str, Callable[[Params], dict[str, float]]] = {
    "lanes": loopline,
    "untracked": untracked,
    "one by one": loopline,
    "optuna": optuna_alone,
    "ray": ray_tune,
}

if __name__ == "__main__":
    cli.run(main)
