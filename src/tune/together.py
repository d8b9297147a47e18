"""Trainings of a search that are lanes of one program, and go on from their checkpoints when what trained them died."""

import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src import checkpoints, saving
from src.checkpoints import State
from src.errors import InputError, RunError
from src.journal import Record
from src.lanes import Lanes, Told
from src.loop import Trainer, of_record
from src.params import Params
from src.tracking import history
from src.training import Assembled, Data, Progress, capture, restore
from src.tune.alone import Alone

SECONDS = 30.0  # between checkpoints, at least; train.checkpoint_seconds where that is less
SHARE = 0.02  # of the time that writing them takes, at most
KEPT = 2  # of each training: where a process died while it wrote them, all have the one before


class Together:
    """Lanes with checkpoints, each training in its own of `folders` and in the form of src/training.py; an epoch that
    one has is told again, and not made again. ValueError where they cannot be lanes.

    A training that has ended is part of it too: its records, without weights, are told again until the search drops it
    again. Where the search wants it to go on instead, it is made anew, after the others.
    """

    def __init__(
        self, settings: Sequence[Params], entries: Sequence[Assembled], data: Data, folders: Sequence[Path] = ()
    ) -> None:
        self._settings, self._data, self._folders = settings, data, folders
        self._trainers: list[Trainer] = [entry[0] for entry in entries]
        self._records: list[list[Record]] = [[] for _ in settings]
        self._errors: dict[int, RunError] = {}
        self._best: dict[int, dict[str, Tensor]] = {}
        self._ended: set[int] = set()  # of those, which a checkpoint says so of
        self._dropped: set[int] = set()
        self._apart: dict[int, Alone] = {}
        self._random: State | None = None
        self._epoch = 0  # that the checkpoints are of
        self._take_up()
        self._lanes = Lanes(self._trainers, [entry[1] for entry in entries], entries[0][2])
        self._lanes.drop(self._ended)
        self._is_told_all = False  # that the checkpoints have

    def fit(self, last: int) -> Iterator[Told]:
        """As Lanes.fit. RunError when a checkpoint cannot be written."""
        yield from self._remembered()
        self._is_told_all = True
        if self._random:
            checkpoints.restore_random_states(self._random)  # only now, as what was done since must not move them
        least = min(SECONDS, self._settings[0].train.checkpoint_seconds or SECONDS)
        saved, due = time.monotonic(), least
        for told in self._lanes.fit(last, self._epoch + 1):
            self._note(told)
            yield told
            began = time.monotonic()
            if self._folders and self._lanes.numbers and began - saved > due:
                self._save()
                saved = time.monotonic()
                due = max(least, (saved - began) / SHARE)
        yield from self._made_anew(last)

    def drop(self, lanes: Collection[int]) -> None:
        """As Lanes.drop."""
        self._dropped |= set(lanes)
        self._lanes.drop(lanes)
        for lane in self._apart.keys() & set(lanes):
            self._apart[lane].drop([0])

    def note_best(self, lane: int) -> None:
        """Note the weights of a lane as its best so far, between two epochs."""
        if lane in self._apart:
            self._apart[lane].note_best(0)
        elif self._is_told_all:
            self._best[lane] = self._lanes.weights(lane)

    def best_weights(self, lane: int) -> dict[str, Tensor]:
        """Those noted last, as a state_dict on the CPU."""
        return self._apart[lane].best_weights(0) if lane in self._apart else self._best[lane]

    def _take_up(self) -> None:
        """Bring the trainers to the newest epoch that all trainings have a checkpoint of, and remove what is newer."""
        chosen: list[State] = []
        for epoch in sorted({epoch for folder in self._folders for epoch in epochs(folder)}, reverse=True):
            chosen = states(self._folders, epoch)
            if chosen and not (self._settings[0].tune.keep and any(map(lacks_best, chosen))):
                self._epoch = epoch
                break
        for folder in self._folders:
            for number, path in epochs(folder).items():
                if number > self._epoch:  # as those of a training that began anew would count as older than these
                    checkpoints.remove(path)
        if not self._epoch:
            return
        for lane, state in enumerate(chosen):
            self._records[lane] = saving.records(state)
            if state.get("best_model"):
                self._best[lane] = state["best_model"]
            if "model" in state:
                restore(state, self._trainers[lane])
                self._random = state["random"]
            else:
                self._ended.add(lane)
                if state["error"]:
                    self._errors[lane] = RunError(state["error"])

    def _remembered(self) -> Iterator[Told]:
        """What the trainings gave until their checkpoints, and those that have failed, after them."""
        for number in range(1, self._epoch + 2):
            told: Told = {}
            for lane in set(range(len(self._settings))) - self._dropped:
                if number <= len(self._records[lane]):
                    told[lane] = of_record(self._records[lane][number - 1])
                elif number == len(self._records[lane]) + 1 and lane in self._errors:
                    told[lane] = self._errors[lane]
            if told:
                yield told

    def _made_anew(self, last: int) -> Iterator[Told]:
        for lane in sorted(self._ended - self._errors.keys()):
            if lane in self._dropped:
                continue
            own, progress = self._settings[lane], Progress()
            alone = self._apart[lane] = Alone(own, self._data)
            for told in alone.fit(last):
                what = told[0]
                if isinstance(what, RunError) or what.number > len(self._records[lane]):
                    yield {lane: what}
                    continue
                progress = progress.after(what, own.train.monitor)
                if progress.best_epoch == what.number:
                    alone.note_best(0)

    def _note(self, told: Told) -> None:
        for lane, what in told.items():
            if isinstance(what, RunError):
                self._errors[lane] = what
            else:
                self._records[lane].append(what.record())

    def _save(self) -> None:
        self._lanes.write_back()
        try:
            for lane in set(range(len(self._settings))) - self._ended:
                state = self._state(lane)
                self._folders[lane].mkdir(parents=True, exist_ok=True)
                checkpoints.write(self._folders[lane], state, KEPT)
                if "model" not in state:
                    self._ended.add(lane)
        except OSError as error:
            raise RunError(
                f"the checkpoint of a trial could not be written: {error}. Make room, and search on"
            ) from error

    def _state(self, lane: int) -> State:
        """What a checkpoint of it holds: of one that has ended, no weights but those of its best epoch."""
        records, own = self._records[lane], self._settings[lane]
        progress = Progress()
        for record in records:
            progress = progress.after(of_record(record), own.train.monitor)
        rows = torch.tensor([list(record.values()) for record in records], dtype=torch.float64)
        known: dict[str, Any] = {
            "history": {"names": list(records[0]) if records else [], "rows": rows},
            "best_model": self._best.get(lane),
        }
        if lane in self._lanes.numbers:
            return capture(self._trainers[lane], progress, own, self._data.schema, metrics=records[-1]) | known
        error = str(self._errors[lane]) if lane in self._errors else None
        return {"epoch": progress.epoch, "step": 0, "best_epoch": progress.best_epoch, "error": error} | known


def are_of_lanes(folder: Path) -> bool:
    """Whether there are checkpoints in a folder, and they were written here."""
    return bool(epochs(folder)) and not (folder / history.NAME).exists()


def epochs(folder: Path) -> dict[int, Path]:
    """The checkpoints of whole epochs in a folder, the oldest first."""
    return {int(path.stem[6:]): path for path in checkpoints.found(folder) if path.stem[6:].isdigit()}


def states(folders: Sequence[Path], epoch: int) -> list[State]:
    """The states of all trainings at an epoch, those of some that had ended before it among them; none when one of them
    has no good checkpoint of it."""
    chosen = []
    for folder in folders:
        there = {number: path for number, path in epochs(folder).items() if number <= epoch}
        try:
            state = checkpoints.read(there[max(there)]) if there else None
        except InputError:  # damaged: there may be one before it
            state = None
        if state is None or (state["epoch"] != epoch and "model" in state):
            return []
        chosen.append(state)
    return chosen


def lacks_best(state: State) -> bool:
    """Whether the weights of its best epoch were not wanted when it was written."""
    return bool(state["best_epoch"]) and not state.get("best_model")
