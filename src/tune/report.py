"""What a search shows: a line or a bar while it runs; ranking, importance and gain at its end."""

import math
import sys
import time
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from src import cli
from src.params import Params
from src.tune import study
from src.tune.search import Search

SHOWN = 10  # trials in the ranking


def show(searching: Search, running: Study, total: int, params: Params) -> None:
    """Follow the trials to their end, on a terminal with a bar."""
    monitor, epochs = params.train.monitor, params.train.epochs
    if not sys.stderr.isatty():
        said = time.monotonic()
        for trial in searching.trials():
            if trial:
                best = "" if trial.best is None else f" {trial.best:.4g}"
                values = _values(trial.values)
                cli.say(f"trial {trial.number} {trial.state}{best}  {values}  {_best(running, monitor)}")
            elif searching.running and time.monotonic() - said > cli.EVERY:
                cli.say(_at(searching.running, epochs))
                said = time.monotonic()
        return
    columns = (TextColumn("trials"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total * epochs)
        for _ in searching.trials():
            ended, now = study.finished(running), searching.running
            pruned = sum(trial.state == TrialState.PRUNED for trial in ended)
            about = f"{len(ended)} of {total}, {pruned} pruned; {_at(now, epochs)}; {_best(running, monitor)}"
            bar.update(task, completed=len(ended) * epochs + sum(now), description=about)


def ranking(running: Study, monitor: str) -> Table:
    """The best trials, best first, as a table for the terminal."""
    leaders = study.ranking(running)[:SHOWN]
    keys = list(dict.fromkeys(key for trial in leaders for key in trial.user_attrs["values"]))
    table = Table(
        "rank",
        "trial",
        f"val {monitor}",
        "epoch",
        *keys,
        title="Ranking",
        title_justify="left",
    )
    for rank, trial in enumerate(leaders, 1):
        own = trial.user_attrs["values"]
        values = [_number(own[key]) if key in own else "" for key in keys]
        table.add_row(str(rank), str(trial.number), f"{trial.value:.4g}", str(trial.user_attrs["best_epoch"]), *values)
    return table


def importance(running: Study) -> dict[str, float]:
    """Share of the differences between trials that each param explains (fANOVA, Hutter et al. 2014), largest first.

    Empty when there are too few completed trials, or all are equal, so that there is nothing to explain.
    """
    import optuna

    values = {trial.value for trial in study.ranking(running)}
    if len(values) < 4:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(running, evaluator=evaluator)
    return {name: share for name, share in shares.items() if not math.isnan(share)}


def summary(running: Study, monitor: str) -> dict[str, Any]:
    """The search in numbers: how many trials ended how, the best, and the first, with the current params where they
    lie in the space."""
    finished = study.finished(running)
    states = {
        state: sum(trial.state.name.lower() == state for trial in finished) for state in ("complete", "pruned", "fail")
    }
    first = finished[0]
    return {
        "study": running.study_name,
        "monitor": monitor,
        "trials": {"total": len(finished), **states},
        "best": {
            "trial": running.best_trial.number,
            "value": running.best_value,
            "params": running.best_trial.user_attrs["values"],
        },
        "first": {"trial": first.number, "value": first.value, "params": first.user_attrs["values"]},
        "importance": importance(running),
    }


def in_words(result: dict[str, Any]) -> str:
    """The summary as the few lines that end a search."""
    best, first, counts = result["best"], result["first"], result["trials"]
    lines = [
        f"{counts['total']} trials: {counts['complete']} complete, {counts['pruned']} pruned, {counts['fail']} failed",
        f"best: trial {best['trial']}, val {result['monitor']} {best['value']:.4g} (trial {first['trial']}: "
        + ("none" if first["value"] is None else f"{first['value']:.4g}")
        + ")",
        *(f"  {key}: {_number(value)}" for key, value in best["params"].items()),
    ]
    if result["importance"]:
        lines.append("importance: " + ", ".join(f"{key} {share:.0%}" for key, share in result["importance"].items()))
    return "\n".join(lines)


def _at(running: list[int], epochs: int) -> str:
    """How far the trials are that are trained, from their epochs."""
    if not running:
        return "none running"
    first, last = min(running), max(running)
    return f"{len(running)} running, epoch {first if first == last else f'{first} to {last}'} of {epochs}"


def _best(running: Study, monitor: str) -> str:
    leaders = study.ranking(running)
    return f"best val {monitor} {leaders[0].value:.4g} (trial {leaders[0].number})" if leaders else "no trial completed"


def _values(values: dict[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={_number(value)}" for key, value in values.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
