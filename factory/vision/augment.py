"""Random changes to a batch of images, different for each image and a function of a seed.

N images, C channels, H height, W width.
"""

import torch
import torch.nn.functional as F

from factory.seeds import stream
from factory.spec import Augmentation
from factory.vision.operations import OPERATIONS, Ranges, magnitudes, operate

_NUM_OPERATIONS, _STRENGTH, _LEVELS = 2, 10, 30


def augment(x: torch.Tensor, augmentation: Augmentation, *, seed: int) -> torch.Tensor:
    """Change a batch of images float32 [N, C, H, W] in [-1, 1], C 1 or 3, on their own device.

    `flip`: left and right, half of the images. `crop`: moved by up to an eighth of each side (4 px
    at 32 px) in both directions; what comes into view is black. `flip_crop`: both. `randaugment`
    (Cubuk et al. 2020, arXiv 1909.13719): two of fourteen operations, at strength 10 of 30, with
    AutoAugment's ranges (arXiv 1805.09501, table 6). `trivialaugment` (Mueller and Hutter 2021,
    arXiv 2103.10158): one of them, at a strength from 0 to 30, with that paper's wide ranges.

    All random numbers are drawn on the CPU from `seed`, so every device makes the same changes.

    Returns:
        Images of the same shape and range; `x` itself for `none`.
    """
    match augmentation:
        case "none":
            return x
        case "flip" | "crop" | "flip_crop":
            return _move(x, crop="crop" in augmentation, flip="flip" in augmentation, seed=seed)
        case "randaugment":
            ranges = Ranges(
                shear=0.3,
                translate=150 / 331 * x.shape[3],
                rotate=30.0,
                enhance=0.9,
                fewest_bits=4,
            )
            return _operate(x, ranges, rounds=_NUM_OPERATIONS, strength=_STRENGTH, seed=seed)
        case "trivialaugment":
            ranges = Ranges(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, fewest_bits=2)
            return _operate(x, ranges, rounds=1, strength=None, seed=seed)


def _move(x: torch.Tensor, *, crop: bool, flip: bool, seed: int) -> torch.Tensor:
    n, _, height, width = x.shape
    down, right = (height // 8, width // 8) if crop else (0, 0)
    # The order of the draws is part of what a seed means: rows, columns, flips.
    generator = stream(seed)
    top = torch.randint(2 * down + 1, (n, 1), generator=generator)
    left = torch.randint(2 * right + 1, (n, 1), generator=generator)
    flipped = torch.randint(2, (n, 1), generator=generator).bool() & flip
    rows = top + torch.arange(height)
    columns = torch.arange(width).expand(n, -1)
    columns = left + torch.where(flipped, columns.flip(1), columns)
    padded_width = width + 2 * right
    places = rows[:, :, None] * padded_width + columns[:, None, :]
    places += torch.arange(n)[:, None, None] * (height + 2 * down) * padded_width
    padded = F.pad(x, (right, right, down, down), value=-1.0)
    # One index over all pixels, channels together: the fastest on a CPU, and channels-last.
    pixels = padded.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    moved = pixels.index_select(0, places.flatten().to(x.device))
    return moved.view(n, height, width, -1).permute(0, 3, 1, 2)


def _operate(
    x: torch.Tensor, ranges: Ranges, *, rounds: int, strength: int | None, seed: int
) -> torch.Tensor:
    generator = stream(seed)
    # Contiguous: kornia reshapes, and the images are changed in place below.
    x = ((x + 1) / 2).contiguous(memory_format=torch.contiguous_format)
    for _ in range(rounds):
        # The order of the draws is part of what a seed means: operations, signs, strengths.
        chosen = torch.randint(len(OPERATIONS), (len(x),), generator=generator)
        signs = torch.randint(2, (len(x),), generator=generator) * 2.0 - 1
        strengths = torch.randint(_LEVELS + 1, (len(x),), generator=generator) / _LEVELS
        if strength is not None:
            strengths = torch.full_like(strengths, strength / _LEVELS)
        for index, operation in enumerate(OPERATIONS):
            members = (chosen == index).nonzero().flatten()
            if len(members) == 0:
                continue
            magnitude = magnitudes(operation, strengths[members], signs[members], ranges)
            members = members.to(x.device)
            x[members] = operate(x[members], operation, magnitude.to(x.device))
    return (x * 2 - 1).clamp(-1, 1)
