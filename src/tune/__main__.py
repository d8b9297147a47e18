"""python -m src.tune: search for better params, within tune.space, on the training and validation splits."""

import argparse
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from src import cli

if TYPE_CHECKING:
    from pathlib import Path

    from src.params import Params
    from src.tracking.sweep import Sweep
    from src.tune.study import Tuning


def main() -> None:
    options = _options()
    from src import params

    settings = params.load()
    if options.trials is not None:
        settings = params.changed(settings, {"tune.trials": options.trials})
    from src.tune import objectives, space

    space.check(settings)
    if settings.task != "auto":
        objectives.check(settings)
    from src.tracking import courier

    courier.start(courier.LATER)
    _prepare(settings)
    from src.data import schema as schemas
    from src.tracking import sweep
    from src.tune import report, search, study
    from src.tune.crew import Crew, batch_size

    schema = schemas.load()
    settings = params.settled(settings, schema.task)
    objectives.check(settings)
    settings = params.changed(settings, {"train.batch_size": batch_size(settings)})
    with study.opened(settings, schema, options.warm_start, options.trial is None) as tuning, ExitStack() as held:
        running, crew = tuning.study, None
        if options.trial is not None:  # of those that there are: none is made
            report.check_choice(running, options.trial)
        elif done := search.why_done(running, settings):
            cli.say(done)
        else:
            total = search.total(settings)
            if already := len(study.finished(running)):
                cli.say(f"going on: {already} of {total} trials have ended")
            workers, most = settings.tune.workers, search.most_lanes(settings)
            known = tuning.lanes(most)
            measures = settings.tune.lanes == "auto" and not known
            then = ", and measuring how many trials to train at once" if measures else ""
            cli.say(f"starting {workers} worker{'s'[: workers > 1]}{then}")
            crew = held.enter_context(Crew(settings, most, known))
        parent = held.enter_context(sweep.begin(settings, running.study_name, schema))
        if crew:
            report.show(search.Search(tuning, settings, crew, total, parent), running, total, settings)
        parent.run.begin_telling()
        result = _report(tuning, settings, parent, options.trial)
    _conclude(options, result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.tune",
        description="Search tune.space of params.yaml for the best train.monitor on the validation split. "
        "A study goes on where it stopped; the search never reads the test split.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trials", type=int, metavar="N", help="trials in all, those of earlier calls included")
    which.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="train no more, and take this one: of the Pareto front, or of those alike",
    )
    parser.add_argument(
        "--warm-start",
        action="store_true",
        help="begin a new study with the trials of earlier ones that fit it: after tune.space was changed",
    )
    then = parser.add_mutually_exclusive_group()
    then.add_argument(
        "--apply", action="store_true", help="write the best values, or those of --trial, into params.yaml"
    )
    then.add_argument(
        "--repro", action="store_true", help="the same, and run the pipeline with them, to the test split"
    )
    then.add_argument("--export", action="store_true", help="print the `dvc exp run` that trains with the best values")
    options = parser.parse_args()
    if options.trial is not None and options.warm_start:
        parser.error("--trial takes a trial that there is: leave out --warm-start")
    return options


def _report(tuning: "Tuning", settings: "Params", parent: "Sweep", chosen: int | None) -> dict[str, Any]:
    """Show what was found, write it into reports/, and have MLflow told; the result, as in reports/tune.json."""
    from rich.console import Console

    from src import files, paths
    from src.tune import objectives, pictures, report

    running, sought = tuning.study, objectives.of(settings)
    if chosen is None:
        report.check(running)
    result = report.summary(running, sought, chosen)
    words = report.in_words(result)
    Console(width=None if sys.stdout.isatty() else 140).print(report.ranking(running, sought))
    print(words, flush=True)
    kept = tuning.kept()
    if settings.tune.keep:
        _say_kept(kept, settings.tune.keep)
    cli.say("drawing reports/tune")
    result["importance"] = report.importance(running)  # seconds of imports, for which the best does not wait
    if result["importance"]:
        shares = report.shares_in_words(result["importance"])
        print(shares, flush=True)
        words += f"\n{shares}"
    files.write_json(paths.REPORTS / "tune.json", result)
    paths.STUDY.mkdir(parents=True, exist_ok=True)
    table = paths.STUDY / "trials.csv"
    files.write_bytes(table, report.trials(running, sought).to_csv(index=False).encode())
    labels = [objective.label for objective in sought]
    told = pictures.Told(running, labels, result["importance"], objectives.step(settings))
    parent.conclude(result, words, [table, *pictures.write(told, words, paths.STUDY)], kept)
    return result


def _say_kept(kept: list["Path"], wanted: int) -> None:
    from src import paths

    found = [path.parent.relative_to(paths.root()) for folder in kept for path in sorted(folder.rglob("model.json"))]
    print(f"weights, of the best first: {', '.join(map(str, found)) or 'none'}", flush=True)
    if len(kept) < wanted:
        print(f"  of {len(kept)} trials: those of others were dropped when they ended", flush=True)


def _conclude(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Do with the winner what was asked for, and say what comes next."""
    from src.tune import winner

    values = result["taken"]["params"]
    if options.export:
        print(winner.command(values))
    elif options.apply or options.repro:
        print(winner.applied(values))
        print(winner.reproduced(result) if options.repro else "Next: dvc repro")
    else:
        given = {"trials": options.trials, "trial": options.trial}
        same = "".join(f" --{name} {value}" for name, value in given.items() if value is not None)
        print(f"Next: python -m src.tune{same} --repro (--apply to change params.yaml only, --export to leave it)")


def _prepare(settings: "Params") -> None:
    """Make prepared data that is missing or was made with other params, by the stage that makes it."""
    from src.data.prepare import is_current
    from src.errors import RunError

    if is_current(settings):
        return
    cli.say("data/prepared is missing, or was made with other params or from another file: running dvc repro prepare")
    words = [sys.executable, "-m", "dvc", "repro", "prepare"]
    is_bad_input = False
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as repro:
        try:
            for line in repro.stderr:  # type: ignore[union-attr]
                # DVC's word on it is one too many: the stage has said what is wrong
                if line.rstrip().endswith(f"exited with {cli.BAD_INPUT}"):
                    is_bad_input = True
                else:
                    sys.stderr.write(line)
        except BaseException:
            repro.kill()
            raise
    if is_bad_input:
        sys.exit(cli.BAD_INPUT)
    if repro.returncode:
        raise RunError("the prepare stage failed; it says why above")


if __name__ == "__main__":
    cli.run(main)
