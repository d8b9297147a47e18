"""python -m bench.checkpoint: how long a training stands still for a checkpoint, beside writing it on the spot.

Both train a network of 100 MB, then of 1 GB, and save it now and then, as after an epoch:

  loopline     as the train stage does: copied, then written, digested, verified and pruned by a thread
  on-the-spot  torch.save, fsync and the SHA-256 of the file, before the next step

Each is a program of its own, and they take turns, save by save (bench/turns.py). `stall` is how long no step is made,
`steps` how many are made a second between two saves: writing beside the training takes processor time from it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from bench import report, turns
from src import cli

if TYPE_CHECKING:
    from torch import nn

BATCH = 8


class Workload(NamedTuple):
    """A network of `layers` square layers of `width` (float32); seconds: trained between two saves."""

    layers: int
    width: int
    seconds: float


WORKLOADS = {"100 MB": Workload(4, 2500, 3.0), "1 GB": Workload(10, 5000, 15.0)}


def main() -> None:
    parser = report.parser("checkpoint", __doc__, rounds=7)
    parser.add_argument("--run", nargs=2, metavar=("NAME", "WORKLOAD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    rows, headlines = [], []
    for name in list(WORKLOADS)[:1] if options.quick else WORKLOADS:
        rounds = 2 if options.quick else options.rounds
        cli.say(f"{name}: {rounds} rounds of {', '.join(WAYS)}, {WORKLOADS[name].seconds:g} s of training in each")
        # not in /tmp, which may be in memory
        with tempfile.TemporaryDirectory(dir=".") as folder:
            entries = {way: ["-m", "bench.checkpoint", "--run", way, name] for way in WAYS}
            told = list(turns.race(entries, rounds, Path(folder).resolve()))
        stalls = pd.DataFrame([{way: facts["stall"] for way, facts in each.items()} for each in told])
        steps = pd.DataFrame([{way: facts["steps"] for way, facts in each.items()} for each in told])
        rows += [
            {"model": name, "way": way, "stall, s": stalls[way].median(), "steps/s between": steps[way].median()}
            for way in WAYS
        ]
        ratio = turns.ratio(stalls["loopline"], stalls["on-the-spot"])
        headlines.append(report.Headline(f"{name}: share of the stall on the spot", ratio, "at most 0.1"))
        cli.say(f"{name}: {ratio}")
    report.finish("checkpoint", not options.quick, options.json, headlines, pd.DataFrame(rows))


def run(way: str, name: str) -> None:
    """Train, and save with a lap after each time, until ended."""
    import torch
    from torch import nn

    from src import device

    layers, width, seconds = WORKLOADS[name]
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    device.place(model, torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
    inputs = torch.randn(BATCH, width)
    with WAYS[way](model) as save:
        while True:
            start, steps = time.perf_counter(), 0
            while time.perf_counter() < start + seconds:
                optimizer.zero_grad(set_to_none=True)
                model(inputs).square().mean().backward()
                optimizer.step()
                steps += 1
            trained = time.perf_counter()
            save()
            turns.lap(stall=time.perf_counter() - trained, steps=steps / (trained - start))


@contextmanager
def loopline(model: nn.Module) -> Iterator[Callable[[], None]]:
    import torch

    from src.loop import Epoch
    from src.saving import Saver

    number = 0
    with Saver(Path("."), keep=2, every=None, state=None) as saver:

        def save() -> None:
            nonlocal number
            number += 1
            state = {"epoch": number, "step": 0, "best_epoch": number, "model": model.state_dict()}
            saver.wait()
            saver.epoch(Epoch(number, 1e-3, {"loss": 0.0}, {"loss": 0.0}, 0.0, torch.zeros(1)), state)

        yield save


@contextmanager
def on_the_spot(model: nn.Module) -> Iterator[Callable[[], None]]:
    import torch

    def save() -> None:
        path = Path("model.pt")
        with path.open("wb") as file:
            torch.save(model.state_dict(), file)
            file.flush()
            os.fsync(file.fileno())
        with path.open("rb") as file:
            path.with_name("model.pt.sha256").write_text(hashlib.file_digest(file, "sha256").hexdigest())

    yield save


Way = Callable[["nn.Module"], Any]
WAYS: dict[str, Way] = {"loopline": loopline, "on-the-spot": on_the_spot}


if __name__ == "__main__":
    cli.run(main)
