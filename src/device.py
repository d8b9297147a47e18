"""Where and how numbers are computed: device, precision, seeds."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

from src import memory
from src.errors import InputError, RunError

THREADS = torch.get_num_threads()
SMALL = 8_000_000  # multiplications in the forward pass of a batch


def select(name: str) -> torch.device:
    """The device called `name`, or the best there is for "auto"; a GPU is from then on the one that is meant where none
    is named. InputError for one that is absent."""
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    present[:0] = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    wanted = present[0] if name == "auto" else "cuda:0" if name == "cuda" else name
    if wanted not in present:
        raise InputError(f"train.device = '{name}' is not on this machine. It has: auto, {', '.join(present)}")
    if wanted.startswith("cuda"):
        torch.cuda.set_device(wanted)
    return torch.device(wanted)


def precision(name: str, device: torch.device) -> str:
    """What "auto" means: bf16 on GPUs that are built for it, fp16 on those before them, else fp32."""
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """The context of forward and loss: autocast to bf16 or fp16, or nothing for fp32."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    chosen = dtypes.get(precision(name, device))
    return torch.autocast(device.type, chosen) if chosen else nullcontext()


def scaler(name: str, device: torch.device) -> GradScaler:
    """Scales the loss, so that gradients in fp16 do not vanish (Micikevicius et al. 2018); for others does nothing."""
    return GradScaler(device.type, enabled=precision(name, device) == "fp16")


class NoWaits(TorchDispatchMode):
    """Refuses every operation whose result Python must see before it can go on: on a GPU it would wait for that."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_place = func is torch.ops.aten.index.Tensor and all(each is None or each.dtype.is_signed for each in args[1])
        if not by_place and {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            raise RunError(f"a step waits for the device, at {func}: what it needs to know must stay in tensors there")
        return func(*args, **kwargs or {})


@contextmanager
def no_waits(device: torch.device) -> Iterator[None]:
    """RunError, or on CUDA torch's RuntimeError, from what makes Python wait for the device."""
    with NoWaits():
        if device.type != "cuda":
            yield
            return
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def to_host(values: Tensor) -> Callable[[], Tensor]:
    """Send a tensor to the CPU; what is returned waits until it is there, and gives it."""
    if values.device.type != "cuda":
        return values.cpu
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    sent = torch.cuda.Event()
    sent.record()

    def arrived() -> Tensor:
        sent.synchronize()
        return copy.clone()  # memory that a GPU can copy to is short, and used again

    return arrived


def fits(inputs: Tensor, device: torch.device, limit: float | None) -> bool:
    """Whether the inputs of a split can stay on the device: no more than `limit` GB, or than half of what is free on a
    GPU, or of the memory of this machine. Else Batches brings them there in chunks."""
    if limit is not None:
        return inputs.nbytes <= limit * 1e9
    if device.type == "cuda":
        return inputs.nbytes <= torch.cuda.mem_get_info(device)[0] / 2
    return inputs.nbytes <= memory_of(device) / 2


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU, or of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device that computes, convolutions in the memory format that is faster there.

    On two CPU cores a small ResNet takes 0.6 of the time: some of that by channels_last, the rest as freed memory is
    kept.
    """
    if device.type == "cpu":
        memory.keep_freed()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if device.type != "mps" and convolutions and not any(map(is_broken, convolutions)):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def is_broken(layer: nn.Conv2d) -> bool:
    """Whether channels_last must be left alone: with torch 2.13 on one CPU thread, the gradient of a strided 1x1
    convolution writes outside its memory unless its input channels are a multiple of 8 (seen: the heap corrupted)."""
    return layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.in_channels % 8 != 0


def set_threads(model: nn.Module, shape: tuple[int, ...], batch_size: int) -> None:
    """One CPU thread for a small model (on the CPU, for inputs of `shape`), all of them for a large one.

    Below SMALL a second thread brings nothing, and when another process wants the same cores (two queued
    experiments, a sweep) the threads wait for each other: seen to cost a factor of 20.
    """
    torch.set_num_threads(1 if multiplications(model, shape) * batch_size < SMALL else THREADS)


def multiplications(model: nn.Module, shape: tuple[int, ...]) -> int:
    """In the linear and convolutional layers, in the forward pass of one input of `shape`; model: on the CPU."""
    products = 0

    def count(module: nn.Linear | nn.Conv2d, _: Any, output: Tensor) -> None:
        nonlocal products
        products += module.weight.numel() * output.numel() // output.shape[1]

    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return products


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch, on all that `select` knows: first weights and dropout depend on nothing else.

    deterministic: only operations that give equal bits each time, on a GPU too. Those of the CPU all do.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    if deterministic != torch.are_deterministic_algorithms_enabled():  # to set it imports torch's compiler: a second
        torch.use_deterministic_algorithms(deterministic)
    random.seed(seed)
    np.random.seed(seed)
    # not torch.manual_seed: where there is no GPU, it keeps a traceback each time for each kind that is absent
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def describe(device: torch.device) -> str:
    """For people: "cpu, 2 threads" or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
