"""What a search shows: a line or a bar while it runs; ranking, importance and gain at its end."""

import math
import sys
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from src import cli
from src.errors import InputError
from src.params import Params
from src.tune import objectives, study, warm
from src.tune.apply import text
from src.tune.objectives import Objective
from src.tune.search import Search
from src.tune.trials import standard_error

SHOWN = 10  # trials in the ranking
LEVEL = 0.95  # of confidence


def show(searching: Search, running: Study, total: int, params: Params) -> None:
    """Follow the trials to their end, on a terminal with a bar."""
    label, epochs = objectives.of(params)[0].label, params.train.epochs
    if not sys.stderr.isatty():
        said, last = time.monotonic(), ""
        for trial in searching.trials():
            if trial:
                best = "" if trial.best is None else f" {trial.best:.4g}"
                values = _values(trial.values)
                cli.say(f"trial {trial.number} {trial.state}{best}  {values}  {_best(running, label)}")
            elif searching.running and time.monotonic() - said > cli.EVERY:
                said, line = time.monotonic(), _at(searching.running, epochs)
                if line != last:
                    cli.say(line)
                last = line
        return
    columns = (TextColumn("trials"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total * epochs)
        for _ in searching.trials():
            ended, now = study.finished(running), searching.running
            pruned = sum(trial.state == TrialState.PRUNED for trial in ended)
            about = f"{len(ended)} of {total}, {pruned} pruned; {_at(now, epochs)}; {_best(running, label)}"
            bar.update(task, completed=len(ended) * epochs + sum(now), description=about)


def ranking(running: Study, sought: Sequence[Objective]) -> Table:
    """The best trials, best first, as a table for the terminal; of several objectives, the Pareto front."""
    leaders = study.front(running)[:SHOWN]
    alike = like(leaders[0], leaders, sought)
    keys = list(dict.fromkeys(key for trial in leaders for key in trial.user_attrs["values"]))
    title = "Ranking" if len(sought) == 1 else "Pareto front: no trial is better in all that is sought"
    table = Table("rank", "trial", title=title, title_justify="left")
    for objective in sought:
        table.add_column(objective.label)
    for name in ("epoch", *keys):
        table.add_column(name)
    for rank, trial in enumerate(leaders, 1):
        own, attrs = trial.user_attrs["values"], trial.user_attrs
        found = [_with_error(attrs["by_seed"][objective.name]) for objective in sought]
        if trial.number in alike:
            found[0] += " ≈"
        epoch = f"{fmean(attrs['best_epochs']):.0f}"
        table.add_row(
            str(rank), str(trial.number), *found, epoch, *(_number(own[key]) if key in own else "" for key in keys)
        )
    if alike:
        table.caption = f"≈ cannot be told from the first by these seeds ({LEVEL:.0%}, in pairs)"
    return table


def trials(running: Study, sought: Sequence[Objective]) -> pd.DataFrame:
    """A row a trial that has ended: number, state, each objective and its standard error where there are seeds, the
    epoch, what was tried, why it failed, and from which study it was taken over."""
    rows = []
    for trial in [*study.taken(running), *study.finished(running)]:
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state.name.lower()}
        by_seed = trial.user_attrs.get("by_seed") or {}
        for objective in sought:
            values = by_seed.get(objective.name)
            row[objective.label] = fmean(values) if values else None
            if values and len(values) > 1:
                row[f"{objective.label} standard error"] = standard_error(values)
        epochs = [epoch for epoch in trial.user_attrs["best_epochs"] if epoch]
        about = {name: trial.user_attrs.get(name) for name in ("error", warm.ORIGIN)}
        row |= {"best epoch": fmean(epochs) if epochs else None, **trial.user_attrs["values"], **about}
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def difference(trial: FrozenTrial, other: FrozenTrial, name: str) -> tuple[float, float, float] | None:
    """By how much an objective of a trial is above that of another: mean over the seeds, which both have had, and the
    interval of Student's t. None with one seed, which says nothing of chance."""
    pairs = zip(trial.user_attrs["by_seed"][name], other.user_attrs["by_seed"][name], strict=True)
    differences = [own - theirs for own, theirs in pairs]
    if len(differences) < 2:
        return None
    from scipy.stats import t as student  # half a second, for what one seed has no use for

    mean = fmean(differences)
    half = standard_error(differences) * float(student.ppf((1 + LEVEL) / 2, len(differences) - 1))
    return mean, mean - half, mean + half


def like(best: FrozenTrial, trials: Sequence[FrozenTrial], sought: Sequence[Objective]) -> list[int]:
    """The other trials whose difference to this one chance alone may well have made. None with one seed, which says
    nothing of chance, and none where several objectives are sought."""
    found = []
    for trial in trials if len(sought) == 1 else ():
        apart = None if trial.number == best.number else difference(trial, best, sought[0].name)
        if apart and apart[1] <= 0 <= apart[2]:
            found.append(trial.number)
    return found


def importance(running: Study) -> dict[str, float]:
    """Share of the differences between trials that each param explains (fANOVA, Hutter et al. 2014), largest first.

    Empty when there are too few completed trials, or all are equal, so that there is nothing to explain.
    """
    import optuna

    values = {trial.values[0] for trial in study.ranking(running)}
    if len(values) < 4:
        return {}
    # of 1,000 trials and two params 1.1 s, and 12 s with trees as deep as Optuna's own, whose shares differ by 0.01
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0, max_depth=8)
    shares = optuna.importance.get_param_importances(running, evaluator=evaluator, target=study.first_value)
    return {name: share for name, share in shares.items() if not math.isnan(share)}


def check(running: Study) -> None:
    """InputError when there is nothing to report."""
    ended = study.finished(running)
    if not ended:
        raise InputError("no trial has ended: give tune.minutes more time")
    if not study.ranking(running):
        why = next((f" Trial {trial.number}: {e}" for trial in ended if (e := trial.user_attrs.get("error"))), "")
        raise InputError(
            f"none of {len(ended)} trials completed.{why} Choose a tune.space without such trials, or tune.pruner: none"
        )


def check_choice(running: Study, chosen: int) -> None:
    """InputError when no trial with this number has completed."""
    complete = sorted(trial.number for trial in study.ranking(running))
    if chosen in complete:
        return
    those = f"Those that did: {', '.join(map(str, complete))}" if complete else "None of this study did yet"
    state = next((trial.state for trial in running.get_trials(deepcopy=False) if trial.number == chosen), None)
    how = f"it is {state.name.lower()}" if state else "there is none with this number"
    raise InputError(f"--trial {chosen}: {how}, and one that has completed is wanted. {those}")


def summary(running: Study, sought: Sequence[Objective], chosen: int | None) -> dict[str, Any]:
    """The search in numbers: how many trials ended how, the best, the one that is taken, which is the best or the one
    that was `chosen`, and the first, with the current params where they lie in the space."""
    finished, leaders = study.finished(running), study.front(running)
    states = {
        state: sum(trial.state.name.lower() == state for trial in finished) for state in ("complete", "pruned", "fail")
    }
    first, best = study.first(running), leaders[0]
    taken = best if chosen is None else next(one for one in study.ranking(running) if one.number == chosen)
    several = len(sought) > 1
    is_gain = first.state == TrialState.COMPLETE and first.number != taken.number
    gain = difference(taken, first, sought[0].name) if is_gain else None
    return {
        "study": running.study_name,
        "objectives": [objective.name for objective in sought],
        "label": sought[0].label,
        "trials": {"total": len(finished), **states, "taken_over": len(study.taken(running))},
        "best": _facts(best),
        "taken": _facts(taken),
        "first": _facts(first),
        "gain": dict(zip(("mean", "low", "high"), gain, strict=True)) if gain else None,
        "alike": like(taken, leaders, sought),
        "front": [_facts(trial) for trial in leaders] if several else [],
    }


def in_words(result: dict[str, Any]) -> str:
    """The summary as the few lines that end a search."""
    best, taken, first, counts = result["best"], result["taken"], result["first"], result["trials"]
    was = f"{first['values'][0]:.4g}" if first["values"] else "none"
    others = f"; {counts['taken_over']} taken over from other studies" if counts["taken_over"] else ""
    lines = [
        f"{counts['total']} trials: {counts['complete']} complete, {counts['pruned']} pruned, {counts['fail']} failed"
        + others,
        f"best: {_found(best, result)} (trial {first['trial']}: {was})",
    ]
    if taken != best:
        lines.append(f"taken, by --trial: {_found(taken, result)}")
    lines += [f"  {key}: {_number(value)}" for key, value in taken["params"].items()]
    if gain := result["gain"]:
        lines.append(
            f"against trial {first['trial']}: {gain['mean']:+.4g} ({LEVEL:.0%}: {gain['low']:+.4g} to "
            f"{gain['high']:+.4g}, over {taken['seeds']} seeds)"
        )
    if result["alike"]:
        lines.append(f"these seeds cannot tell it from trial {', '.join(map(str, result['alike']))}")
    if result["front"]:
        lines.append(f"Pareto front: {len(result['front'])} trials; --trial N takes another than {taken['trial']}")
    return "\n".join(lines)


def shares_in_words(shares: dict[str, float]) -> str:
    """What `importance` found, as a line."""
    return "importance: " + ", ".join(f"{key} {share:.0%}" for key, share in shares.items())


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    """values: of each objective, None where it did not complete."""
    by_seed = trial.user_attrs.get("by_seed")
    return {
        "trial": trial.number,
        "values": trial.values if trial.state == TrialState.COMPLETE else None,
        "seeds": len(next(iter(by_seed.values()))) if by_seed else 0,
        "params": trial.user_attrs.get("values", trial.params),  # none yet of one that is to be made again
    }


def _found(trial: dict[str, Any], result: dict[str, Any]) -> str:
    """Its number, and what it came to in each objective."""
    others = zip(result["objectives"][1:], trial["values"][1:], strict=True)
    values = [f"{result['label']} {trial['values'][0]:.4g}", *(f"{name} {_number(value)}" for name, value in others)]
    return f"trial {trial['trial']}, {', '.join(values)}"


def _with_error(values: list[float]) -> str:
    return _number(fmean(values)) + (f" ± {standard_error(values):.2g}" if len(values) > 1 else "")


def _at(running: list[int], epochs: int) -> str:
    """How far the trials are that are trained, from their epochs."""
    if not running:
        return "none running"
    first, last = min(running), max(running)
    return f"{len(running)} running, epoch {first if first == last else f'{first} to {last}'} of {epochs}"


def _best(running: Study, label: str) -> str:
    leaders = study.ranking(running)
    return f"best {label} {leaders[0].values[0]:.4g} (trial {leaders[0].number})" if leaders else "no trial completed"


def _values(values: dict[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={_number(value)}" for key, value in values.items())


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and value >= 1000 else f"{value:.4g}"
    return text(value)
