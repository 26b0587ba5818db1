"""The fourteen image operations that RandAugment and TrivialAugment choose from.

n images of one operation, each with a magnitude of its own; kornia's policies draw one operation
for a whole batch, so that its plain functions are used instead. Checked against Pillow.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

Operation = Literal[
    "identity",
    "auto_contrast",
    "equalize",
    "solarize",
    "posterize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class Ranges:
    """The largest change that each operation makes."""

    shear: float
    """Pixels moved for each pixel away from the middle."""
    translate: float
    """Pixels."""
    rotate: float
    """Degrees."""
    enhance: float
    """Distance from 1 of the factor of colour, contrast, brightness and sharpness."""
    fewest_bits: int
    """Left by posterize."""


def magnitudes(
    operation: Operation, strengths: torch.Tensor, signs: torch.Tensor, ranges: Ranges
) -> torch.Tensor:
    """What `operate` takes, for strengths [n] in [0, 1] and signs [n] of -1 or 1.

    Strength 0 changes nothing, but for auto_contrast and equalize, which know no strength.
    """
    match operation:
        case "identity" | "auto_contrast" | "equalize":
            return strengths
        case "solarize":
            # Above the largest pixel at strength 0.
            return 256 / 255 * (1 - strengths)
        case "posterize":
            return (8 - strengths * (8 - ranges.fewest_bits)).round()
        case "color" | "contrast" | "brightness" | "sharpness":
            return 1 + signs * strengths * ranges.enhance
        case "rotate":
            return signs * strengths * ranges.rotate
        case "shear_x" | "shear_y":
            return signs * strengths * ranges.shear
        case "translate_x" | "translate_y":
            return signs * strengths * ranges.translate


def operate(x: torch.Tensor, operation: Operation, magnitude: torch.Tensor) -> torch.Tensor:
    """One operation on images float32 [n, C, H, W] in [0, 1], C 1 or 3; the same range out.

    Args:
        x: the images.
        operation: which. Colour changes nothing in grey images.
        magnitude: float32 [n]. Solarize: the threshold in [0, 1] from which pixels are inverted;
            posterize: the bits that are left; colour, contrast, brightness, sharpness: Pillow's
            factor, 1 changes nothing; rotate: degrees, counter-clockwise; shear: pixels for each
            pixel; translate: pixels, to the right and down. What comes into view is black.
    """
    from kornia import enhance

    match operation:
        case "identity":
            return x
        case "auto_contrast":
            return _auto_contrast(x)
        case "equalize":
            return enhance.equalize(x)
        case "solarize":
            return torch.where(x < magnitude.view(-1, 1, 1, 1), x, 1 - x)
        case "posterize":
            return _posterize(x, magnitude)
        case "color":
            return enhance.adjust_saturation_with_gray_subtraction(x, magnitude)
        case "contrast":
            return enhance.adjust_contrast_with_mean_subtraction(x, magnitude)
        case "brightness":
            return enhance.adjust_brightness_accumulative(x, magnitude)
        case "sharpness":
            return enhance.sharpness(x, magnitude)
        case _:
            return _warp(x, operation, magnitude)


def _auto_contrast(x: torch.Tensor) -> torch.Tensor:
    # kornia's makes a channel of one value black; here it stays.
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def _posterize(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    # kornia's truncates x * 255, which float32 may leave just below a whole level.
    step = torch.exp2(8 - bits).view(-1, 1, 1, 1)
    return ((x * 255).round() / step).floor() * step / 255


def _warp(x: torch.Tensor, operation: Operation, magnitude: torch.Tensor) -> torch.Tensor:
    from kornia.geometry.transform import warp_affine

    height, width = x.shape[2:]
    center = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=x.device)
    linear = torch.eye(2, device=x.device).repeat(len(x), 1, 1)
    shift = torch.zeros(len(x), 2, device=x.device)
    match operation:
        case "rotate":
            # Rows count downwards: counter-clockwise to the eye is -angle in (x, y).
            cos, sin = torch.cos(magnitude.deg2rad()), torch.sin(magnitude.deg2rad())
            linear = torch.stack([cos, sin, -sin, cos], dim=1).view(-1, 2, 2)
        case "shear_x":
            linear[:, 0, 1] = magnitude
        case "shear_y":
            linear[:, 1, 0] = magnitude
        case "translate_x":
            shift[:, 0] = magnitude
        case _:
            shift[:, 1] = magnitude
    # The middle of the image stays where it is, but for the shift.
    offset = center + shift - linear @ center
    return warp_affine(x, torch.cat([linear, offset[:, :, None]], dim=2), (height, width))
