"""python -m src.doctor: check the set-up and everything that is kept; --fix mends what can be mended."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from src import cli

if TYPE_CHECKING:
    from src.doctor.checks import Result

COLOURS = {"ok": "green", "wrong": "red", "mended": "yellow"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.doctor",
        description="Check the set-up and everything the project keeps: versions, device, disk, git and DVC, the "
        "cache, prepared data, checkpoints, what MLflow was told, the tuning study. Exit code 0: all is well or was "
        "mended; 1: something is wrong.",
    )
    parser.add_argument("--sync", action="store_true", help="tell MLflow what waits for it, and do nothing else")
    parser.add_argument("--adopt", action="store_true", help="as --sync, and into this store what waits for others")
    parser.add_argument("--fix", action="store_true", help="mend what can be mended; each line says how")
    options = parser.parse_args()

    if options.sync or options.adopt:
        _sync(options.adopt)
        return
    from src.doctor.checks import CHECKS, examine

    show = _coloured if sys.stdout.isatty() else _plain
    results = list(show(examine(options.fix, CHECKS)))
    print(_conclusion(results))
    sys.exit(any(result.state == "wrong" for result in results))


def _sync(adopt: bool) -> None:
    """Tell MLflow what waits in the outbox; exit code 1 when something waits for another store."""
    from src import params
    from src.tracking import audit, outbox

    settings, waiting = params.load(), len(outbox.found())
    audit.sync(settings.tracking, cli.say, adopt)
    print(f"runs that MLflow has been told of: {waiting - len(outbox.found())}")
    others = {box.header["tracking_uri"] for box in audit.elsewhere(settings.tracking)}
    if others:
        print(f"some wait for {', '.join(sorted(others))}. To tell this store of them: python -m src.doctor --adopt")
    sys.exit(bool(others))


def _plain(results: "Iterator[Result]") -> "Iterator[Result]":
    for result in results:
        print(f"{result.state:<7} {result.subject:<12} {result.said}", flush=True)
        yield result


def _coloured(results: "Iterator[Result]") -> "Iterator[Result]":
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    with console.status("looking"):
        for result in results:
            row = Table.grid(padding=(0, 1))
            for width in (7, 12, None):
                row.add_column(width=width, overflow="fold")
            row.add_row(Text(result.state, COLOURS[result.state]), result.subject, Text(result.said))
            console.print(row)
            yield result


def _conclusion(results: "list[Result]") -> str:
    wrong = [result for result in results if result.state == "wrong"]
    mended = sum(result.state == "mended" for result in results)
    done = f"{mended} mended. " if mended else ""
    if not wrong:
        return f"{done}All is well. Next: dvc repro"
    count = "1 thing is wrong" if len(wrong) == 1 else f"{len(wrong)} things are wrong"
    mendable = sum(result.mendable for result in wrong)
    if mendable:
        return f"{done}{count}; --fix mends {mendable}. Next: python -m src.doctor --fix"
    return f"{done}{count}. Next: what the line{'s' * (len(wrong) > 1)} marked wrong say{'s' * (len(wrong) == 1)}"


if __name__ == "__main__":
    cli.run(main)
