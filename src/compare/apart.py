"""What sets runs apart: params that differ, the best of each metric, means over seeds, whether data and code were the
same."""

import math
import time
from collections.abc import Iterable, Iterator
from statistics import fmean, stdev
from typing import NamedTuple

from src.metrics import METRICS, better
from src.tracking.runs import Found

BEST_VAL, VAL, TEST = "best_val/", "val/", "test/"  # of the model that was kept; of the last epoch; of the model again
IDLE = ("tracking.", "tune.", "validate.", "train.checkpoint")  # params that shape no number
TRAITS = ("data.digest", "data.source", "code.digest", "git.commit", "git.dirty", "fingerprint")  # tags
STUDY = "study"  # tag of a trial
SHORT = 8  # characters of an id or a digest: enough to tell them apart


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1) over so many seeds."""

    mean: float
    deviation: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.deviation:.2g}"


def when(run: Found) -> str:
    """When it began, in the local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))


def differing(runs: list[Found]) -> list[str]:
    """The params that not all of them have alike; those that shape no number come last."""
    keys = sorted({key for run in runs for key in run.params}, key=lambda key: (key.startswith(IDLE), key))
    return [key for key in keys if len({run.params.get(key) for run in runs}) > 1]


def columns(runs: list[Found], monitor: str, first: str | None = None) -> list[str]:
    """The metrics to show, as the store names them: `first`, those of validation, those of the test; in each of these
    the monitor before others."""
    there = {key for run in runs for key in run.metrics}
    names = sorted(METRICS, key=lambda name: name != monitor)
    choices = [[BEST_VAL + name, VAL + name] for name in names] + [[TEST + name] for name in names]
    found = [known[0] for keys in choices if (known := [key for key in keys if key in there])]
    return list(dict.fromkeys([first, *found] if first else found))


def metric_of(column: str) -> str:
    """The name in METRICS of a metric as the store names it."""
    return column.rpartition("/")[2]


def best(column: str, values: Iterable[float | None]) -> float | None:
    """The best by the metric's own goal. None for those of the test split, which is not to choose by."""
    found = None
    for value in values:
        if value is not None and not column.startswith(TEST) and better(metric_of(column), value, found):
            found = value
    return found


def by_seed(runs: list[Found]) -> list[list[Found]]:
    """Groups of FINISHED runs, trials left out, that differ in nothing but the seed, in their order: of each seed the
    newest, as the same training twice is no second result."""
    groups: dict[object, dict[str, Found]] = {}
    for run in runs:
        if run.status == "FINISHED" and "seed" in run.params and STUDY not in run.tags:
            params = {pair for pair in run.params.items() if pair[0] != "seed" and not pair[0].startswith(IDLE)}
            terms = (frozenset(params), run.tags.get("data.source"), run.tags.get("code.digest"))
            seeds = groups.setdefault(terms, {})
            seeds[run.params["seed"]] = max(run, seeds.get(run.params["seed"], run), key=lambda one: one.started)
    return [list(seeds.values()) for seeds in groups.values() if len(seeds) > 1]


def spread(group: list[Found], column: str) -> Spread | None:
    """Over the runs of a group that have the metric, NaN if one has NaN; None when they are less than two."""
    values = [run.metrics[column] for run in group if column in run.metrics]
    if len(values) < 2:
        return None
    deviation = math.nan if any(map(math.isnan, values)) else stdev(values)  # which cannot take NaN
    return Spread(fmean(values), deviation, len(values))


def verdict(runs: list[Found]) -> Iterator[str]:
    """Whether they saw the same data and ran the same code, and so what can have made their numbers differ."""
    same_data, said = _data(runs)
    yield said
    same_code, said = _code(runs)
    yield said
    shaping = [key for key in differing(runs) if not key.startswith(IDLE)]
    causes = [*shaping, *["the data"] * (not same_data), *["the code"] * (not same_code)]
    if causes:
        yield f"What can have made the numbers differ: {', '.join(causes)}"
    else:
        yield "Nothing that shapes a training differs: where numbers do, it is the machine, or how far a training got"


def _data(runs: list[Found]) -> tuple[bool, str]:
    if lacking := _without("data.digest", runs):
        return False, f"Whether they saw the same data is not known: no tag data.digest in {lacking}"
    if len(_values("data.digest", runs)) == 1:
        return True, f"They saw the same data ({runs[0].tags['data.digest'][:SHORT]})"
    if lacking := _without("data.source", runs):
        return (
            False,
            f"They did not see the same data; of its source nothing is known: no tag data.source in {lacking}",
        )
    if len(_values("data.source", runs)) == 1:
        return (
            False,
            "They saw the same source, prepared differently: by another seed, or other prepare params",
        )
    return False, "They did not see the same data: its source was another"


def _code(runs: list[Found]) -> tuple[bool, str]:
    if lacking := _without("code.digest", runs):
        return False, f"Whether they ran the same training code is not known: no tag code.digest in {lacking}"
    if len(_values("code.digest", runs)) == 1:
        return True, f"They ran the same training code ({runs[0].tags['code.digest'][:SHORT]})"
    commits = list(dict.fromkeys(run.tags.get("git.commit", "none")[:SHORT] for run in runs))
    changed = ", ".join(run.run_id[:SHORT] for run in runs if run.tags.get("git.dirty") == "true")
    where = f"git diff {' '.join(commits)} -- src" if len(commits) == 2 else f"commit {', '.join(commits)}"
    said = f"They did not run the same training code: {where}"
    return False, said + (f", and what was not committed in {changed}" if changed else "")


def _values(tag: str, runs: list[Found]) -> set[str | None]:
    return {run.tags.get(tag) for run in runs}


def _without(tag: str, runs: list[Found]) -> str:
    return ", ".join(run.run_id[:SHORT] for run in runs if tag not in run.tags)
