"""Pixel diffusion with EDM preconditioning, in diffusers' folder format.

Symbols follow Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(2022): x noisy image, sigma noise level, D denoised image, F raw network.
N samples, C channels, H height, W width, K classes.
"""

from typing import Unpack

import torch
from diffusers import EDMEulerScheduler

from factory.diffusion.pixel import Facts, PixelPipeline, Raw, assemble
from factory.spec import DenoiserShape

SIGMA_DATA = 0.5
"""Standard deviation of images in [-1, 1] that EDM's preconditioning assumes."""


class EdmPipeline(PixelPipeline):
    """A pixel model with EDM preconditioning; `PixelPipeline` says what its folder holds."""


def new_pipeline(shape: DenoiserShape, **facts: Unpack[Facts]) -> EdmPipeline:
    """An untrained model; see `assemble`."""
    return assemble(EdmPipeline, EDMEulerScheduler(sigma_data=SIGMA_DATA), shape, **facts)


def denoise(
    network: Raw, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor | None
) -> torch.Tensor:
    """D(x; sigma) of EDM, Eq. 7 with the coefficients of its Table 1.

    Args:
        network: F.
        x: noisy images, float32 [N, C, H, W].
        sigma: noise level of each image, float32 [N].
        labels: int64 [N], K the null class; None: of an unconditional model.

    Returns:
        float32 [N, C, H, W], about [-1, 1].
    """
    level = sigma.view(-1, 1, 1, 1)
    total = level**2 + SIGMA_DATA**2
    c_skip = SIGMA_DATA**2 / total
    c_out = level * SIGMA_DATA / total.sqrt()
    raw = network(x / total.sqrt(), sigma.log() / 4, labels)
    return c_skip * x + c_out * raw.float()
