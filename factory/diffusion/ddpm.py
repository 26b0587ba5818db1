"""Pixel diffusion along a discrete chain, its network predicting the noise, in diffusers' format.

Symbols follow Ho et al., "Denoising Diffusion Probabilistic Models" (2020): beta_t variance that
step t adds, T number of steps. t counts as diffusers has it, 0 to T - 1; the papers' t = 1 to T is
one more.
"""

from typing import Literal, Unpack

from diffusers import DDPMScheduler

from factory.diffusion.pixel import Facts, PixelPipeline, assemble
from factory.spec import DenoiserShape


class DdpmPipeline(PixelPipeline):
    """A pixel model that predicts the noise; `PixelPipeline` says what its folder holds.

    `scheduler` is the chain that it was trained on (see `new_chain`), a DDPMScheduler.
    """


def new_chain(
    num_train_timesteps: int,
    beta_schedule: Literal["linear", "cosine"],
    *,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
) -> DDPMScheduler:
    """The chain q(x_t | x_(t-1)) = N(sqrt(1 - beta_t) x_(t-1), beta_t I).

    Args:
        num_train_timesteps: T.
        beta_schedule: `linear` from `beta_start` to `beta_end` (Ho et al. 2020, section 4), or
            `cosine`, which needs neither (Nichol and Dhariwal 2021, Eq. 17).
        beta_start: first beta.
        beta_end: last beta.
    """
    return DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_schedule="squaredcos_cap_v2" if beta_schedule == "cosine" else "linear",
        beta_start=beta_start,
        beta_end=beta_end,
        prediction_type="epsilon",
        clip_sample=False,
    )


def new_pipeline(
    shape: DenoiserShape, chain: DDPMScheduler, **facts: Unpack[Facts]
) -> DdpmPipeline:
    """An untrained model of `chain`; see `assemble`."""
    return assemble(DdpmPipeline, chain, shape, **facts)
