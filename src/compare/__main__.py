"""python -m src.compare: the runs in MLflow as a table, or some of them side by side with what sets them apart."""

import argparse
import os
import sys

from src import cli

NEWEST = 20  # runs in the table, unless told


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.compare",
        description="The newest runs of tracking.experiment in MLflow: params that differ, metrics, and the means of "
        "those that differ in their seed alone. Or the runs that are named, side by side, with what sets them apart.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="its id, the beginning of it, or its name; two or more")
    parser.add_argument("--metric", metavar="NAME", help=f"order by this; without --last the {NEWEST} best of all runs")
    parser.add_argument("--last", type=int, metavar="N", help=f"the newest N runs ({NEWEST})")
    parser.add_argument("--trials", action="store_true", help="with the trials of studies")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, with numbers in full")
    form.add_argument("--csv", action="store_true", help="print a row a run as CSV, with numbers in full")
    options = parser.parse_args()
    if options.runs and (len(options.runs) == 1 or options.last is not None or options.trials):
        parser.error("RUN: name two runs or more, without --last and --trials")
    if options.last is not None and options.last < 1:
        parser.error(f"--last {options.last}: must be 1 or more")

    from src import params
    from src.compare import apart, choose, show

    settings = params.load()
    if options.runs:
        runs, column = choose.named(settings.tracking, options.runs, options.metric)
    else:
        runs, column = choose.listed(settings.tracking, options.last, NEWEST, options.trials, options.metric)
    shown = apart.columns(runs, settings.train.monitor, column)
    try:
        if options.json:
            show.as_json(runs, shown)
        elif options.csv:
            show.as_csv(runs, shown)
        elif options.runs:
            show.beside(runs, shown, settings.tracking)
        else:
            show.table(runs, shown, settings.tracking)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads it has seen enough: | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # nor must the end of this process trip over it


if __name__ == "__main__":
    cli.run(main)
