import random

import numpy as np
import pytest
import torch

from src import device, models
from src.errors import InputError
from src.params import Params

CPU = torch.device("cpu")


def test_the_cpu_is_always_there():
    assert device.select("cpu") == CPU


def test_auto_is_an_accelerator_where_there_is_one():
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (device.select("auto").type != "cpu") is accelerated


@pytest.mark.parametrize("name", ["cuda:99", "cuda:4294967296"])
def test_an_absent_device_is_refused_with_those_that_are_there(name):
    with pytest.raises(InputError, match=rf"train.device = '{name}' is not on this machine. It has: auto, .*cpu"):
        device.select(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA GPU")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(InputError, match=r"train.device = 'cuda' is not on this machine. It has: auto, (mps, )?cpu"):
        device.select("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_is_the_first_gpu():
    assert device.select("cuda") == torch.device("cuda:0") == device.select("cuda:0")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("auto", torch.float32), ("bf16", torch.bfloat16)]
)
def test_precision_on_the_cpu(precision, dtype):
    model, inputs = torch.nn.Linear(4, 2), torch.randn(3, 4)
    context = device.autocast(precision, CPU)
    for _ in range(2):  # every step enters the same context
        with context:
            assert model(inputs).dtype == dtype
        assert model(inputs).dtype == torch.float32
    assert model.weight.dtype == torch.float32


def draws():
    return random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist(), torch.nn.Linear(2, 2).weight.tolist()


def test_a_seed_decides_every_draw():
    device.seed_everything(7)
    first = draws()
    assert all(one != two for one, two in zip(first, draws(), strict=True))
    device.seed_everything(7)
    assert draws() == first
    device.seed_everything(8)
    assert all(one != two for one, two in zip(first, draws(), strict=True))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_bounds_of_the_seed_param_are_seeds(seed):
    device.seed_everything(seed)
    assert torch.initial_seed() == seed


def test_the_description_names_the_device():
    assert device.describe(CPU).startswith("cpu, ")


def test_a_placed_model_gives_what_it_gave():
    shape, settings = (3, 12, 12), Params().model
    torch.manual_seed(0)
    network = models.build("resnet", shape, 5, settings).eval()
    inputs = torch.randn(4, *shape)
    with torch.no_grad():
        before = network(inputs)
        placed = device.place(network, torch.device("cpu"))
        assert torch.allclose(placed(inputs), before, atol=1e-5)
    weights = [module.weight for module in placed.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.fixture
def one_thread():
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(device.THREADS)


def test_a_network_that_torch_would_corrupt_memory_with_keeps_its_format(one_thread):
    settings = Params().model.model_copy(update={"channels": [4, 8]})
    placed = device.place(models.build("resnet", (1, 8, 8), 5, settings), CPU)
    weights = [module.weight for module in placed.modules() if isinstance(module, torch.nn.Conv2d)]
    assert not all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    for _ in range(30):
        placed(torch.randn(32, 1, 8, 8)).square().mean().backward()
