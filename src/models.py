"""Models: (shape of one input, number of outputs, settings) → a network.

The network maps float32 [N, *shape] to logits [N, classes], or to [N] where there is one output.
`settings` is the params section `model`, or anything with its attributes; each builder takes what it needs.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn

from src.errors import InputError

Shape = tuple[int, ...]
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Builder(NamedTuple):
    """`build(shape, outputs, settings)` gives the network; `ndim` is the input's, None for any."""

    build: Callable[[Shape, int, Any], nn.Module]
    ndim: int | None


def build(name: str, shape: Shape, outputs: int, settings: Any) -> nn.Module:
    """The model `name` for inputs of `shape`; InputError, with the models that fit, when it cannot take them."""
    fitting = [key for key, entry in MODELS.items() if entry.ndim in (None, len(shape))]
    if name not in fitting:
        kind = "images" if len(shape) == 3 else "tables"
        raise InputError(
            f"model.name = '{name}' cannot take this data (one input has shape {list(shape)}). "
            f"For {kind} use {', '.join(fitting)}"
        )
    network = MODELS[name].build(shape, outputs, settings)
    return nn.Sequential(network, nn.Flatten(0)) if outputs == 1 else network  # [N, 1] → [N]


def linear(shape: Shape, outputs: int, settings: Any) -> nn.Module:
    """Softmax, logistic or linear regression, by the loss it is trained with."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))


def mlp(shape: Shape, outputs: int, settings: Any) -> nn.Module:
    """Hidden layers of `widths` units, each followed by activation and dropout."""
    layers: list[nn.Module] = [nn.Flatten()]
    widths = [math.prod(shape), *settings.widths]
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), ACTIVATIONS[settings.activation](), dropout(settings.dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def dropout(share: float) -> nn.Module:
    """Nothing at all where it is 0: a layer that does nothing takes its time too."""
    return nn.Dropout(share) if share else nn.Identity()


def cnn(shape: Shape, outputs: int, settings: Any) -> nn.Module:
    """Stages of convolution, batch normalisation, activation and pooling, then one linear layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise([shape[0], *settings.channels]):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            ACTIVATIONS[settings.activation](),
            nn.MaxPool2d(2, ceil_mode=True),  # ceil: an image of one pixel stays one
        ]
    tail = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), dropout(settings.dropout)]
    return nn.Sequential(*layers, *tail, nn.Linear(4 * settings.channels[-1], outputs))


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016); [N, before, H, W] → [N, after, H/stride, W/stride]."""

    def __init__(self, before: int, after: int, stride: int, activation: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            ACTIVATIONS[activation](),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.activation(self.branch(inputs) + self.shortcut(inputs))


def resnet(shape: Shape, outputs: int, settings: Any) -> nn.Module:
    """One residual block a stage, halving the image from the second on; mean over the image; one linear layer."""
    blocks = [
        Residual(before, after, 1 if index == 0 else 2, settings.activation)
        for index, (before, after) in enumerate(pairwise([shape[0], *settings.channels]))
    ]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), dropout(settings.dropout)]
    return nn.Sequential(*blocks, *tail, nn.Linear(settings.channels[-1], outputs))


MODELS: dict[str, Builder] = {
    "linear": Builder(linear, None),
    "mlp": Builder(mlp, None),
    "cnn": Builder(cnn, 3),
    "resnet": Builder(resnet, 3),
}
