"""One training function for the train stage, the tuner and whoever else: params and data in, epochs out."""

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from src import (
    checkpoints,
    cli,
    device,
    fingerprint,
    footprint,
    locks,
    losses,
    metrics,
    models,
    optimizers,
    paths,
    saving,
)
from src.checkpoints import State
from src.data import prepared
from src.data import schema as schemas
from src.data.batches import Batches
from src.data.prepared import Split
from src.data.schema import Schema
from src.errors import InputError, RunError
from src.fingerprint import Fingerprint
from src.graph import Recorded
from src.loop import NO_LOSSES, Epoch, Step, StepLosses, Trainer, accumulated_step, fit, go_on, train_step
from src.params import Params, changed
from src.saving import Saver
from src.sections import Train
from src.tracking.history import History, Steps

Watch = Callable[[Trainer, Batches], None]
Assembled = tuple[Trainer, Batches, Batches]  # with the batches of train and of val


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
    """How far a training is: whole epochs, and steps of the next one; and which epoch was best by train.monitor (0:
    none yet)."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: float | None = None

    def after(self, epoch: Epoch, monitor: str) -> "Progress":
        value = epoch.val[monitor]
        if metrics.better(monitor, value, self.best):
            return Progress(epoch.number, 0, epoch.number, value)
        return replace(self, epoch=epoch.number, step=0)

    def is_stopped(self, patience: int | None) -> bool:
        """Early stopping: `patience` epochs have passed since the best."""
        return patience is not None and self.epoch - self.best_epoch >= patience


def train(
    params: Params,
    data: Data,
    folder: Path | None = None,
    watch: Watch | None = None,
    is_trial: bool = False,
) -> Generator[Epoch, None, None]:
    """Train; yield each epoch once its checkpoint is on disk. The caller reads as a loop and stops with `break`.

    folder: where checkpoints and history lie. Training goes on from the newest checkpoint in it, and yields
    nothing when that was the last. None: nothing is written, as for most of a tuner's trials.
    watch: is handed what trains before it does, to look at its steps.
    is_trial: one of many, which says nothing, and is told to stop after any epoch: each is yielded before the next.
    InputError at once when params do not fit the data or the machine; RunError when a loss is not finite.
    """
    params = sized(params, data)
    if watch:  # a step that is replayed has no parts to look at
        params = changed(params, {"train.cuda_graph": False})
    trainer, train_batches, val_batches = assemble(params, data)
    if watch:
        watch(trainer, train_batches)
    if folder is None:
        return (epoch for epoch, _ in run(params, data, trainer, train_batches, val_batches))
    say = cli.unsaid if is_trial else cli.say
    state = checkpoints.newest(folder, say)
    history = History(folder)
    if state:
        saving.check_best(folder, state)
        restore(state, trainer)
        within = f" and {state['step']} of {len(train_batches)} steps" if state["step"] else ""
        say(f"same params, data and code: going on after epoch {state['epoch']}{within} of {params.train.epochs}")
    history.restore(saving.records(state) if state else [], say)
    Steps(folder).restore(state["epoch"] if state else 0, say)
    at_once = -(-max(train_batches.sizes) // params.train.accumulate)
    say(f"memory at its peak: {footprint.of(trainer, train_batches, val_batches, at_once)}, beside torch's own")
    saver = Saver(folder, params.train.checkpoints_kept, params.train.checkpoint_seconds, state)
    return saving.saved(run(params, data, trainer, train_batches, val_batches, state, saver), saver, at_once=is_trial)


def run(
    params: Params,
    data: Data,
    trainer: Trainer,
    train_batches: Batches,
    val_batches: Batches,
    state: State | None = None,
    saver: Saver | None = None,
) -> Iterator[tuple[Epoch, State]]:
    """The epochs that are left after `state`, each with the state after it; `saver` saves between two steps."""
    progress, done = Progress(), NO_LOSSES
    if state:
        progress = Progress(*(state[name] for name in asdict(Progress())))
        done = state["losses"] if progress.step else NO_LOSSES
        # only now: what else runs in this process until the first step must not move them
        checkpoints.restore_random_states(state["random"])
    if progress.is_stopped(params.train.patience):
        return

    def within(losses: StepLosses) -> State:
        return capture(trainer, replace(progress, step=len(losses)), params, data.schema, losses=losses.read())

    between = saver.between(within) if saver else go_on
    first, last = progress.epoch + 1, params.train.epochs
    for epoch in fit(trainer, train_batches, val_batches, first, last, done, between):
        progress = progress.after(epoch, params.train.monitor)
        state = capture(trainer, progress, params, data.schema, metrics=epoch.record()) if saver else {}
        yield epoch, state
        if progress.is_stopped(params.train.patience):
            return


def sized(params: Params, data: Data) -> Params:
    """`params` with a number in place of "auto" for train.batch_size."""
    if params.train.batch_size != "auto":
        return params
    chosen = footprint.largest(*assemble(changed(params, {"train.batch_size": 2}), data))
    cli.say(f"train.batch_size: {chosen}")
    return changed(params, {"train.batch_size": chosen})


def assemble(params: Params, data: Data) -> Assembled:
    """Everything a training needs, on its device: the trainer, and the batches of train and val."""
    where = device.select(params.train.device)
    settings, size = params.train, params.train.batch_size
    assert size != "auto", "`sized` comes first"
    device.seed_everything(params.seed, settings.deterministic)
    model = models.build(params.model.name, data.schema.shape, data.schema.outputs, params.model)
    device.set_threads(model, data.schema.shape, size)
    device.place(model, where)
    strengths = settings.augment.model_dump()
    if any(strengths.values()) and len(data.schema.shape) != 3:
        raise InputError("train.augment changes images, and this data is a table: set all of it to 0")
    train, val = (
        Batches(
            split.inputs,
            split.targets,
            size,
            params.seed,
            data.schema.scale,
            settings.sampler == "balanced",
            strengths,
            where,
            device.fits(split.inputs, where, settings.resident_gb),
        )
        for split in (data.train, data.val)
    )
    if train.streamed:
        whole = footprint.in_words(train.inputs.nbytes)
        cli.say(f"{whole} of training data do not stay on {where}: they are brought there in chunks")
    optimizer = optimizers.OPTIMIZERS[settings.optimizer].build(model.parameters(), settings)
    step = step_of(settings, where, train.sizes[0])
    if isinstance(step, Recorded):
        optimizer.param_groups[0]["lr"] = torch.tensor(settings.lr, device=where)
    trainer = Trainer(
        model=model,
        loss=losses.build(params.loss, settings, data.schema.target).to(where),
        optimizer=optimizer,
        lr=optimizers.learning_rate(settings, len(train)),
        measure=partial(metrics.measure_each, params.task, in_unit=data.schema.target.in_unit),
        autocast=device.autocast(settings.precision, where),
        scaler=device.scaler(settings.precision, where),
        clip_norm=settings.clip_norm,
        step=step,
    )
    return trainer, train, val


def step_of(settings: Train, where: torch.device, size: int) -> Step:
    """How one step is made, by the settings, the device and the size of a batch. InputError for settings that exclude
    each other."""
    step: Step = partial(accumulated_step, settings.accumulate) if settings.accumulate > 1 else train_step
    if settings.fail_on_wait:
        return device.no_waits(where)(step)
    if settings.cuda_graph and where.type == "cuda":
        if step is not train_step or device.precision(settings.precision, where) == "fp16":
            raise InputError("train.cuda_graph needs train.accumulate: 1 and a train.precision that is not fp16")
        return Recorded(size)
    return step


def capture(trainer: Trainer, progress: Progress, params: Params, schema: Schema, **so_far: Any) -> State:
    """All that a training is after an epoch (`metrics`) or within one (`losses` of its steps): tensors and plain
    values only. Early stopping counts from `best_epoch`; the schedule and the order of the samples are functions of
    epoch and step, and need nothing else."""
    return {
        **asdict(progress),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "random": checkpoints.random_states(),
        # the rest does not shape a training, and an address in it may have a password
        "params": params.model_dump(include={"seed", "task", "model", "train"}),
        "data": schema.digest,
        **so_far,
    }


def restore(state: State, trainer: Trainer) -> None:
    """Put model and optimizer of a captured state back into a trainer built from the same params and data. InputError
    when it is the state of something else."""
    try:
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scaler.load_state_dict(state["scaler"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"the newest checkpoint is of another training ({why}). Remove it and go on") from None


@contextmanager
def workplace(mark: Fingerprint, settings: Train, wanted: Collection[Path] = ()) -> Iterator[Path]:
    """The checkpoint folder of a fingerprint, held against other processes; says what differs from the training
    before when this one cannot resume it, and removes what is beyond train.checkpoints_days and _gb, except for those
    `wanted`. RunError when another process holds the folder."""
    folder = paths.checkpoints() / mark.digest
    with locks.held(folder / "lock", "is training with these very settings"):
        earlier = fingerprint.latest(paths.checkpoints(), mark)
        fingerprint.write(folder, mark)
        checkpoints.prune({folder, *wanted}, settings.checkpoints_days, settings.checkpoints_gb, cli.say)
        if earlier and not any(folder.glob("epoch-*.pt*")):
            cli.say("training from the start; changed since the last training: " + "; ".join(earlier))
        yield folder


def best_state(folder: Path) -> State:
    """The checkpoint of the best epoch. RunError when no epoch had a monitor that is a number."""
    state = checkpoints.newest(folder, cli.say)
    if not state or not state["best_epoch"]:
        raise RunError("train.monitor was not a number in any epoch: no best model. Choose another train.monitor")
    return checkpoints.read(checkpoints.path_of(folder, state["best_epoch"]))
