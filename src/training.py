"""One training function for the train stage, the tuner and whoever else: params and data in, epochs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from src import checkpoints, cli, device, fingerprint, locks, losses, metrics, models, optimizers, paths
from src.checkpoints import State
from src.data import prepared
from src.data import schema as schemas
from src.data.batches import Batches
from src.data.prepared import Split
from src.data.schema import Schema
from src.errors import InputError, RunError
from src.fingerprint import Fingerprint
from src.loop import Epoch, Trainer, fit
from src.params import Params
from src.tracking.history import History


class Data(NamedTuple):
    """What training may see: there is no place here for the test split."""

    schema: Schema
    train: Split
    val: Split


def load_data() -> Data:
    """The prepared training and validation data."""
    schema = schemas.load()
    return Data(schema, prepared.load("train", schema), prepared.load("val", schema))


@dataclass(frozen=True)
class Progress:
    """How far a training is, and which epoch was best by train.monitor (0: none yet)."""

    epoch: int = 0
    best_epoch: int = 0
    best: float | None = None

    def after(self, epoch: Epoch, monitor: str) -> "Progress":
        value = epoch.val[monitor]
        if metrics.better(monitor, value, self.best):
            return Progress(epoch.number, epoch.number, value)
        return replace(self, epoch=epoch.number)

    def is_stopped(self, patience: int | None) -> bool:
        """Early stopping: `patience` epochs have passed since the best."""
        return patience is not None and self.epoch - self.best_epoch >= patience


def train(params: Params, data: Data, folder: Path | None = None) -> Iterator[Epoch]:
    """Train; yield each epoch once its checkpoint is on disk. The caller reads as a loop and stops with `break`.

    folder: where checkpoints and history lie. Training goes on after the newest checkpoint in it, and yields
    nothing when that was the last. None: nothing is written, as for a tuner's trials.
    InputError at once when params do not fit the data or the machine; RunError when a loss is not finite.
    """
    trainer, train_batches, val_batches = assemble(params, data)
    progress = Progress()
    state = checkpoints.newest(folder, cli.say) if folder else None
    if state:
        progress = restore(state, trainer)
        cli.say(f"same params, data and code: going on after epoch {progress.epoch} of {params.train.epochs}")

    def epochs(progress: Progress) -> Iterator[Epoch]:
        history = History(folder) if folder else None
        if history:
            history.cut(progress.epoch)
        if progress.is_stopped(params.train.patience):
            return
        for epoch in fit(trainer, train_batches, val_batches, progress.epoch + 1, params.train.epochs):
            progress = progress.after(epoch, params.train.monitor)
            if history and folder:
                history.append(epoch.record())
                state = capture(trainer, progress, epoch, params, data.schema)
                checkpoints.write(folder, epoch.number, state, progress.best_epoch)
            yield epoch
            if progress.is_stopped(params.train.patience):
                return

    return epochs(progress)


def assemble(params: Params, data: Data) -> tuple[Trainer, Batches, Batches]:
    """Everything a training needs, on its device: the trainer, and the batches of train and val."""
    where = device.select(params.train.device)
    device.seed_everything(params.seed)
    settings = params.train
    model = models.build(params.model.name, data.schema.shape, data.schema.outputs, params.model)
    device.set_threads(model, data.schema.shape, settings.batch_size)
    device.place(model, where)
    strengths = settings.augment.model_dump()
    if any(strengths.values()) and len(data.schema.shape) != 3:
        raise InputError("train.augment changes images, and this data is a table: set all of it to 0")
    train, val = (
        Batches(
            device.resident(split.inputs, where),
            split.targets.to(where),
            settings.batch_size,
            params.seed,
            data.schema.scale,
            settings.sampler == "balanced",
            strengths,
        )
        for split in (data.train, data.val)
    )
    if train.streamed:
        size = f"{train.inputs.nbytes / 1e9:.1f} GB"
        cli.say(f"{size} of training data do not fit on {where}: they are brought there in chunks")
    trainer = Trainer(
        model=model,
        loss=losses.build(params.loss, settings, data.schema.target).to(where),
        optimizer=optimizers.OPTIMIZERS[settings.optimizer].build(model.parameters(), settings),
        lr=optimizers.learning_rate(settings, len(train)),
        measure=partial(metrics.measure, params.task, in_unit=data.schema.target.in_unit),
        autocast=device.autocast(settings.precision, where),
        clip_norm=settings.clip_norm,
    )
    return trainer, train, val


def capture(trainer: Trainer, progress: Progress, epoch: Epoch, params: Params, schema: Schema) -> State:
    """All that a training is after an epoch: tensors and plain values only."""
    return {
        **asdict(progress),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        # the schedule is a function of the step, which the epoch gives: this is for readers
        "schedule": {"name": params.train.schedule, "lr": epoch.lr},
        "random": checkpoints.random_states(),
        "metrics": epoch.record(),
        "params": params.model_dump(by_alias=True),
        "data": schema.digest,
    }


def restore(state: State, trainer: Trainer) -> Progress:
    """Put a captured state back into a trainer built from the same params and data."""
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    checkpoints.restore_random_states(state["random"])
    return Progress(state["epoch"], state["best_epoch"], state["best"])


@contextmanager
def workplace(mark: Fingerprint) -> Iterator[Path]:
    """The checkpoint folder of a fingerprint, held against other processes; says what differs from the training
    before when this one cannot resume it. RunError when another process holds the folder."""
    folder = paths.checkpoints() / mark.digest
    with locks.held(folder / "lock", "is training with these very settings"):
        earlier = fingerprint.latest(paths.checkpoints(), mark)
        fingerprint.write(folder, mark)
        if earlier and not any(folder.glob("epoch-*.pt")):
            cli.say("training from the start; changed since the last training: " + "; ".join(earlier))
        yield folder


def best_state(folder: Path) -> State:
    """The checkpoint of the best epoch. RunError when no epoch had a monitor that is a number."""
    state = checkpoints.newest(folder, cli.say)
    if not state or not state["best_epoch"]:
        raise RunError("train.monitor was not a number in any epoch: no best model. Choose another train.monitor")
    return checkpoints.read(checkpoints.path_of(folder, state["best_epoch"]))
