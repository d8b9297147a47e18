"""The weights of the best trials, which tune.keep asks for: models/tune.weights/<study>/trial-<number>, as the train
stage writes a model, or a folder of these for each of several seeds."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src import cli
from src.errors import RunError
from src.params import Params

if TYPE_CHECKING:
    from torch import Tensor

    from src.fingerprint import Fingerprint
    from src.loop import Epoch
    from src.training import Data


def of_trial(folder: Path, trial: int) -> Path:
    return folder / f"trial-{trial}"


def of_training(folder: Path, number: int, seeds: int) -> Path:
    """number: that of the training (src/tune/trials.py, Job.rounds)."""
    trial, place = divmod(number, seeds)
    return of_trial(folder, trial) / (f"seed-{place}" if seeds > 1 else "")


def write(
    folder: Path, params: Params, data: Data, weights: dict[str, Tensor], epoch: Epoch, mark: Fingerprint
) -> None:
    """Write the model of a training; mark: of any trial, as they differ in their params alone. RunError when it cannot
    be written."""
    import torch

    from src import export  # which brings pandas

    own, threads = params.flat(), torch.get_num_threads()
    mark = replace(mark, params={key: own[key] for key in mark.params})
    try:
        with torch.random.fork_rng():  # what else trains here must not notice
            export.save_model(folder, params, data, weights, epoch.record(), mark, cli.unsaid)
    except OSError as error:
        raise RunError(f"the weights of a trial could not be written: {error}. Make room, and search again") from error
    finally:
        torch.set_num_threads(threads)


def best(folder: Path, ranked: Sequence[int], count: int) -> list[Path]:
    """The folders of the first `count` of the trials, best first, that have one."""
    return [path for path in (of_trial(folder, trial) for trial in ranked) if path.is_dir()][:count]


def remove_others(folder: Path, ranked: Sequence[int], ended: Collection[int], count: int) -> None:
    """Remove the weights of trials that have ended and are not among the best."""
    over = {of_trial(folder, trial) for trial in ended} - {*best(folder, ranked, count)}
    for path in over & {*folder.glob("*")}:
        shutil.rmtree(path, ignore_errors=True)
