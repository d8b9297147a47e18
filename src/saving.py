"""Saving a training while it goes on: its state is copied to host memory, and a thread writes the copy."""

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from src import checkpoints, cli
from src.checkpoints import State
from src.errors import InputError, RunError
from src.loop import Epoch, StepLosses
from src.tracking.history import History, Record, Steps


class Saver:
    """Writes the states of a training and its history, one at a time: the next waits until the one before is durable.

    What fails is raised in the training, by the next step or save. `every` is in seconds; `state` is that of a
    training that goes on. A state carries the whole history, float64 [epochs, names], so that a checkpoint alone can
    restore that too.
    """

    def __init__(self, folder: Path, keep: int, every: float | None, state: State | None) -> None:
        self._folder, self._keep, self._every = folder, keep, every
        self._history, self._steps = History(folder), Steps(folder)
        self._names: list[str] = state["history"]["names"] if state else []
        self._rows: Tensor = state["history"]["rows"] if state else torch.empty(0, 0, dtype=torch.float64)
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._last = time.monotonic()
        self.stopping = cli.Stopping()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()  # a checkpoint that is being written is finished, however the training ends
        if kind is None:
            self.wait()

    def epoch(self, epoch: Epoch, state: State) -> None:
        """Save the losses of an epoch's steps, the state after it, and then its line of the history."""
        record = {**epoch.record(), "time": time.time()}
        self._names = list(record)
        row = torch.tensor([list(record.values())], dtype=torch.float64)
        self._rows = torch.cat([self._rows.reshape(-1, row.shape[1]), row])
        self._save(state, record, epoch.losses)

    def between(self, capture: Callable[[StepLosses], State]) -> Callable[[StepLosses], None]:
        """What the loop calls between two steps: a save within the epoch when one is due, or when the process is told
        to end, and then the end."""

        def after_step(losses: StepLosses) -> None:
            if self._writing and self._writing.done():
                self.wait()
            due = self._every is not None and time.monotonic() - self._last > self._every
            if due or self.stopping.wanted:
                self._save(capture(losses))
            if self.stopping.wanted:
                self.wait()
                self.stopping.now()

        return after_step

    def wait(self) -> None:
        """Until what is being written is durable. RunError when it could not be written."""
        if self._writing:
            self._writing.result()  # one that failed stays, so that no later call takes it for durable
            self._writing = None

    def _save(self, state: State, record: Record | None = None, losses: Tensor | None = None) -> None:
        self.wait()
        state = checkpoints.on_host({**state, "history": {"names": self._names, "rows": self._rows}})
        self._writing = self._pool.submit(self._write, state, record, losses)
        self._last = time.monotonic()

    def _write(self, state: State, record: Record | None, losses: Tensor | None) -> None:
        try:
            if losses is not None:
                self._steps.append(state["epoch"], losses.numpy())
            checkpoints.write(self._folder, state, self._keep)
            if record:
                self._history.append(record)
        except OSError as error:
            raise RunError(
                f"the checkpoint could not be written: {error}. The one before it is kept: make room, or mend what is "
                "wrong, and the same command goes on from there"
            ) from error


def saved(epochs: Iterator[tuple[Epoch, State]], saver: Saver, at_once: bool = False) -> Generator[Epoch, None, None]:
    """Pass on each epoch once its state, the second of the pair, is durable: it is written while the next one trains,
    so an epoch is told when the one after it has been trained, and the last at once. at_once: each before the next."""
    before = None
    with saver:
        while True:
            with saver.stopping:
                try:
                    trained = next(epochs, None)
                except Exception:
                    if before:  # it is durable, whatever became of the next
                        saver.wait()
                        yield before
                    raise
                saver.wait()
                if trained and saver.stopping.wanted:
                    saver.epoch(*trained)
                    saver.wait()
            if before:
                yield before
            if not trained:
                return
            saver.epoch(*trained)
            before = trained[0]
            if at_once:
                saver.wait()
                yield before
                before = None


def records(state: State) -> list[Record]:
    """The history that a state carries."""
    names, rows = state["history"]["names"], state["history"]["rows"].tolist()
    return [{**dict(zip(names, row, strict=True)), "epoch": int(row[0])} for row in rows]


def check_best(folder: Path, state: State) -> None:
    """InputError when the best checkpoint, which no other can stand in for, is gone or damaged."""
    if state["best_epoch"]:
        try:
            checkpoints.read(checkpoints.path_of(folder, state["best_epoch"]))
        except InputError as error:
            raise InputError(f"{error}. It is the best so far. To train from the start: rm {folder}/epoch-*") from None
