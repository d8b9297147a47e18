import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from src import memory
from src.augment import width
from src.data.batches import ALIGNED, TRIM_EVERY, Batches, balanced, generator_of, read_rows, shuffled

ROWS = st.integers(1, 200)
SIZES = st.integers(1, 60)
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(1, 10_000)


def order_of(length, seed, epoch):
    return shuffled(length, generator_of(seed, epoch))


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
    first = order_of(50, seed, epoch)
    torch.manual_seed(epoch)  # the program's own draws do not matter
    torch.rand(3)
    batches = numbered(50, 7, seed)
    list(batches.epoch(epoch + 1))  # nor does what was asked before
    assert torch.cat([targets for _, targets in batches.epoch(epoch)]).tolist() == first.tolist()
    assert first.tolist() != order_of(50, seed, epoch + 1).tolist()
    assert first.tolist() != order_of(50, (seed + 1) % 2**32, epoch).tolist()


def test_seed_and_epoch_do_not_stand_in_for_each_other():
    orders = {tuple(order_of(20, seed, epoch).tolist()) for seed in range(30) for epoch in range(1, 31)}
    assert len(orders) == 900


def test_drawing_an_order_leaves_the_programs_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(numbered(20, 4).epoch(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_sample_comes_in_every_place():
    places = torch.stack([order_of(8, 0, epoch) for epoch in range(1, 201)])
    for sample in range(8):
        assert (places == sample).any(0).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), SEEDS, EPOCHS)
def test_a_balanced_epoch_draws_from_every_class_alike(targets, seed, epoch):
    targets = torch.tensor(targets)
    order = balanced(targets, generator_of(seed, epoch))
    assert len(order) == len(targets)
    assert order.tolist() == balanced(targets, generator_of(seed, epoch)).tolist()
    assert set(order.tolist()) <= set(range(len(targets)))


def test_a_balanced_epoch_shows_a_rare_class_as_often():
    targets = torch.tensor([0] * 990 + [1] * 10)
    batches = Batches(torch.arange(1000.0)[:, None], targets, 100, balance=True)
    seen = torch.cat([own for _, own in batches.epoch(1)])
    assert 400 < seen.sum() < 600
    rare = torch.cat([inputs for inputs, _ in batches.epoch(1)])[seen == 1]
    assert len(rare.unique()) == 10  # all of them, not one again and again


def test_images_are_changed_in_training_alone_and_the_same_way_again():
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=generator_of(0, 0))
    strengths = {"flip": 0.5, "crop": 2, "rotate": 10.0, "erase": 0.5}
    plain = Batches(images, torch.arange(30), 7, seed=3, scale=(100.0, 50.0))
    changed = Batches(images, torch.arange(30), 7, seed=3, scale=(100.0, 50.0), strengths=strengths)
    epochs = [torch.cat([inputs for inputs, _ in batches.epoch(2)]) for batches in (plain, changed, changed)]
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[1], epochs[2])
    assert not torch.equal(epochs[1], torch.cat([inputs for inputs, _ in changed.epoch(3)]))
    order = [torch.cat([targets for _, targets in batches.epoch(2)]) for batches in (plain, changed)]
    assert torch.equal(order[0], order[1])
    for inputs, wanted in zip(plain, changed, strict=True):
        assert torch.equal(inputs[0], wanted[0])


def test_without_strength_there_is_nothing_to_draw():
    none = dict.fromkeys(("flip", "crop", "rotate", "erase"), 0.0)
    assert Batches(torch.zeros(4, 1, 2, 2), torch.zeros(4), 2, strengths=none).strengths is None
    assert width() == 9


@given(ROWS, SIZES, SEEDS, st.integers(1, 2000))
def test_streamed_batches_are_those_of_data_on_the_device(rows, size, seed, chunk):
    resident, streamed = numbered(rows, size, seed), numbered(rows, size, seed)
    assert not resident.streamed
    streamed.streamed = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.data.batches.CHUNK", chunk)
        for one, other in zip([*resident.epoch(3), *resident], [*streamed.epoch(3), *streamed], strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


@given(ROWS, SIZES, SEEDS, st.integers(1, 2000), st.data())
def test_the_rest_of_an_epoch_is_the_end_of_the_whole_one(rows, size, seed, gathered, data):
    batches = numbered(rows, size, seed)
    skip = data.draw(st.integers(0, len(batches)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.data.batches.GATHER", gathered)
        whole, rest = list(batches.epoch(3)), list(numbered(rows, size, seed).epoch(3, skip))
    assert len(rest) == len(whole) - skip
    for one, other in zip(whole[skip:], rest, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize(("rows", "size", "again"), [(500, 64, True), (500, 5, False), (200_000, 64, False)])
def test_an_epoch_that_is_gathered_at_once_lies_where_the_one_before_did(rows, size, again):
    batches = numbered(rows, size)
    first, second = list(batches.epoch(1)), list(batches.epoch(2))
    assert all((one[0].data_ptr() == other[0].data_ptr()) == again for one, other in zip(first, second, strict=True))
    assert torch.cat([targets for _, targets in second]).tolist() == order_of(rows, 0, 2).tolist()


def test_an_epoch_is_gathered_when_its_first_batch_is_asked_for():
    batches = numbered(100, 8)
    (_, kept), *_ = batches.epoch(1)
    first = kept.tolist()
    second = batches.epoch(2)
    assert kept.tolist() == first
    next(second)
    assert kept.tolist() != first


@pytest.mark.parametrize("columns", [1, 3, 13, 16, 64])
@pytest.mark.parametrize("size", [5, 32, 64])
def test_a_batch_begins_where_one_that_is_gathered_alone_would(columns, size):
    batches = Batches(torch.rand(500, columns), torch.zeros(500), size)
    assert all(inputs.data_ptr() % ALIGNED == 0 for inputs, _ in batches.epoch(1))


@pytest.mark.parametrize("gathered", [1, 300, 2000, 1 << 20])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 5), (7,)])
@pytest.mark.parametrize("balance", [False, True])
def test_images_scaled_a_batch_at_a_time_are_those_scaled_ahead(monkeypatch, gathered, shape, balance):
    monkeypatch.setattr("src.data.batches.GATHER", gathered)
    images = torch.randint(0, 256, (50, *shape), dtype=torch.uint8, generator=generator_of(0, 0))
    made = {"targets": torch.arange(50) % 3, "size": 8, "scale": (100.0, 50.0), "balance": balance}
    ahead = Batches(images, **made)
    monkeypatch.setattr("src.data.batches.SCALE_AHEAD", 0)
    each, streamed = Batches(images, **made), Batches(images, **made, fits=False)
    assert (ahead.inputs.dtype, each.inputs.dtype) == (torch.float32, torch.uint8)
    torch.testing.assert_close(ahead.inputs, (images - 100.0) / 50.0)
    assert each._kept is None  # bytes are scaled by one formula however they come

    def all_of(batches):
        return [*(tuple(part.clone() for part in batch) for batch in batches.epoch(2)), *batches, *batches.epoch(2, 3)]

    assert not list(each.epoch(2, len(each)))
    for one, *others in zip(all_of(ahead), all_of(each), all_of(streamed), strict=True):
        for other in others:
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_augmented_images_are_the_same_scaled_ahead_or_a_batch_at_a_time(monkeypatch):
    images = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8, generator=generator_of(0, 0))
    strengths = {"flip": 0.5, "crop": 1, "rotate": 0.0, "erase": 0.5}
    ahead = Batches(images, torch.arange(50), 8, scale=(100.0, 50.0), strengths=strengths)
    monkeypatch.setattr("src.data.batches.SCALE_AHEAD", 0)
    each = Batches(images, torch.arange(50), 8, scale=(100.0, 50.0), strengths=strengths)
    for one, other in zip([*ahead.epoch(2), *ahead], [*each.epoch(2), *each], strict=True):
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize("size", [100, 300])
def test_an_epoch_that_is_large_is_not_kept_even_as_one_batch(monkeypatch, size):
    monkeypatch.setattr("src.data.batches.GATHER", 1000)
    batches = numbered(300, size)
    list(batches.epoch(1))
    assert batches._kept is None


def in_a_file(folder, rows=20_000, columns=40):
    """Inputs [rows, columns] of a file that is mapped into memory, as prepared data is."""
    save_file({"inputs": torch.rand(rows, columns)}, folder / "x.safetensors")
    return load_file(folder / "x.safetensors")["inputs"]


def resident_bytes(values):
    """Of the mapping that a tensor lies in, as the system counts them."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        span = line.split()[0]
        if "-" in span and int(span.split("-")[0], 16) <= values.data_ptr() < int(span.split("-")[1], 16):
            return next(int(each.split()[1]) * 1024 for each in lines if each.startswith("Rss:"))
    raise AssertionError("it lies in no mapping")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is not told what is wanted no more")
def test_rows_of_a_file_are_read_and_none_of_it_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.batches.REGION", 1 << 16)
    inputs = in_a_file(tmp_path)
    whole = inputs.clone()
    assert resident_bytes(inputs) > inputs.nbytes / 2
    rows = torch.randperm(len(inputs))[:5000].sort().values
    assert torch.equal(read_rows(inputs, rows), whole[rows])
    assert resident_bytes(inputs) < inputs.nbytes / 20
    assert torch.equal(read_rows(inputs, torch.arange(len(inputs))), whole)
    assert torch.equal(inputs, whole)  # it can be read again


def test_a_stream_of_what_is_in_no_file_leaves_it_there():
    inputs, targets = torch.rand(5000, 40), torch.arange(5000)
    copies = inputs.clone(), targets.clone()
    streamed = Batches(inputs, targets, 64, fits=False)
    for part, seen, copy in zip((inputs, targets), zip(*streamed, strict=True), copies, strict=True):
        assert torch.equal(torch.cat(seen), copy)
        assert torch.equal(part, copy)


def test_a_file_that_does_not_fit_gives_the_batches_that_it_would(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.batches.REGION", 1 << 16)
    monkeypatch.setattr("src.data.batches.CHUNK", 1 << 18)
    inputs, targets = in_a_file(tmp_path), torch.arange(20_000)
    resident = Batches(inputs.clone(), targets.clone(), 128, seed=5)
    streamed = Batches(inputs, targets, 128, seed=5, fits=False)
    for one, other in zip([*resident.epoch(2, 3), *resident], [*streamed.epoch(2, 3), *streamed], strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert torch.equal(targets, torch.arange(20_000))  # it lies in no file


def test_inputs_and_targets_of_a_file_are_streamed_and_given_back(tmp_path, monkeypatch):
    released, release = [], memory.release
    monkeypatch.setattr("src.data.batches.memory.release", lambda *span: released.append(span) or release(*span))
    monkeypatch.setattr("src.data.batches.REGION", 1 << 16)
    monkeypatch.setattr("src.data.batches.CHUNK", 1 << 18)
    parts = {"rows": torch.arange(20_000), "targets": torch.arange(20_000), "inputs": torch.rand(20_000, 40)}
    save_file(parts, tmp_path / "x.safetensors")
    mapped = load_file(tmp_path / "x.safetensors")
    streamed = Batches(mapped["inputs"], mapped["targets"], 128, seed=5, fits=False)
    for (inputs, targets), (wanted, numbers) in zip(
        streamed.epoch(1), Batches(parts["inputs"], parts["targets"], 128, seed=5).epoch(1), strict=True
    ):
        assert torch.equal(inputs, wanted)
        assert torch.equal(targets, numbers)
    assert {mapped["inputs"].data_ptr(), mapped["targets"].data_ptr()} <= {start for start, _ in released}
    assert all(torch.equal(mapped[name], part) for name, part in parts.items())  # they can be read again


def test_freed_memory_is_given_back_now_and_then_in_a_stream(monkeypatch):
    trims = []
    monkeypatch.setattr("src.data.batches.memory.trim", lambda: trims.append(1))
    monkeypatch.setattr("src.data.batches.CHUNK", 1000)
    batches = numbered(6000, 4)
    batches.streamed = True
    for _ in batches.epoch(1):
        pass
    assert 4 <= len(trims) <= 1500 / TRIM_EVERY


def test_an_epoch_of_a_stream_can_be_left(monkeypatch):
    monkeypatch.setattr("src.data.batches.CHUNK", 64)
    batches = numbered(1000, 4)
    batches.streamed = True
    epoch = batches.epoch(1)
    next(epoch)
    epoch.close()
    assert len([*batches.epoch(1)]) == 250


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_stream_to_a_gpu_brings_what_lies_on_the_cpu():
    on_cpu = numbered(1000, 64)
    streamed = Batches(on_cpu.inputs, on_cpu.targets, 64, device=torch.device("cuda"), fits=False)
    assert streamed.streamed
    for one, other in zip(on_cpu.epoch(1), streamed.epoch(1), strict=True):
        assert torch.equal(one[0], other[0].cpu())
        assert torch.equal(one[1], other[1].cpu())
