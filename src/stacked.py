"""Networks of one architecture as one: each weight is a tensor whose first dimension, K, is that of the networks.

A network that is a sequence of the layers in LAYERS is computed with a few large operations for all K, in one of these
layouts; any other goes through torch.func.vmap, which takes about twice as long for a small one on a CPU.

    shared    [N, ...]           the same for all networks, as a batch is until the first layer
    columns   [K, F, N]          a sample a column, so that no layer has to turn the weights of another
    pictures  [N, K * C, H, W]   channels of one network beside those of the next: convolutions in K groups. On a CPU
                                 those of a pixel lie together: pooling and batch normalisation then take many at once
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from src import device

Weights = dict[str, Tensor]


class Flow(NamedTuple):
    """What is between two layers, and in which layout."""

    values: Tensor
    layout: str
    networks: int


class Dropout(nn.Module):
    """nn.Dropout whose share is a buffer, so that each network can have its own."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.register_buffer("share", torch.tensor(share), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return dropped(inputs, self.get_buffer("share")) if self.training else inputs


class Stacked:
    """K networks, of which only weights, buffers and the share of their dropout may differ.

    flat: all weights, float [K, P], a network a row; weights: by name, [K, ...], parts of it that require gradients;
    buffers: by name, [K, ...]. ValueError for networks that differ in anything else.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        even_dropout(networks)
        if any(described(network) != described(networks[0]) for network in networks[1:]):
            raise ValueError("networks of one architecture are needed: these differ in their layers or their settings")
        self.template = networks[0]
        self._layers = sequence(self.template)
        self._hold(*stack_module_state(list(networks)))

    def __len__(self) -> int:
        """Networks in it."""
        return len(next(iter(self.weights.values())))

    def __call__(self, inputs: Tensor, shared: bool, training: bool) -> Tensor:
        """Outputs [K, classes, N] or [K, N]. inputs: [N, ...] for all where they are `shared`, else [K, N, ...]."""
        if self._layers is None:
            return self._mapped(inputs, shared, training)
        flow = Flow(inputs, "shared", len(self)) if shared else spread(inputs)
        for name, layer in self._layers:
            flow = LAYERS[type(layer)](layer, self._own[name], flow, training)
        return flow.values

    def keep(self, rows: Tensor) -> None:
        """Leave only the networks at the places `rows`, int64."""
        self._hold(
            *({name: value.detach()[rows] for name, value in part.items()} for part in (self.weights, self.buffers))
        )

    def state(self, place: int) -> Weights:
        """A copy of the state_dict of the network at this place."""
        own = {**self.weights, **self.buffers}
        return {name: own[name][place].detach().cpu().clone() for name in self.template.state_dict()}

    def _hold(self, weights: Weights, buffers: Weights) -> None:
        rows = [value.detach().reshape(len(value), -1) for value in weights.values()]
        self.flat = torch.cat(rows, 1)
        parts = zip(weights.items(), self.flat.split([row.shape[1] for row in rows], 1), strict=True)
        self.weights = {name: part.view(value.shape).requires_grad_() for (name, value), part in parts}
        self.buffers = dict(buffers)
        self._own: dict[str, Weights] = {
            name: {} for name, _ in self._layers or ()
        }  # by layer, names as they are in it
        for full, value in {**self.weights, **self.buffers}.items():
            layer, _, name = full.rpartition(".")
            self._own.setdefault(layer, {})[name] = value

    def _mapped(self, inputs: Tensor, shared: bool, training: bool) -> Tensor:
        self.template.train(training)

        def one(weights: Weights, buffers: Weights, given: Tensor) -> Tensor:
            return functional_call(self.template, (weights, buffers), (given,))

        each = vmap(one, in_dims=(0, 0, None if shared else 0), randomness="different")
        outputs = each(self.weights, self.buffers, inputs)
        return outputs.transpose(1, 2) if outputs.ndim == 3 else outputs


def even_dropout(networks: Sequence[nn.Module]) -> None:
    """Put a Dropout in all of the networks where one of them has nn.Dropout: one without it drops a share of 0."""
    modules = [dict(network.named_modules()) for network in networks]
    names = {name for own in modules for name, module in own.items() if type(module) is nn.Dropout}
    for network, own in zip(networks, modules, strict=True):
        where = next(network.parameters()).device
        for name in names:
            if type(own.get(name)) in (nn.Dropout, nn.Identity):
                parent, _, last = name.rpartition(".")
                setattr(network.get_submodule(parent), last, Dropout(getattr(own[name], "p", 0.0)).to(where))


def described(network: nn.Module) -> list[tuple[str, str, str]]:
    """(name, kind, settings) of every module in it: networks of one architecture have the same."""
    plain = (bool, int, float, str, tuple, type(None))

    def settings(module: nn.Module) -> str:
        found = {key: value for key, value in vars(module).items() if isinstance(value, plain) and key != "training"}
        shapes = {key: tuple(value.shape) for key, value in module.named_parameters(recurse=False)}
        return str(sorted(found.items()) + sorted(shapes.items()))

    return [(name, type(module).__name__, settings(module)) for name, module in network.named_modules()]


def sequence(network: nn.Module, name: str = "") -> list[tuple[str, Any]] | None:
    """(name, layer) in the order in which they are computed; None where they are not all in LAYERS, one after the
    other."""
    if type(network) is not nn.Sequential:
        return [(name, network)] if type(network) in LAYERS and is_usual(network) else None
    found: list[tuple[str, Any]] = []
    for key, child in network.named_children():
        within = sequence(child, f"{name}.{key}" if name else key)
        if within is None:
            return None
        found += within
    return found


def is_usual(layer: Any) -> bool:
    """Whether a layer has the settings that the functions here are written for."""
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and layer.groups == 1 and not device.is_broken(layer)
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    return not isinstance(layer, nn.Flatten) or (layer.start_dim in (0, 1) and layer.end_dim == -1)


def spread(inputs: Tensor) -> Flow:
    """Inputs [K, N, ...] in the layout of the first layer."""
    networks = len(inputs)
    if inputs.ndim == 5:
        return Flow(inputs.transpose(0, 1).flatten(1, 2), "pictures", networks)
    return Flow(inputs.flatten(2).transpose(1, 2), "columns", networks)


def channels_last(pictures: Tensor) -> Tensor:
    """[N, C, H, W] with the channels of a pixel together, told by the strides where there is one channel too."""
    return pictures.movedim(1, -1).clone(memory_format=torch.contiguous_format).movedim(-1, 1)


def linear(layer: nn.Linear, own: Weights, flow: Flow, training: bool) -> Flow:
    weight, bias = own["weight"], own.get("bias")
    is_shared = flow.layout == "shared"
    inputs = flow.values.t().expand(flow.networks, -1, -1) if is_shared else flow.values
    values = weight @ inputs if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, inputs)
    return Flow(values, "columns", flow.networks)


def convolution(layer: nn.Conv2d, own: Weights, flow: Flow, training: bool) -> Flow:
    groups = 1 if flow.layout == "shared" else flow.networks
    is_apart = flow.values.device.type == "cpu" and flow.values.stride(1) != 1
    inputs = channels_last(flow.values) if is_apart else flow.values
    bias = own["bias"].flatten() if "bias" in own else None
    weight = own["weight"].flatten(0, 1)
    values = functional.conv2d(inputs, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
    return Flow(values, "pictures", flow.networks)


def batch_norm(layer: nn.BatchNorm2d, own: Weights, flow: Flow, training: bool) -> Flow:
    mean, var = own["running_mean"].view(-1), own["running_var"].view(-1)  # which are written to
    weight, bias = own["weight"].flatten(), own["bias"].flatten()
    if training:
        own["num_batches_tracked"].add_(1)
    momentum = layer.momentum
    assert momentum is not None
    values = flow.values if flow.layout == "pictures" else flow.values.repeat(1, flow.networks, 1, 1)
    values = functional.batch_norm(values, mean, var, weight, bias, training, momentum, layer.eps)
    return Flow(values, "pictures", flow.networks)


def flatten(layer: nn.Flatten, own: Weights, flow: Flow, training: bool) -> Flow:
    values = flow.values
    if layer.start_dim == 0:  # of [N, 1], at the end of a network with one output
        return Flow(values.squeeze(1), "columns", flow.networks)
    if flow.layout == "shared":
        return Flow(values.flatten(1), "shared", flow.networks)
    if flow.layout == "pictures":
        values = values.unflatten(1, (flow.networks, -1)).flatten(2).permute(1, 2, 0)
    return Flow(values, "columns", flow.networks)


def dropout(layer: Dropout, own: Weights, flow: Flow, training: bool) -> Flow:
    if not training:
        return flow
    if flow.layout == "shared":
        flow = spread(flow.values.expand(flow.networks, *flow.values.shape))
    if flow.layout == "columns":
        return flow._replace(values=dropped(flow.values, own["share"].view(-1, 1, 1)))
    channels = flow.values.shape[1] // flow.networks
    return flow._replace(values=dropped(flow.values, own["share"].repeat_interleave(channels).view(1, -1, 1, 1)))


def average(layer: nn.AdaptiveAvgPool2d, own: Weights, flow: Flow, training: bool) -> Flow:
    """Nothing where the pictures have that size already."""
    size = layer.output_size
    wanted = size if isinstance(size, tuple) else (size, size)
    return flow if flow.values.shape[2:] == wanted else alone(layer, own, flow, training)


def alone(layer: nn.Module, own: Weights, flow: Flow, training: bool) -> Flow:
    """A layer that knows nothing of its neighbours: each number, or each channel, for itself."""
    return flow._replace(values=layer(flow.values))


def dropped(inputs: Tensor, share: Tensor) -> Tensor:
    """Inputs of which a share is 0, and the others grow so that the mean stays (Srivastava et al. 2014)."""
    kept = torch.rand_like(inputs) >= share
    return inputs * kept / (1 - share)


Layer = Callable[[Any, Weights, Flow, bool], Flow]

LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.BatchNorm2d: batch_norm,
    nn.Flatten: flatten,
    Dropout: dropout,
    nn.MaxPool2d: alone,
    nn.AdaptiveAvgPool2d: average,
    nn.Identity: alone,
    nn.ReLU: alone,
    nn.GELU: alone,
    nn.SiLU: alone,
    nn.Tanh: alone,
}
