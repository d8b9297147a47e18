"""Which runs to compare: the newest, the best, or those that are named; and what to say when there are none such."""

import math
from functools import cmp_to_key

from src.compare.apart import BEST_VAL, TEST, VAL, metric_of, when
from src.errors import InputError
from src.metrics import METRICS, better
from src.mistakes import nearest
from src.sections import Tracking
from src.tracking.runs import Found, Wanted, search

CANDIDATES = 5  # runs that are shown to who gives a name or a beginning that several have
LOOKED_AT = 1000  # the newest runs, whose names and metrics are looked through for who mistypes one

# runs in their order, and the metric that orders them, as the store names it
Choice = tuple[list[Found], str | None]


def listed(tracking: Tracking, last: int | None, newest: int, trials: bool, metric: str | None) -> Choice:
    """The `last` newest runs, or as many as `newest` says; with a metric, the best first. With a metric and no `last`,
    the best of all."""
    wanted, meant = Wanted(last or newest, trials), _meant(metric)
    if meant and last is None:
        goal = METRICS[metric_of(meant[0])].goal
        tried = (search(tracking, wanted._replace(best=(column, goal))) for column in meant)
        runs: list[Found] = next(filter(None, tried), [])
    else:
        runs = search(tracking, wanted)
    known = runs or search(tracking, Wanted(LOOKED_AT, trials))
    if not known:
        hint = "" if trials else "; --trials shows those of studies"
        raise InputError(f"experiment {tracking.experiment} has no runs yet: make repro makes one{hint}")
    return _ordered(runs, meant, known)


def named(tracking: Tracking, words: list[str], metric: str | None) -> Choice:
    """The runs of these ids, beginnings of ids, or names; with a metric, the best first."""
    meant, runs = _meant(metric), [_called(tracking, word) for word in words]
    if len({run.run_id for run in runs}) < len(runs):
        raise InputError(f"{', '.join(words)} are not different runs: name each once")
    return _ordered(runs, meant, runs)


def _meant(metric: str | None) -> list[str]:
    """What --metric may mean in the store, the likeliest first."""
    name = metric_of(metric or "loss")
    if name not in METRICS:
        raise InputError(
            f"--metric {metric}: must be one of {', '.join(METRICS)}, alone or as the store names it, such as "
            f"{TEST}loss{nearest(name, list(METRICS))}"
        )
    if metric is None:
        return []
    return [metric] if "/" in metric else [prefix + name for prefix in (BEST_VAL, VAL, TEST)]


def _ordered(runs: list[Found], meant: list[str], known: list[Found]) -> Choice:
    if not meant:
        return runs, None
    column = next((key for key in meant if any(key in run.metrics for run in runs)), None)
    if column is None:
        there = sorted({key for run in known for key in run.metrics if metric_of(key) in METRICS})
        raise InputError(f"--metric: no run has {' or '.join(meant)}. They have: {', '.join(there)}")
    return ranked(runs, column), column


def ranked(runs: list[Found], column: str) -> list[Found]:
    """The best first, by the metric's own goal; those that have no number there last."""

    def order(one: Found, other: Found) -> int:
        mine, theirs = one.metrics[column], other.metrics[column]
        return better(metric_of(column), theirs, mine) - better(metric_of(column), mine, theirs)

    has_number = [run for run in runs if not math.isnan(run.metrics.get(column, math.nan))]
    return sorted(has_number, key=cmp_to_key(order)) + [run for run in runs if run not in has_number]


def _called(tracking: Tracking, word: str) -> Found:
    found = search(tracking, Wanted(CANDIDATES + 1, called=word))
    if len(found) == 1:
        return found[0]
    if found:
        shown = "\n  ".join(f"{run.run_id}  {when(run)}  {run.name}" for run in found[:CANDIDATES])
        more = "\n  …" if len(found) > CANDIDATES else ""
        raise InputError(f"RUN '{word}' is not one run: give more of the id of one of these\n  {shown}{more}")
    names = list({run.name for run in search(tracking, Wanted(LOOKED_AT, trials=True))})
    raise InputError(
        f"RUN '{word}': no run of experiment {tracking.experiment} has an id that begins so, or that name"
        f"{nearest(word, names) or '.'} python -m src.compare shows the newest"
    )
