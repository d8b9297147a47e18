import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from src import fused

PAIRS = {
    "sgd": (lambda w: fused.SGD(w, 0.1, 0.0), lambda w: torch.optim.SGD(w, 0.1, fused=True)),
    "momentum": (
        lambda w: fused.SGD(w, 0.1, 0.9, 0.01),
        lambda w: torch.optim.SGD(w, 0.1, 0.9, weight_decay=0.01, fused=True),
    ),
    "adam": (lambda w: fused.Adam(w, 0.01, (0.8, 0.99)), lambda w: torch.optim.Adam(w, 0.01, (0.8, 0.99), fused=True)),
    "adamw": (
        lambda w: fused.AdamW(w, 0.01, weight_decay=0.1),
        lambda w: torch.optim.AdamW(w, 0.01, weight_decay=0.1, fused=True),
    ),
}
OWN = {name: pair[0] for name, pair in PAIRS.items()}


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def train(model, optimizer, steps=12):
    torch.manual_seed(1)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(16, 6, dtype=dtype)), torch.randint(3, (16,)))
        loss.backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_weights_are_those_of_torch_to_the_last_bit(name, dtype):
    own, torchs = (train(model := network(dtype), build(model.parameters())) for build in PAIRS[name])
    assert torch.equal(own, torchs)


@pytest.mark.parametrize("name", OWN)
def test_what_has_no_gradient_stays(name):
    model = network()
    model[0].weight.requires_grad_(False)
    unused = nn.Parameter(torch.ones(3))
    before = model[0].weight.clone()
    own = train(model, OWN[name]([*model.parameters(), unused]))
    assert torch.equal(model[0].weight, before)
    assert torch.equal(unused, torch.ones(3))
    assert not torch.equal(own[48:], train(network(), OWN[name](network().parameters()))[48:])


@pytest.mark.parametrize("name", OWN)
def test_a_step_without_any_gradient_does_nothing(name):
    model = network()
    before = model[2].weight.clone()
    optimizer = OWN[name](model.parameters())
    optimizer.step()
    assert torch.equal(model[2].weight, before)
    assert optimizer.state_dict()["step_count"] == 0


@pytest.mark.parametrize("name", OWN)
def test_training_goes_on_from_a_state(name):
    whole = network()
    at_once = train(whole, OWN[name](whole.parameters()), steps=12)
    first, second = network(), network()
    optimizer = OWN[name](first.parameters())
    train(first, optimizer, steps=12)
    other = OWN[name](second.parameters())
    other.load_state_dict(optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert torch.equal(train(first, optimizer, steps=3), train(second, other, steps=3))
    assert not torch.equal(train(first, optimizer, steps=0), at_once)


def test_a_state_of_another_network_is_refused():
    small, large = fused.Adam(nn.Linear(2, 2).parameters(), 0.1), fused.Adam(nn.Linear(3, 2).parameters(), 0.1)
    with pytest.raises(ValueError, match=r"exp_avg of shape \[2, 3\] for a parameter of \[2, 2\]"):
        small.load_state_dict(large.state_dict())
    with pytest.raises(KeyError, match="exp_avg"):
        small.load_state_dict(fused.SGD(nn.Linear(2, 2).parameters(), 0.1, 0.9).state_dict())


@pytest.mark.parametrize("name", PAIRS)
def test_a_gradient_scaler_changes_nothing_but_rounding_and_skips_what_is_infinite(name):
    plain, scaled = network(torch.float64), network(torch.float64)
    optimizers = OWN[name](plain.parameters()), OWN[name](scaled.parameters())
    scaler = GradScaler("cpu", init_scale=1024.0)
    inputs, targets = torch.randn(16, 6, dtype=torch.float64), torch.randint(3, (16,))
    for bad in (False, True, False):
        for model, optimizer in zip((plain, scaled), optimizers, strict=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            if model is plain and not bad:
                loss.backward()
                optimizer.step()
            if model is scaled:
                scaler.scale(loss * (torch.inf if bad else 1)).backward()
                scaler.step(optimizer)
                scaler.update()
    for own, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.allclose(own, other, rtol=1e-12)
    assert scaler.get_scale() == 512.0
