"""Runs as a table for the terminal or for a pipe, as JSON and as CSV."""

import csv
import json
import math
import sys
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from src import paths
from src.compare import apart
from src.compare.apart import SHORT, when
from src.params import flatten
from src.sections import Tracking
from src.tracking import store
from src.tracking.runs import Found

MARK = "*"
FOLDED = 20  # characters of a name, at least; there is a line more for what is longer
NONE = "-"  # where a run has no such param or number


class Grid(NamedTuple):
    """A table of words. marked: (row, column) of what is best; spare: columns that are left out where there is no room,
    the first of them first."""

    header: list[str]
    rows: list[list[str]]
    marked: set[tuple[int, int]]
    spare: list[int]


def table(runs: list[Found], shown: list[str], tracking: Tracking) -> None:
    """A row a run, then a row for each group of runs that differ in their seed alone."""
    _print(_listed(runs, shown))
    if groups := apart.by_seed(runs):
        print("mean ± standard deviation over seeds")
        _print(_spreads(groups, apart.differing(runs), shown))
    print(f"{MARK} best of its column; none in test/, as the test split is not to choose by")
    two = f"python -m src.compare {' '.join(run.run_id[:SHORT] for run in runs[:2])}, or "
    print(f"Next: {two if len(runs) > 1 else ''}{_looking(tracking)}")


def beside(runs: list[Found], shown: list[str], tracking: Tracking) -> None:
    """A column a run, and sentences on data and code."""
    _print(_turned(runs, shown))
    print(*apart.verdict(runs), sep="\n")
    print(f"Next: {_looking(tracking)}, for their curves")


def as_json(runs: list[Found], shown: list[str]) -> None:
    """{"runs": one a run, "seeds": one a group, "verdict": sentences}. A number that is none is null."""
    facts = {
        "runs": [_facts(run, apart.differing(runs), shown) for run in runs],
        "seeds": [_spread_facts(group, shown) for group in apart.by_seed(runs)],
        "verdict": list(apart.verdict(runs)),
    }
    print(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False))


def as_csv(runs: list[Found], shown: list[str]) -> None:
    """A row a run, columns named as in MLflow's data frames: params.seed, metrics.val/loss, tags.git.commit."""
    rows = [flatten(_facts(run, apart.differing(runs), shown)) for run in runs]
    named = [key for key, value in rows[0].items() if value != {}]  # no params, where none differ
    writer = csv.DictWriter(sys.stdout, named, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _facts(run: Found, params: list[str], shown: list[str]) -> dict[str, Any]:
    return {
        "name": run.name,
        "run_id": run.run_id,
        "status": run.status,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
        "params": {key: run.params.get(key) for key in params},
        "metrics": {key: _finite(run.metrics.get(key, math.nan)) for key in shown},
        "tags": {key: run.tags.get(key) for key in (*apart.TRAITS, apart.STUDY)},
    }


def _spread_facts(group: list[Found], shown: list[str]) -> dict[str, Any]:
    spreads = {key: apart.spread(group, key) for key in shown}
    return {
        "runs": [run.run_id for run in group],
        "metrics": {
            key: {"mean": _finite(one.mean), "deviation": _finite(one.deviation), "seeds": one.seeds}
            for key, one in spreads.items()
            if one
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other numbers


def _listed(runs: list[Found], shown: list[str]) -> Grid:
    params = apart.differing(runs)
    of_study = [apart.STUDY] if any(apart.STUDY in run.tags for run in runs) else []
    header = ["name", "id", "status", "started", *of_study, *params, *shown]
    first = len(header) - len(shown)
    rows, marked = [], set()
    for run in runs:
        about = [run.name, run.run_id[:SHORT], run.status, when(run), *(run.tags.get(tag, NONE) for tag in of_study)]
        rows.append(about + [run.params.get(key, NONE) for key in params] + _numbers(run, shown))
    for place, key in enumerate(shown, first):
        marked |= {(row, place) for row in _best(runs, key)}
    tests = [place for place, key in enumerate(shown, first) if key.startswith(apart.TEST) and place != first]
    others = [place for place in range(first + 1, len(header)) if place not in tests]
    spare = [*tests[::-1], header.index("started"), *others[::-1], header.index("status"), *range(first - 1, 3, -1)]
    return Grid(header, rows, marked, spare)


def _turned(runs: list[Found], shown: list[str]) -> Grid:
    """Names of runs above, and below each what it is."""
    rows = [
        ["id", *(run.run_id[:SHORT] for run in runs)],
        ["status", *(run.status for run in runs)],
        ["started", *map(when, runs)],
        *([key, *(run.params.get(key, NONE) for run in runs)] for key in apart.differing(runs)),
    ]
    marked = {(len(rows) + row, 1 + place) for row, key in enumerate(shown) for place in _best(runs, key)}
    rows += [[key, *(number for run in runs for number in _numbers(run, [key]))] for key in shown]
    rows += [[key, *(run.tags.get(key, NONE)[:SHORT] for run in runs)] for key in apart.TRAITS]
    return Grid(["", *(run.name for run in runs)], rows, marked, [])


def _spreads(groups: list[list[Found]], differing: list[str], shown: list[str]) -> Grid:
    params = [key for key in differing if key != "seed" and not key.startswith(apart.IDLE)]
    rows, marked = [], set()
    for group in groups:
        spreads = [apart.spread(group, key) for key in shown]
        about = [str(len(group)), *(group[0].params.get(key, NONE) for key in params)]
        rows.append(about + [_spread(one, len(group)) for one in spreads])
    for place, key in enumerate(shown, 1 + len(params)):
        means = [one.mean if (one := apart.spread(group, key)) else None for group in groups]
        marked |= {(row, place) for row in _equal(means, apart.best(key, means))}
    return Grid(["seeds", *params, *shown], rows, marked, list(range(len(params) + len(shown), 1 + len(params), -1)))


def _spread(spread: apart.Spread | None, runs: int) -> str:
    if spread is None:
        return NONE
    return str(spread) + (f" ({spread.seeds})" if spread.seeds < runs else "")


def _best(runs: list[Found], key: str) -> list[int]:
    values = [run.metrics.get(key) for run in runs]
    return _equal(values, apart.best(key, values))


def _equal(values: list[float | None], best: float | None) -> list[int]:
    """The places of the best among several."""
    return [place for place, value in enumerate(values) if len(values) > 1 and best is not None and value == best]


def _numbers(run: Found, shown: list[str]) -> list[str]:
    return [f"{run.metrics[key]:.4g}" if key in run.metrics else NONE for key in shown]


def _print(grid: Grid) -> None:
    rows = [
        [cell + MARK * ((row, place) in grid.marked) for place, cell in enumerate(cells)]
        for row, cells in enumerate(grid.rows)
    ]
    if not sys.stdout.isatty():
        widths = [max(map(len, cells)) for cells in zip(grid.header, *rows, strict=True)]
        for cells in (grid.header, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        return
    _print_rich(grid, rows)


def _print_rich(grid: Grid, rows: list[list[str]]) -> None:
    """With the best in bold, and as many columns as there is room for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, kept = Console(), list(range(len(grid.header)))
    widths = [max(map(len, cells)) for cells in zip(grid.header, *rows, strict=True)]
    widths[0] = min(widths[0], FOLDED)
    for place in grid.spare:
        if sum(widths[one] + 3 for one in kept) + 1 > console.width:
            kept.remove(place)
    shown = Table()
    for place in kept:
        shown.add_column(Text(grid.header[place]), overflow="fold")
    for row, cells in enumerate(rows):
        shown.add_row(*(Text(cells[place], "bold green" if (row, place) in grid.marked else "") for place in kept))
    console.print(shown)
    if len(kept) < len(grid.header):
        left_out = [name for place, name in enumerate(grid.header) if place not in kept]
        print(f"no room for {', '.join(left_out)}: --csv has all")


def _looking(tracking: Tracking) -> str:
    """The way to see these runs in MLflow."""
    address = store.uri(tracking)
    if address == f"{store.SQLITE}{paths.root() / 'mlflow.db'}":
        return "make ui"
    if address.startswith("http"):
        return f"open {urlunsplit(urlsplit(address)._replace(netloc=urlsplit(address).netloc.rpartition('@')[2]))}"
    return f"mlflow server --backend-store-uri {store.redact(address)}"
