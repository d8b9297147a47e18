"""Measuring side by side: contestants are programs of their own that take turns, round by round.

A contestant calls `lap` after each round, an epoch for example, and stops there (SIGSTOP), with all that it started,
until it is its turn again: what else the machine does falls on all alike, and none has the memory, the threads or the
imports of another.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil

DRAWS = 10_000  # of the bootstrap


def lap(**facts: Any) -> None:
    """In a contestant: a round is over, and these are its facts; returns when the next one may begin."""
    print(json.dumps(facts), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


class Contestant:
    """A program that calls `lap`. words: of its command, after the name of the interpreter."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), **environment}
        self._process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        self._beside: list[psutil.Process] = []

    def turn(self) -> dict[str, Any]:
        """Let it go on until its next lap; the facts of that."""
        for process in self._beside:
            process.resume()
        self._process.send_signal(signal.SIGCONT)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until it has stopped itself
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"it ended before its time: {' '.join(self._process.args)}")  # type: ignore[arg-type]
        self._beside = psutil.Process(self._process.pid).children(recursive=True)
        for process in self._beside:
            process.suspend()
        return json.loads(line)

    def end(self) -> None:
        for process in [*self._beside, self._process]:
            process.kill()
        self._process.wait()


def race(
    entries: dict[str, list[str]], rounds: int, folder: Path, warm_up: int = 1, before: int = 0, **environment: str
) -> Iterator[dict[str, dict[str, Any]]]:
    """The facts of each round after the warm-up, by the names of the contestants; who begins changes from round to
    round. before: rounds of a race that this one goes on with, its contestants begun anew."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # contestants that are stopped do not end by themselves
    with ExitStack() as ending:
        contestants = {}
        for name, words in entries.items():
            contestants[name] = Contestant(words, folder, environment)
            ending.callback(contestants[name].end)
            contestants[name].turn()  # with its imports
        names = list(entries)
        for number in range(warm_up + rounds):
            first = (before + number) % len(names)
            facts = {name: contestants[name].turn() for name in names[first:] + names[:first]}
            if number >= warm_up:
                yield {name: facts[name] for name in names}


def alone(words: list[str], folder: Path) -> Any:
    """Run a program of this project to its end, in a folder that is its project; what its last line says, JSON.
    words: as of a Contestant."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "DVC_ROOT": str(folder)}
    printed = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(printed.splitlines()[-1])


class Ratio(NamedTuple):
    """The median of the ratios of neighbouring rounds, and its 95% interval."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.3f} (95%: {self.low:.3f} to {self.high:.3f}; {self.count} rounds)"


def ratio(above: pd.Series, below: pd.Series) -> Ratio:
    """How many times `below` `above` is; both in seconds, a round a row. The interval is a bootstrap's (Efron 1979),
    of rounds that have nothing to do with each other."""
    ratios = (above / below).to_numpy()
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
