"""The processes that train trials, as the search sees them: started once, handed jobs, replaced when one dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from src import cli
from src.errors import InputError, RunError
from src.params import Params, changed
from src.tracking.courier import SOURCES

COMMAND = [sys.executable, "-c", "from src.tune.worker import main; main()"]
ATTEMPTS = 5  # deaths in a row, without an answer between them, after which it is given up

Words = dict[str, Any]


class Heard(NamedTuple):
    """What a worker says; None when it has died."""

    worker: Worker
    words: Words | None


class Worker:
    """One process, the `place`-th of its crew. `job`: what it has been handed and has not finished; `deaths`: of those
    in its place that ended without a word."""

    def __init__(self, place: int, heard: SimpleQueue[Heard], environment: dict[str, str], deaths: int = 0) -> None:
        self.place, self.deaths = place, deaths
        self.job: Any = None
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,  # Ctrl-C is for the search, which then says no more
        )
        threading.Thread(target=self._listen, args=(heard,), name="worker", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, words: Words) -> None:
        with suppress(BrokenPipeError):  # it has died, which is heard
            print(json.dumps(words), file=self._process.stdin, flush=True)

    def end(self) -> int:
        """Have it end at once; its exit code."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        return self._process.wait()

    def _listen(self, heard: SimpleQueue[Heard]) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            if not line.endswith("\n"):
                break
            heard.put(Heard(self, json.loads(line)))
        heard.put(Heard(self, None))


def batch_size(params: Params) -> int:
    """The number that "auto" stands for, which a process finds that is started for it."""
    if params.train.batch_size != "auto":
        return params.train.batch_size
    with Crew(changed(params, {"tune.workers": 1}), 1) as crew:
        return crew.batch_size


class Crew:
    """The workers of one search, inside `with`. lanes: trainings that each makes as one program; None has the first of
    them measure how many are best, `most` at most.

    batch_size, lanes: the numbers that "auto" stood for; 0 before they are known.
    """

    def __init__(self, params: Params, most: int, lanes: int | None = None) -> None:
        count = params.tune.workers
        self._params, self._most = params.model_dump(by_alias=True), most
        self.batch_size = 0
        self.lanes = (lanes or 0) if params.tune.lanes == "auto" else params.tune.lanes
        self._heard: SimpleQueue[Heard] = SimpleQueue()
        found = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {**os.environ, "PYTHONPATH": found}
        if count > 1:  # they share the cores
            self._environment["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // count, 1))
        self._count = count
        self._idle: list[Worker] = []
        self.workers: list[Worker] = []

    def __enter__(self) -> Crew:
        """Start them all; the first says what "auto" is before any has something to do."""
        try:
            for place in range(self._count):
                self._start(place)
            while not (self._idle and self.lanes):
                self.hear()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()

    @property
    def idle(self) -> bool:
        """Whether one waits for a job."""
        return bool(self._idle)

    def hand(self, job: Any, rounds: list[list[Words]], folder: Path, weights: Path, answers: bool) -> None:
        """Give a job to one that waits for it. rounds: its trainings, {"number": …, "values": {…}} each; folder: for
        their checkpoints; weights: for those of the best epochs; answers: whether it waits for one after each epoch."""
        worker = self._idle.pop(0)
        worker.job = job
        places = {"folder": str(folder), "weights": str(weights)}
        worker.say({"rounds": rounds, "lanes": self.lanes, **places, "answers": answers})

    def hear(self, seconds: float | None = None) -> Heard | None:
        """What the next of them says: {"told": …, "done": …} after an epoch, which one that waits for an answer is to
        be answered with {"drop": […]} unless the job is done; {"ready": …} when it has started; None of one that has
        died, whose job is to be handed out again. None when none of them says anything for so many seconds. InputError
        and RunError when they cannot work at all."""
        try:
            worker, words = self._heard.get(timeout=seconds)
        except Empty:
            return None
        if words is None:
            self._replace(worker)
            return Heard(worker, None)
        worker.deaths = 0
        if "failed" in words:
            raise (InputError if words["code"] == cli.BAD_INPUT else RunError)(words["failed"])
        if "ready" in words:
            self.batch_size, self.lanes = words["batch_size"], words["lanes"] or self.lanes
        if "ready" in words or words["done"]:
            self._idle.append(worker)
        return Heard(worker, words)

    def _start(self, place: int, deaths: int = 0) -> None:
        worker = Worker(place, self._heard, self._environment, deaths)
        self.workers[place : place + 1] = [worker]  # added, or in the place of one that has died
        most = None if place or self.lanes else self._most  # lanes that it tries at most; None: it measures nothing
        worker.say({"params": self._params, "place": place, "most": most})

    def _replace(self, worker: Worker) -> None:
        code = worker.end()
        self._idle = [other for other in self._idle if other is not worker]
        if worker.deaths + 1 == ATTEMPTS:
            raise RunError(f"the processes that train trials end at once, the last with exit code {code}")
        cli.say(f"worker {worker.pid} has ended with exit code {code}: what it had is trained again")
        self._start(worker.place, worker.deaths + 1)
