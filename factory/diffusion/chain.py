"""The factory's own loops over a discrete noise chain, with a row of steps for every image.

diffusers' schedulers move a whole batch through one list of steps. Its DDIM besides takes steps of
T // S whatever the list says, so that it misses the clean image where S does not divide T, and its
DDPM adds noise after the last of S < T evenly spaced steps; here any S ends at the clean image.

t counts as the papers have it: 0 is the clean image and T the end of the chain, and the network is
told t - 1, which is diffusers' t. N samples, C channels, H height, W width, S steps.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

NoisePredictor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(x_t [N, C, H, W], t - 1 int64 [N]) -> predicted noise [N, C, H, W]."""

_LEAST_SIGNAL = 3.7e-5
"""abar at log(signal / noise) = -5.1, the bound that diffusers advises for the cosine chain."""


def chain_alphas(scheduler: DDPMScheduler) -> torch.Tensor:
    """abar_t, the share of the variance at t that is signal: float64 [T + 1], falling from 1."""
    clean = torch.ones(1, dtype=torch.float64)
    return torch.cat([clean, scheduler.alphas_cumprod.double()])


def chain_steps(alphas: torch.Tensor, num_steps: int) -> torch.Tensor:
    """S of the chain's T steps, evenly spaced, and 0: int64 [S + 1], falling.

    diffusers' "trailing" spacing (T, .., 2 T / S, T / S, 0) in whole numbers; in floating point it
    gives S + 1 steps now and then. Spaced from T to 1 before the 0 ("linspace"), DPM-Solver++ errs
    five times as much with 20 steps on an exactly known Gaussian, and DDIM with few steps more too.

    The first step is T, unless steps are left out and the end of the chain holds next to no signal,
    as the cosine chain's does: a long step divides by the signal and multiplies the network's
    error, so the first is then the last one that holds some.

    Raises:
        ValueError: if S is more than T.
    """
    last = len(alphas) - 1
    if num_steps > last:
        raise ValueError(
            f"num_inference_steps is {num_steps} and the model's chain has {last} steps; "
            f"give at most {last}"
        )
    some_signal = int((alphas >= _LEAST_SIGNAL).sum()) - 1
    start = some_signal if num_steps <= some_signal else last
    left = torch.arange(num_steps, -1, -1)
    return (2 * start * left + num_steps) // (2 * num_steps)


def ancestral(
    predict: NoisePredictor,
    x: torch.Tensor,
    steps: torch.Tensor,
    alphas: torch.Tensor,
    *,
    streams: Sequence[torch.Generator],
    variance: Literal["fixed_large", "fixed_small"],
) -> torch.Tensor:
    """Algorithm 2 of Ho et al. 2020 (and of lundberg2022), over any of the chain's steps.

    x_s = (x_t - beta / sqrt(1 - abar_t) epsilon) / sqrt(1 - beta) + sigma z, where
    beta = 1 - abar_t / abar_s, and z = 0 where s is 0.

    Args:
        predict: epsilon.
        x: images at t = `steps[:, 0]`, [N, C, H, W].
        steps: int64 [N, S + 1] on the CPU, falling along each row; equal neighbours leave an image
            alone.
        alphas: abar, float64 [T + 1] on the CPU.
        streams: N streams on the CPU; an image draws z from its own, once a step of its own.
        variance: sigma^2 is beta, or beta (1 - abar_s) / (1 - abar_t).

    Returns:
        Images at `steps[:, -1]`, in the dtype of `x`.
    """

    def step(
        state: torch.Tensor, epsilon: torch.Tensor, now: torch.Tensor, then: torch.Tensor
    ) -> torch.Tensor:
        beta = 1 - alphas[now] / alphas[then]
        large = variance == "fixed_large"
        added = beta if large else beta * (1 - alphas[then]) / (1 - alphas[now])
        mean = (state - _column(beta / (1 - alphas[now]).sqrt(), state) * epsilon) / _column(
            (1 - beta).sqrt(), state
        )
        return mean + _column(added.sqrt(), state) * _noise(state, (now > then) & (then > 0))

    def _noise(state: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        z = torch.zeros(state.shape)
        for image in draws.nonzero().flatten().tolist():
            z[image] = torch.randn(state.shape[1:], generator=streams[image])
        return z.to(state.device)

    return _walk(predict, x, steps, step)


def ddim(
    predict: NoisePredictor, x: torch.Tensor, steps: torch.Tensor, alphas: torch.Tensor
) -> torch.Tensor:
    """DDIM without noise (Song et al. 2021, Eq. 12 with sigma 0): as `ancestral`.

    x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s) epsilon, where x_0 is the image that epsilon leaves.
    """

    def step(
        state: torch.Tensor, epsilon: torch.Tensor, now: torch.Tensor, then: torch.Tensor
    ) -> torch.Tensor:
        noise = _column((1 - alphas[now]).sqrt(), state) * epsilon
        clean = (state - noise) / _column(alphas[now].sqrt(), state)
        ahead = _column((1 - alphas[then]).sqrt(), state) * epsilon
        return _column(alphas[then].sqrt(), state) * clean + ahead

    return _walk(predict, x, steps, step)


def multistep(
    kind: type[DPMSolverMultistepScheduler] | type[UniPCMultistepScheduler],
    chain: DDPMScheduler,
    predict: NoisePredictor,
    x: torch.Tensor,
    steps: torch.Tensor,
) -> torch.Tensor:
    """One of diffusers' multistep solvers, which draw no noise, for a whole batch.

    Args:
        kind: the solver.
        chain: the model's own scheduler, with its T and beta.
        predict: epsilon.
        x: images at t = `steps[0]`, [N, C, H, W].
        steps: int64 [S + 1] on the CPU, falling.

    Returns:
        Images at `steps[-1]`, in the dtype of `x`. S network evaluations.
    """
    solver = kind.from_config(chain.config)
    assert not isinstance(solver, tuple), "it is one only if unused settings are asked for"
    solver.set_timesteps(len(steps) - 1)
    # Ours instead of its own, which are S + 1 now and then; UniPC takes no list of them.
    solver.timesteps = steps[:-1] - 1
    alphas = chain_alphas(chain)[steps]
    solver.sigmas = ((1 - alphas) / alphas).sqrt().float()
    solver.set_begin_index(0)
    for t in solver.timesteps:
        epsilon = predict(x, t.to(x.device).expand(len(x)))
        x = solver.step(epsilon, t, x, return_dict=False)[0]
    return x


_Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _walk(
    predict: NoisePredictor, x: torch.Tensor, steps: torch.Tensor, step: _Step
) -> torch.Tensor:
    state = x.double()
    for now, then in zip(steps.T[:-1], steps.T[1:], strict=True):
        moves = now > then
        if not bool(moves.any()):
            continue
        # Images that stand at 0 are shown to the network all the same: batches stay full.
        told = (now - 1).clamp(min=0).to(x.device)
        epsilon = predict(state.to(x.dtype), told).double()
        ahead = step(state, epsilon, now, then)
        state = torch.where(_column(moves, state), ahead, state)
    return state.to(x.dtype)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1).to(like.device)
