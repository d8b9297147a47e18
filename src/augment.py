"""Augmentation: random changes to training images, on their device, in a sequence that (seed, epoch) decides.

Each change maps (images, draws, strength) to images, float32 [N, channels, height, width], in which 0 is the mean of
all pixels. `draws` are uniform in [0, 1), as many a sample as the entry says; 0 strength changes nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

Change = Callable[[Tensor, Tensor, float], Tensor]


class Augmentation(NamedTuple):
    change: Change
    draws: int


def width() -> int:
    """Random numbers a sample needs."""
    return sum(entry.draws for entry in AUGMENTATIONS.values())


def augment(images: Tensor, draws: Tensor, strengths: dict[str, float]) -> Tensor:
    """Every change of `strengths` in turn; draws: [N, width()]. What a change draws does not depend on the others."""
    start = 0
    for name, entry in AUGMENTATIONS.items():
        own = draws[:, start : start + entry.draws]
        start += entry.draws
        if strengths[name]:
            images = entry.change(images, own, strengths[name])
    return images


def flip(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """Left to right, that share of the images."""
    return torch.where((draws[:, 0] < share).view(-1, 1, 1, 1), images.flip(-1), images)


def crop(images: Tensor, draws: Tensor, pixels: float) -> Tensor:
    """Shifted by up to so many pixels each way; the border is repeated: padding and a random crop in one step."""
    height, width = images.shape[-2:]
    down, right = ((draws * (2 * pixels + 1)).long() - int(pixels)).unbind(1)
    rows = (torch.arange(height, device=images.device) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + right[:, None]).clamp(0, width - 1)
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def rotate(images: Tensor, draws: Tensor, degrees: float) -> Tensor:
    """Turned by up to so many degrees either way, bilinear; the border is repeated."""
    height, width = images.shape[-2:]
    angle = (2 * draws[:, 0] - 1) * math.radians(degrees)
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    # affine_grid counts in halves of the image: an angle in pixels needs the sides' ratio
    matrix = torch.stack([cosine, -sine * height / width, zero, sine * width / height, cosine, zero], 1).view(-1, 2, 3)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def erase(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """A box of 2 to 33% of the area, sides 1:3 to 3:1, set to 0, in that share of the images (Zhong et al. 2020: random
    erasing)."""
    height, width = images.shape[-2:]
    area = (0.02 + 0.31 * draws[:, 1]) * height * width
    ratio = torch.exp((2 * draws[:, 2] - 1) * math.log(3))
    tall, wide = (area * ratio).sqrt().clamp(1, height).round(), (area / ratio).sqrt().clamp(1, width).round()
    inside = []
    for length, side, draw in ((height, tall, draws[:, 3]), (width, wide, draws[:, 4])):
        first = (draw * (length - side + 1)).floor()
        places = torch.arange(length, device=images.device)
        inside.append((places >= first[:, None]) & (places < (first + side)[:, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :] & (draws[:, 0] < share).view(-1, 1, 1)
    return images.masked_fill(box[:, None], 0.0)


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": Augmentation(flip, 1),
    "crop": Augmentation(crop, 2),
    "rotate": Augmentation(rotate, 1),
    "erase": Augmentation(erase, 5),
}
