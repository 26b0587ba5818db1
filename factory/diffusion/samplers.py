"""The factory's own loops over noise levels, with a row of sigma for every image.

diffusers' schedulers move a whole batch through one list of levels; these loops let each image
start at its own. N samples, C channels, H height, W width, S steps.
"""

from collections.abc import Callable

import torch

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(x [N, C, H, W], sigma [N]) -> denoised [N, C, H, W]."""

Loop = Callable[[Denoiser, torch.Tensor, torch.Tensor], torch.Tensor]
"""`euler` or `heun`."""


def karras_sigmas(
    num_steps: int, *, sigma_min: float, sigma_max: float, rho: float
) -> torch.Tensor:
    """Noise levels from `sigma_max` down to `sigma_min`, then 0: float64 [S + 1].

    Karras et al. 2022, Eq. 5. One step goes from `sigma_max` straight to 0.
    """
    steps = torch.arange(num_steps, dtype=torch.float64) / max(num_steps - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (high + steps * (low - high)) ** rho
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])


def euler(denoiser: Denoiser, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Euler's method on the probability-flow ODE dx/dsigma = (x - D(x; sigma)) / sigma.

    Args:
        denoiser: D.
        x: images at noise level `sigmas[:, 0]`, [N, C, H, W].
        sigmas: float64 [N, S + 1], falling along each row; equal neighbours leave an image alone,
            and cost nothing where all images have them.

    Returns:
        Images at level `sigmas[:, -1]`, in the dtype of `x`. S network evaluations.
    """
    return _integrate(denoiser, x, sigmas, second_order=False)


def heun(denoiser: Denoiser, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Heun's method (Karras et al. 2022, Algorithm 1): as `euler`, of second order.

    A step that ends at sigma 0 stays Euler's, so rows that end at 0 cost 2 S - 1 evaluations.
    """
    return _integrate(denoiser, x, sigmas, second_order=True)


def _integrate(
    denoiser: Denoiser, x: torch.Tensor, sigmas: torch.Tensor, *, second_order: bool
) -> torch.Tensor:
    state = x.double()
    for now, then in zip(sigmas.T[:-1], sigmas.T[1:], strict=True):
        if bool((then == now).all()):
            continue
        step = _column(then - now)
        slope = _slope(denoiser, state, now, x.dtype)
        ahead = state + step * slope
        corrects = then > 0
        if second_order and bool(corrects.any()):
            # Images that already stand at 0 have no slope there: theirs is replaced, not computed.
            level = torch.where(corrects, then, torch.ones_like(then))
            slope_ahead = _slope(denoiser, ahead, level, x.dtype)
            mean = (slope + slope_ahead) / 2
            ahead = torch.where(_column(corrects), state + step * mean, ahead)
        state = ahead
    return state.to(x.dtype)


def _slope(
    denoiser: Denoiser, x: torch.Tensor, sigma: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    # An image whose row has already reached 0 moves by a step of 0, whatever its slope.
    level = torch.where(sigma > 0, sigma, torch.ones_like(sigma))
    denoised = denoiser(x.to(dtype), level.to(dtype)).double()
    return (x - denoised) / _column(level)


def _column(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)
