"""What the sections of the fault suite have in common: their options, their rows, and running jobs side by side."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AT_ONCE = min(8, os.cpu_count() or 2)


class Options(NamedTuple):
    """seed: of the first job, the others count up from it; kills: at random instants, in all; corruptions: of files, in
    all; quick: one fault of each kind; fault: just this one, where a section plants them by name; folder: for whatever
    the sections make; store: sqlite or postgresql; uri: of the MLflow server that all projects share, if they do."""

    seed: int
    kills: int
    corruptions: int
    quick: bool
    fault: str | None
    folder: Path
    store: str
    uri: str | None = None


@dataclass
class Row:
    """One line of the table at the end. `failures`: what was not survived, each with the command that repeats it."""

    kind: str
    how: str
    injected: int = 0
    survived: int = 0
    failures: list[str] = field(default_factory=list)

    def count(self, injected: int, wrong: list[str], name: str, again: str) -> None:
        """Add a job that met so many faults; it survived them all when nothing is wrong."""
        self.injected += injected
        self.survived += 0 if wrong else injected
        if wrong:
            self.failures.append(f"{self.kind}: {name}: " + "; ".join(wrong[:5]) + f"\n    again: {again}")


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| Kind of fault | Injected | Survived | How it was checked |", "|---|---:|---:|---|"]
    return "\n".join(lines + [f"| {row.kind} | {row.injected} | {row.survived} | {row.how} |" for row in rows])


def say(line: str) -> None:
    print(line, flush=True)


def jobs(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of the work on each item, as they come; as many at a time as there are cores."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(work, item) for item in items]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)
