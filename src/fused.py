"""SGD, Adam and AdamW by torch's fused kernels, as torch.optim calls them, without what torch.optim does around them:
90 µs of Python a step, a quarter of the step of a small network, and the import of a compiler, which takes a second.
Weights come out equal, bit by bit, where every parameter has a gradient at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class Fused:
    """The parameters of a training, all of one dtype and on one device, and what a rule keeps for each.

    state: by name, a tensor a parameter, of its shape and dtype; step_count: steps made, float32 [], on the device.
    As in torch.optim, `param_groups` has the learning rate, a number or a tensor, and a gradient scaler leaves
    `grad_scale` and `found_inf` here: a step whose gradients are not finite changes nothing.
    """

    kept: tuple[str, ...] = ()
    settings: dict[str, Any]  # what else the kernel takes, the same at each step
    _step_supports_amp_scaling = True  # torch.amp.GradScaler looks for it: else it waits for the device at each step

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.params = [parameter for parameter in parameters if parameter.requires_grad]
        self.param_groups: list[dict[str, Any]] = [{"params": self.params, "lr": lr}]
        self.state = {name: [torch.zeros_like(parameter) for parameter in self.params] for name in self.kept}
        self.step_count = torch.zeros((), device=self.params[0].device)

    def zero_grad(self) -> None:
        """Drop the gradients: backward then makes new ones, where it would else add to zeros."""
        for parameter in self.params:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        gradients = [parameter.grad for parameter in self.params]
        columns: list[Sequence[Any]] = [self.params, gradients, *self.state.values()]
        if any(gradient is None for gradient in gradients):
            rows = zip(*columns, strict=True)
            columns = [list(column) for column in zip(*(row for row in rows if row[1] is not None), strict=True)]
        if columns:
            grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
            self.step_count.add_(1)
            self._move(*columns, lr=self.param_groups[0]["lr"], grad_scale=grad_scale, found_inf=found_inf)
            if found_inf is not None:
                self.step_count.sub_(found_inf)

    def _move(self, *columns: Sequence[Any], **changing: Any) -> None:
        """Call the kernel. columns: parameters, their gradients, and what is kept for each, in the order of `kept`;
        changing: what may be another at each step."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name, those that training moves on with, not copies."""
        return {**self.state, "step_count": self.step_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the values of a state; ValueError or KeyError when it is one of other parameters."""
        for name in self.kept:
            for own, other in zip(self.state[name], state[name], strict=True):
                if own.shape != other.shape:
                    raise ValueError(f"{name} of shape {list(other.shape)} for a parameter of {list(own.shape)}")
                own.copy_(other)
        self.step_count.copy_(state["step_count"])


class Adam(Fused):
    kept = ("exp_avg", "exp_avg_sq")
    kernel: Callable[..., None] = staticmethod(torch._fused_adam_)

    def __init__(self, parameters: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(parameters, lr)
        self.settings = {"beta1": betas[0], "beta2": betas[1], "weight_decay": 0.0, "eps": 1e-8}

    def _move(self, *columns: Sequence[Any], **changing: Any) -> None:
        steps = [self.step_count] * len(columns[0])
        self.kernel(*columns, [], steps, amsgrad=False, maximize=False, **self.settings, **changing)


class AdamW(Adam):
    kernel: Callable[..., None] = staticmethod(torch._fused_adamw_)

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, betas)
        self.settings["weight_decay"] = weight_decay


class SGD(Fused):
    kernel: Callable[..., None] = staticmethod(torch._fused_sgd_)

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float = 0.0) -> None:
        self.kept = ("momentum_buffer",) if momentum else ()
        super().__init__(parameters, lr)
        self.settings: dict[str, Any] = {"momentum": momentum, "weight_decay": weight_decay}
        self.settings |= {"dampening": 0.0, "nesterov": False}

    def _move(self, *columns: Sequence[Any], **changing: Any) -> None:
        # a buffer of zeros is after the first step what torch.optim's is: the gradient
        none: list[Sequence[Any]] = [] if self.kept else [[]]
        self.kernel(*columns, *none, maximize=False, is_first_step=False, **self.settings, **changing)
