"""python -m bench.pruning: how many epochs TPE with Hyperband takes to find what a random search of 100 trials found.

Both search the shipped space (learning rate and optimizer) on real data that scikit-learn carries, with the same
network, data and first weights. The random search trains each trial to its last epoch; of the other one the epochs
are counted until a trial is as good as the best of these. Each round has a seed of its own. Epochs are counted, not
seconds, and nothing is written to MLflow.
"""

from __future__ import annotations

import math
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench import report, sweep
from src import cli
from src.params import Params, changed

if TYPE_CHECKING:
    from src.tune.crew import Crew

DATA = {
    "digits": {"prepare.source": "digits", "model.widths": [64]},
    "breast_cancer": {"prepare.source": "breast_cancer", "task": "binary", "model.widths": [32]},
}
COMMON: dict[str, Any] = {"train.epochs": 27, "train.warmup_epochs": 1.0, "model.dropout": 0.0, "train.device": "cpu"}
TRIALS = 100
MOST = 2  # times as many trials, after which the other search has not found it
LANES = 4  # trials that are begun together, and cannot learn from each other: few
RANDOM = {"tune.sampler": "random", "tune.pruner": "none", "tune.lanes": 50}
GUIDED = {"tune.sampler": "tpe", "tune.pruner": "hyperband", "tune.lanes": LANES}


def main() -> None:
    options = report.parser("pruning", __doc__, rounds=20).parse_args()
    rounds, trials = (1, 10) if options.quick else (options.rounds, TRIALS)
    table = pd.concat([measure(name, rounds, trials) for name in DATA])
    headlines = []
    for name, rows in table.groupby("data", sort=False):
        share = float(rows["share"].median())
        headlines.append(report.Headline(f"{name}: share of the random search's epochs", share, "at most 0.35"))
    report.finish("pruning", not options.quick, options.json, headlines, table)


def measure(name: str, rounds: int, trials: int) -> pd.DataFrame:
    """A row a round: best of the random search, its epochs, those of the other (infinity where that found nothing as
    good), and their share."""
    from src.data.prepare import prepare
    from src.tune.crew import Crew

    params = changed(Params(), {**COMMON, **DATA[name], "tune.trials": trials, **RANDOM})
    guided = changed(params, {**GUIDED, "tune.trials": MOST * trials})
    rows = []
    with tempfile.TemporaryDirectory() as place, chdir(place):
        with redirect_stdout(sys.stderr):
            prepare(params)
        with Crew(params, 1) as crew, Crew(guided, 1) as other:
            for seed in range(rounds):
                plain = search(changed(params, {"seed": seed}), crew)
                better = search(changed(guided, {"seed": seed}), other)
                wanted, spent = plain["best"].min(), int(plain["epochs"].sum())
                good = better["best"] <= wanted
                # with those that were trained beside the one that is as good
                taken = int(better["epochs"][: (good.argmax() // LANES + 1) * LANES].sum())
                facts = {"best": wanted, "random": spent, "guided": taken if good.any() else math.inf}
                rows.append({"data": name, "seed": seed, **facts, "share": facts["guided"] / spent})
                cli.say(f"{name}, seed {seed}: {wanted:.4g} after {spent} epochs, and after {facts['guided']}")
    return pd.DataFrame(rows)


def search(params: Params, crew: Crew) -> pd.DataFrame:
    """The trials of a search as they ended: best validation loss, infinity where there is none, and epochs."""
    from src.data import schema as schemas
    from src.tune import study
    from src.tune.search import Search

    with study.opened(params, schemas.load()) as tuning:
        found = Search(tuning, params, crew, params.tune.trials, sweep.Unsaid()).trials()  # type: ignore[arg-type]
        ended = [(trial.best, len(trial.records)) for trial in found if trial]
    return pd.DataFrame(ended, columns=["best", "epochs"]).fillna(math.inf)


if __name__ == "__main__":
    cli.run(main)
