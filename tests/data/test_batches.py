import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data.batches import Batches, permutation

ROWS = st.integers(1, 200)
SIZES = st.integers(1, 60)
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(1, 10_000)


def numbered(rows, size, seed=0):
    """Batches of samples that can be told apart: the input of sample n is [n, n], its target n."""
    numbers = torch.arange(rows)
    return Batches(numbers.float()[:, None].repeat(1, 2), numbers, size, seed)


@given(ROWS, SIZES, SEEDS, EPOCHS)
def test_an_epoch_has_every_sample_once_with_its_own_target(rows, size, seed, epoch):
    seen = []
    for inputs, targets in numbered(rows, size, seed).epoch(epoch):
        assert inputs.shape == (len(targets), 2)
        assert torch.equal(inputs[:, 0], targets.float())
        seen += targets.tolist()
    assert sorted(seen) == list(range(rows))


@given(ROWS, SIZES)
def test_evaluation_has_every_sample_once_in_the_order_of_the_rows(rows, size):
    batches = numbered(rows, size)
    assert torch.cat([targets for _, targets in batches]).tolist() == list(range(rows))
    assert torch.cat([inputs for inputs, _ in batches])[:, 0].tolist() == list(range(rows))


@given(ROWS, SIZES, SEEDS, EPOCHS)
def test_batches_are_full_but_the_last_and_none_is_of_one(rows, size, seed, epoch):
    batches = numbered(rows, size, seed)
    for sizes in ([len(targets) for _, targets in batches], [len(targets) for _, targets in batches.epoch(epoch)]):
        assert len(sizes) == len(batches)
        assert sum(sizes) == rows
        assert all(count == size for count in sizes[:-1])
        assert min(2, rows) <= sizes[-1] <= size + 1


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (14, 4, [4, 4, 4, 2]),
        (13, 4, [4, 4, 5]),
        (5, 4, [5]),
        (3, 4, [3]),
        (1, 4, [1]),
        (2, 1, [2]),
        (3, 1, [1, 2]),
    ],
)
def test_a_ragged_last_batch_is_kept_and_a_single_sample_joins_the_batch_before(rows, size, sizes):
    assert [len(targets) for _, targets in numbered(rows, size)] == sizes


@given(SEEDS, EPOCHS)
def test_the_order_is_a_function_of_seed_and_epoch_alone(seed, epoch):
    first = permutation(50, seed, epoch)
    torch.manual_seed(epoch)  # the program's own draws do not matter
    torch.rand(3)
    batches = numbered(50, 7, seed)
    list(batches.epoch(epoch + 1))  # nor does what was asked before
    assert torch.cat([targets for _, targets in batches.epoch(epoch)]).tolist() == first.tolist()
    assert first.tolist() != permutation(50, seed, epoch + 1).tolist()
    assert first.tolist() != permutation(50, (seed + 1) % 2**32, epoch).tolist()


def test_seed_and_epoch_do_not_stand_in_for_each_other():
    orders = {tuple(permutation(20, seed, epoch).tolist()) for seed in range(30) for epoch in range(1, 31)}
    assert len(orders) == 900


def test_drawing_an_order_leaves_the_programs_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(numbered(20, 4).epoch(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_sample_comes_in_every_place():
    places = torch.stack([permutation(8, 0, epoch) for epoch in range(1, 201)])
    for sample in range(8):
        assert (places == sample).any(0).all()
