import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.augment import AUGMENTATIONS, augment, crop, erase, flip, rotate, width
from src.sections import Augment

STRONG = {"flip": 0.5, "crop": 2, "rotate": 30.0, "erase": 0.5}


def images(rows=20, channels=2, height=6, side=9, seed=0):
    return torch.rand(rows, channels, height, side, generator=torch.Generator().manual_seed(seed))


def draws(rows=20, count=9, seed=1):
    return torch.rand(rows, count, generator=torch.Generator().manual_seed(seed))


def test_every_augmentation_is_a_param_and_off_by_default():
    assert Augment().model_dump() == dict.fromkeys(AUGMENTATIONS, 0)
    assert width() == sum(entry.draws for entry in AUGMENTATIONS.values())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_change_keeps_shape_and_range_and_leaves_the_original_alone(name):
    before = images()
    strengths = {**dict.fromkeys(AUGMENTATIONS, 0), name: STRONG[name]}
    kept = before.clone()
    after = augment(before, draws(), strengths)
    assert torch.equal(before, kept)
    assert after.shape == before.shape
    assert not torch.equal(after, before)
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_sample_is_changed_by_its_own_draws_alone(name):
    strengths = {**dict.fromkeys(AUGMENTATIONS, 0), name: STRONG[name]}
    whole = augment(images(), draws(), strengths)
    alone = augment(images()[7:8], draws()[7:8], strengths)
    assert torch.allclose(whole[7:8], alone, atol=1e-6)


def test_no_strength_is_no_change():
    assert torch.equal(augment(images(), draws(), dict.fromkeys(AUGMENTATIONS, 0)), images())


def test_flip_turns_that_share_around():
    turned = flip(images(), torch.tensor([[0.2]] * 10 + [[0.8]] * 10), 0.5)
    assert torch.equal(turned[:10], images()[:10].flip(-1))
    assert torch.equal(turned[10:], images()[10:])


@given(st.integers(0, 4), st.floats(0, 0.999), st.floats(0, 0.999))
def test_crop_is_padding_and_a_crop_of_the_old_size(pixels, down, right):
    one = images(1)
    padded = torch.nn.functional.pad(one, [pixels] * 4, mode="replicate")
    row, column = (int(draw * (2 * pixels + 1)) for draw in (down, right))
    wanted = padded[:, :, row : row + 6, column : column + 9]
    own = torch.tensor([[down, right]], dtype=torch.float64)
    assert torch.equal(crop(one, own, pixels), wanted)


def test_a_quarter_turn_of_a_square_is_exact():
    square = images(side=6)
    quarter = rotate(square, torch.full((20, 1), 1.0), 90.0)
    half = rotate(square, torch.full((20, 1), 1.0), 180.0)
    assert torch.allclose(half, square.flip(-1, -2), atol=1e-4)
    assert any(torch.allclose(quarter, square.rot90(turns, (2, 3)), atol=1e-4) for turns in (1, 3))


def test_half_a_draw_is_no_turn():
    assert torch.allclose(rotate(images(), torch.full((20, 1), 0.5), 40.0), images(), atol=1e-5)


def test_erase_fills_one_box_in_every_channel():
    many = images(2000, 3, 12, 12) + 1
    erased = erase(many, draws(2000, 5), 0.5)
    gone = erased == 0
    hit = gone.flatten(1).any(1)
    assert 0.45 < hit.float().mean() < 0.55
    assert torch.equal(erased[~gone], many[~gone])
    assert torch.equal(gone[:, 0], gone[:, 2])
    rows, columns = gone[hit, 0].any(2).sum(1), gone[hit, 0].any(1).sum(1)
    assert torch.equal(rows * columns, gone[hit, 0].flatten(1).sum(1))  # a full box
    area = (rows * columns).float() / 144
    assert area.max() < 0.45
    assert area.mean() == pytest.approx(0.175, abs=0.03)
