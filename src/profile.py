"""Where the time of a training step goes: some steps are timed part by part, some recorded by torch's profiler."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function

from src import bottleneck, cli, device, files, paths
from src.bottleneck import PARTS, Measured, Operator
from src.data.batches import Batches
from src.loop import CHECK_EVERY, Trainer
from src.sections import Train

SUMMARY, TRACE = paths.PROFILE / "summary.txt", paths.PROFILE / "trace.json.gz"
WARM, TIMED, RECORDED = 10, 64, CHECK_EVERY  # steps; what the loop does every so many is among them
ENOUGH = WARM + TIMED + 2 * RECORDED  # twice: perhaps the next epoch has to be waited for
SETTLED = 5.0  # seconds: until then, the process that tells MLflow is being imported on the same cores
OUTSIDE = ""  # no part of a step: validation, and the profile's own work


def plan(first: int, stop: int, length: int) -> tuple[range, range]:
    """The steps to time, and then those to record, in one epoch of `length` steps. Steps count over all epochs, from 0:
    they are two at least, from `first` to before `stop`, where an epoch ends."""
    left = stop - first
    warm, count = min(WARM, left // 4), min(RECORDED, length, max(1, left // 4))
    timed = range(first + warm, first + warm + min(TIMED, left - warm - count))
    start = timed.stop if timed.stop % length + count <= length else timed.stop + -timed.stop % length
    return timed, range(start, start + count)


class Profile(ExitStack):
    """Looks at real steps of a training, and changes no number of it. Once closed, nothing of it is left in there."""

    def __init__(self, settings: Train) -> None:
        super().__init__()
        self._settings, self._begun, self._written = settings, time.monotonic(), list[Path]()
        self._timed, self._recorded = range(0), range(0)
        self._note: Callable[[str], None] = _ignore

    def watch(self, trainer: Trainer, batches: Batches) -> None:
        """Have each part of a step say when it begins, until the planned steps are through."""
        self._batches, self._gather, step = batches, batches.epoch, trainer.optimizer.step
        self._stopwatch, self._recorder = Stopwatch(batches.device), Recorder(batches.device)

        def update() -> None:
            self._note("optimizer")
            step()
            self._note("between")

        self.callback(trainer.model.register_forward_pre_hook(lambda *_: self._note("forward")).remove)
        self.callback(trainer.loss.register_forward_hook(lambda *_: self._note("backward")).remove)
        for thing, name, own in ((trainer.optimizer, "step", update), (batches, "epoch", self._epoch)):
            setattr(thing, name, own)
            self.callback(delattr, thing, name)
        self.callback(self._recorder.stop)

    def written(self, folder: Path) -> list[Path]:
        """The files that were made; says so when too few steps were left for any."""
        if not self._written:
            cli.say(f"no profile: fewer than two steps were left. To train from the start: rm {folder}/epoch-*")
        return self._written

    def _epoch(self, number: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """What Batches.epoch gives, with the parts of a step noted."""
        length, gathered = len(self._batches), self._gather(number, skip)
        last = number if self._settings.patience else self._settings.epochs  # patience may end it after any epoch
        for step in range((number - 1) * length + skip, number * length):
            self._turn(step, last * length)
            self._note("data")
            batch = next(gathered)
            self._note("optimizer")
            yield batch
        self._turn(number * length, last * length)
        self._note = _ignore
        yield from gathered  # nothing more: its threads end

    def _turn(self, step: int, stop: int) -> None:
        """Between two steps: plan, begin, end."""
        self._note(OUTSIDE)
        due = time.monotonic() - self._begun > SETTLED or stop - step <= ENOUGH
        if not self._recorded and due and stop - step > 1:
            self._timed, self._recorded = plan(step, stop, len(self._batches))
        if self._recorded and step == self._recorded.start:
            self._recorder.start()
        elif self._recorded and step == self._recorded.stop:
            self.close()
            self._write()
        self._note = self._stopwatch.note if step in self._timed else _ignore
        if step in self._recorded:
            self._note = self._recorder.note

    def _write(self) -> None:
        where = self._batches.device
        measured = Measured(
            place=f"{device.describe(where)}, torch {torch.__version__}",
            settings=self._settings,
            gpu=where.type == "cuda",
            timed=self._timed,
            recorded=self._recorded,
            steps=self._stopwatch.steps(),
            recorded_ms=self._recorder.milliseconds,
            operators=self._recorder.operators(),
            busy_ms=self._recorder.busy(),
        )
        said = bottleneck.summary(measured)
        files.write_bytes(SUMMARY, said.encode())
        files.write_bytes(TRACE, self._recorder.trace())
        self._written = [SUMMARY, TRACE]
        cli.say(f"{said}Written: {SUMMARY}, and {TRACE} for https://ui.perfetto.dev")


class Stopwatch:
    """When each part of a step begins, by the device's own clock: a GPU notes it when it gets there; nobody waits."""

    def __init__(self, where: torch.device) -> None:
        self._where, self._notes = where, list[tuple[str, Any]]()

    def note(self, part: str) -> None:
        if self._where.type == "cpu":
            self._notes.append((part, time.perf_counter()))
        else:
            self._notes.append((part, torch.Event(self._where, enable_timing=True)))
            self._notes[-1][1].record()

    def steps(self) -> list[dict[str, float]]:
        """Milliseconds of each part of each step, once the device is through: a part lasts until the next begins."""
        found: list[dict[str, float]] = []
        for (part, start), (_, end) in pairwise(self._notes):
            if part == "data":
                found.append(dict.fromkeys(PARTS, 0.0))
            if part != OUTSIDE:
                found[-1][part] += (end - start) * 1000 if self._where.type == "cpu" else start.elapsed_time(end)
        return found


class Recorder:
    """torch's profiler, with the parts of a step as labels."""

    def __init__(self, where: torch.device) -> None:
        self._where, self._label, self._begun, self.milliseconds = where, ExitStack(), 0.0, 0.0
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if where.type == "cuda" else [])]
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it says on stderr that it starts and stops
        self._profiler = torch.profiler.profile(activities=kinds, acc_events=True)

    def start(self) -> None:
        self._wait()  # what the GPU does for the steps before is not to be recorded
        self._profiler.start()
        self._begun = time.perf_counter()

    def note(self, part: str) -> None:
        self._label.close()
        if part != OUTSIDE:
            self._label.enter_context(record_function(part))

    def stop(self) -> None:
        """Nothing, where it does not record. A profiler that is not stopped crashes the process at its end (seen)."""
        if self._begun:
            self._label.close()
            self._wait()
            self.milliseconds, self._begun = (time.perf_counter() - self._begun) * 1000, 0.0
            self._profiler.stop()

    def trace(self) -> bytes:
        """A Chrome trace in JSON, gzip."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / TRACE.name
            self._profiler.export_chrome_trace(str(path))
            return path.read_bytes()

    def operators(self) -> list[Operator]:
        """Those called on the host, each with the time of what it started on the GPU."""
        return [
            Operator(event.key, event.count, event.self_cpu_time_total / 1000, event.self_device_time_total / 1000)
            for event in self._profiler.key_averages()
            if event.device_type == DeviceType.CPU and not event.is_user_annotation
        ]

    def busy(self) -> float:
        """Milliseconds in which the GPU did anything."""
        events = [event for event in self._profiler.events() if event.device_type == DeviceType.CUDA]
        return bottleneck.covered((e.time_range.start, e.time_range.end) for e in events if not e.is_user_annotation)

    def _wait(self) -> None:
        if self._where.type != "cpu":
            torch.accelerator.synchronize(self._where)


def _ignore(part: str) -> None:
    """What is done with a note when nothing looks at the step."""
