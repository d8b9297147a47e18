"""What people would train a network with instead: the loop of PyTorch's tutorials, Lightning, and skorch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from src.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from src.data.batches import Batches
    from src.loop import Trainer

AfterEpoch = Callable[[float], None]  # called with the mean loss of each epoch


class Work(NamedTuple):
    """What is to be trained, and how. inputs: float32 [N, ...], scaled; optimizer: a class of torch.optim."""

    model: nn.Module
    loss: nn.Module
    inputs: Tensor
    targets: Tensor
    batch_size: int
    optimizer: Any
    lr: float
    epochs: int


def check() -> None:
    """InputError when one of them is not installed."""
    missing = [name for name in ("lightning", "skorch") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} cannot be imported. Install what is measured against: "
            "python -m pip install -c requirements.lock -r bench/requirements.txt"
        )


def given(trainer: Trainer, batches: Batches) -> tuple[nn.Module, Tensor]:
    """The network in torch's usual memory format, and all inputs, scaled."""
    import torch

    return trainer.model.to(memory_format=torch.contiguous_format), torch.cat([inputs for inputs, _ in batches])


def loader(work: Work) -> Any:
    """The training split in memory, by a DataLoader."""
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(work.inputs, work.targets), work.batch_size, shuffle=True)


def tutorial(work: Work, after_epoch: AfterEpoch) -> None:
    """A DataLoader and the loop that PyTorch's tutorials teach."""
    data, model = loader(work), work.model.train()
    optimizer = work.optimizer(model.parameters(), lr=work.lr)
    for _ in range(work.epochs):
        total = 0.0
        for inputs, targets in data:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = work.loss(outputs, targets)
            loss.backward()
            optimizer.step()
            total += loss.item()
        after_epoch(total / len(data))


def lightning(work: Work, after_epoch: AfterEpoch) -> None:
    """A LightningModule and a Trainer, its logger, checkpoints and progress bar off."""
    import logging
    import warnings

    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = work.model.train(), work.loss

        def training_step(self, batch: Any, _: int) -> Any:
            inputs, targets = batch
            loss = self.loss(self.model(inputs), targets)
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return work.optimizer(self.parameters(), lr=work.lr)

    class Epochs(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, _: Any) -> None:
            after_epoch(float(trainer.callback_metrics["train_loss"]))

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")  # on the number of workers, of which none is fastest here
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    fit = lightning.Trainer(
        max_epochs=work.epochs, accelerator="cpu", callbacks=[Epochs()], **dict.fromkeys(off, False)
    )
    fit.fit(Module(), loader(work))


def skorch(work: Work, after_epoch: AfterEpoch) -> None:
    """A NeuralNet that does not split or print."""
    from skorch import NeuralNet
    from skorch.callbacks import Callback

    class Epochs(Callback):
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            after_epoch(net.history[-1, "train_loss"])

    net = NeuralNet(
        work.model.train(),
        criterion=work.loss,
        optimizer=work.optimizer,
        lr=work.lr,
        batch_size=work.batch_size,
        max_epochs=work.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[Epochs()],
        callbacks__print_log=None,
    )
    net.fit(work.inputs, work.targets)


Peer = Callable[[Work, AfterEpoch], None]

PEERS: dict[str, Peer] = {
    "tutorial": tutorial,
    "lightning": lightning,
    "skorch": skorch,
}
