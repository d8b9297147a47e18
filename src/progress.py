"""Progress of a training on stderr: a live bar on a terminal, about twenty plain lines anywhere else."""

import sys
from collections.abc import Iterator

from src import cli
from src.loop import Epoch

LINES = 20


def show(epochs: Iterator[Epoch], total: int, monitor: str) -> Iterator[Epoch]:
    """Pass epochs through, showing each; `total` is the number of the last one planned."""
    yield from _bar(epochs, total, monitor) if sys.stderr.isatty() else _lines(epochs, total, monitor)


def _text(epoch: Epoch, monitor: str) -> str:
    watched = "" if monitor == "loss" else f"  val {monitor} {epoch.val[monitor]:.4f}"
    return f"train loss {epoch.train['loss']:.4f}  val loss {epoch.val['loss']:.4f}{watched}  lr {epoch.lr:.2g}"


def _lines(epochs: Iterator[Epoch], total: int, monitor: str) -> Iterator[Epoch]:
    every = max(1, total // LINES)
    for epoch in epochs:
        if epoch.number % every == 0 or epoch.number in (1, total):
            cli.say(f"epoch {epoch.number}/{total}  {_text(epoch, monitor)}  {epoch.samples_per_second:,.0f} samples/s")
        yield epoch


def _bar(epochs: Iterator[Epoch], total: int, monitor: str) -> Iterator[Epoch]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        for epoch in epochs:
            bar.update(task, completed=epoch.number, description=_text(epoch, monitor))
            yield epoch
