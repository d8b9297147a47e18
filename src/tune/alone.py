"""One training of a search where it cannot be, or need not be, a lane among others."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from torch import Tensor

from src import checkpoints, device, models
from src.checkpoints import State
from src.errors import InputError, RunError
from src.lanes import Told
from src.loop import Epoch, of_record
from src.params import Params
from src.tracking.history import History
from src.training import Data, assemble, best_state, run, train

LONG, GPU_LONG = 1e10, 1e13  # multiplications in an epoch


class Alone:
    """One training, to be used as Lanes is. One that takes long keeps checkpoints in `folder`, and goes on from what is
    there: its earlier epochs are told again first. params: with a number for train.batch_size."""

    def __init__(self, params: Params, data: Data, folder: Path | None = None) -> None:
        self._params, self._data, self._is_dropped = params, data, False
        self._folder = folder if folder and is_long(params, data) else None
        self._best: State = {}

    def fit(self, last: int) -> Generator[Told, None, None]:
        """As Lanes.fit. RunError when a checkpoint cannot be written: no matter of this training alone."""
        try:
            with closing(self._begun()) as epochs:
                for epoch in chain(remembered(self._folder) if self._folder else (), epochs):
                    yield {0: epoch}
                    if self._is_dropped:
                        return
        except RunError as error:
            if isinstance(error.__cause__, OSError):
                raise
            yield {0: error}

    def drop(self, lanes: Sequence[int]) -> None:
        self._is_dropped = 0 in lanes

    def note_best(self, lane: int) -> None:
        """As Together.note_best; where there are checkpoints, the best of them is kept anyhow."""
        if not self._folder:
            self._best = checkpoints.on_host(self._trainer.model.state_dict())

    def best_weights(self, lane: int) -> dict[str, Tensor]:
        """As Together.best_weights."""
        return best_state(self._folder)["model"] if self._folder else self._best

    def _begun(self) -> Generator[Epoch, None, None]:
        if self._folder is None:
            self._trainer, train_batches, val_batches = assemble(self._params, self._data)
            return (epoch for epoch, _ in run(self._params, self._data, self._trainer, train_batches, val_batches))
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            return train(self._params, self._data, self._folder, is_trial=True)
        except InputError:
            if not any(self._folder.iterdir()):
                raise
        shutil.rmtree(self._folder)  # something in it is damaged, and it can be trained anew
        return self._begun()


def is_long(params: Params, data: Data) -> bool:
    """Whether an epoch takes so long, about a second or more, that a checkpoint after it costs next to nothing."""
    network = models.build(params.model.name, data.schema.shape, data.schema.outputs, params.model)
    products = 3 * device.multiplications(network, data.schema.shape) * len(data.train.targets)
    return products > (LONG if device.select(params.train.device).type == "cpu" else GPU_LONG)


def remembered(folder: Path) -> list[Epoch]:
    """The epochs that a training in `folder` has had, without the losses of their steps."""
    return [of_record(record) for record in History(folder).read()[0]]
