"""The loops against a Gaussian, whose ideal denoiser and ODE have closed forms."""

from itertools import pairwise

import pytest
import torch

from factory.diffusion.samplers import euler, heun, karras_sigmas

MEAN, STD = 0.3, 0.7
SIGMA_MIN, SIGMA_MAX = 0.02, 20.0


def denoiser(x, sigma):
    level = sigma.view(-1, 1, 1, 1)
    return (STD**2 * x + level**2 * MEAN) / (STD**2 + level**2)


def exact(x, start, end):
    return MEAN + (x - MEAN) * torch.sqrt((STD**2 + end**2) / (STD**2 + start**2))


def levels(num_steps, rows=4):
    sigmas = karras_sigmas(num_steps + 1, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7)
    return sigmas[:-1].expand(rows, -1)


def noise(rows=4):
    x = torch.randn((rows, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    return MEAN + SIGMA_MAX * x.double()


def error(loop, num_steps):
    x = noise()
    end = loop(denoiser, x, levels(num_steps))
    start, stop = torch.tensor(SIGMA_MAX), torch.tensor(SIGMA_MIN)
    return float((end - exact(x, start.double(), stop.double())).abs().max())


@pytest.mark.parametrize(("loop", "order"), [(euler, 1), (heun, 2)])
def test_loop_halving_the_step_divides_the_error_by_two_to_its_order(loop, order):
    errors = [error(loop, num_steps) for num_steps in (64, 128, 256)]
    for coarse, fine in pairwise(errors):
        assert 2**order * 0.93 < coarse / fine < 2**order * 1.2


@pytest.mark.parametrize("loop", [euler, heun])
def test_loop_to_zero_ends_at_the_denoised_image(loop):
    x = noise()
    sigmas = karras_sigmas(40, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7).expand(4, -1)
    start, stop = torch.tensor(SIGMA_MAX).double(), torch.tensor(0.0).double()
    end = loop(denoiser, x, sigmas)
    assert torch.allclose(end, exact(x, start, stop), atol=0.1 if loop is euler else 0.02)


@pytest.mark.parametrize("loop", [euler, heun])
def test_loop_each_row_goes_its_own_way(loop):
    x = noise()
    long = karras_sigmas(6, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7)
    # Another start, an end above zero, and an end reached early.
    late = torch.cat([long[2:], torch.zeros(2)])
    high = torch.cat([long[:4], long[3].expand(3)])
    rows = torch.stack([long, late, high, torch.full((7,), 2.0).double()])
    together = loop(denoiser, x, rows)
    for index in range(3):
        alone = loop(denoiser, x[index : index + 1], rows[index : index + 1])
        assert torch.equal(together[index : index + 1], alone)
    assert torch.allclose(together[3], x[3], atol=1e-12)
    trimmed = [(0, long), (1, long[2:]), (2, long[:4])]
    for index, row in trimmed:
        short = loop(denoiser, x[index : index + 1], row.unsqueeze(0))
        assert torch.allclose(together[index : index + 1], short, atol=1e-12)


def test_heun_costs_two_evaluations_a_step_less_the_last():
    calls = []

    def counting(x, sigma):
        calls.append(float(sigma.max()))
        return denoiser(x, sigma)

    heun(counting, noise(), levels(5))
    to_zero = karras_sigmas(6, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7).expand(4, -1)
    assert len(calls) == 10
    heun(counting, noise(), to_zero)
    assert len(calls) == 10 + 11


@pytest.mark.parametrize("loop", [euler, heun])
def test_a_step_that_no_image_takes_costs_nothing(loop):
    calls = []

    def counting(x, sigma):
        calls.append(sigma)
        return denoiser(x, sigma)

    long = karras_sigmas(6, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7)
    resting = torch.cat([long[4:5].expand(4), long[4:]])
    loop(counting, noise(1), resting.unsqueeze(0))
    assert len(calls) == (2 if loop is euler else 3)


def test_loops_keep_the_dtype_and_ask_the_denoiser_in_it():
    def picky(x, sigma):
        assert x.dtype == sigma.dtype == torch.float32
        return denoiser(x, sigma)

    assert heun(picky, noise().float(), levels(3)).dtype == torch.float32


def test_karras_sigmas_fall_from_max_to_min_to_zero():
    sigmas = karras_sigmas(9, sigma_min=0.002, sigma_max=80, rho=7)
    assert sigmas[0].item() == pytest.approx(80)
    assert sigmas[-2].item() == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())
    assert karras_sigmas(1, sigma_min=0.002, sigma_max=80, rho=7).tolist() == pytest.approx([80, 0])
