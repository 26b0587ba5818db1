"""The chain's loops against a Gaussian, whose ideal noise predictor and ODE have closed forms."""

from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)

from factory.diffusion.chain import ancestral, chain_alphas, chain_steps, ddim, multistep
from factory.diffusion.ddpm import new_chain

MEAN, STD = 0.3, 0.5
SOLVERS = [DPMSolverMultistepScheduler, UniPCMultistepScheduler]
LINEAR, COSINE = new_chain(1000, "linear"), new_chain(1000, "cosine")


def predictor(chain):
    """The noise that an ideal network sees in images of the Gaussian."""
    alphas = chain_alphas(chain)

    def predict(x, t):
        alpha = alphas[t + 1].view(-1, 1, 1, 1)
        total = alpha * STD**2 + 1 - alpha
        return ((1 - alpha).sqrt() * (x.double() - alpha.sqrt() * MEAN) / total).to(x.dtype)

    return predict


def exact(x, start, end):
    """Where the probability-flow ODE takes images from one abar to another."""
    spread = (end * STD**2 + 1 - end) / (start * STD**2 + 1 - start)
    return end.sqrt() * MEAN + (x - start.sqrt() * MEAN) * spread.sqrt()


def noise(rows=4):
    return torch.randn((rows, 2, 3, 3), generator=torch.Generator().manual_seed(0))


def streams(rows=4):
    return [torch.Generator().manual_seed(i) for i in range(rows)]


def walk(method, chain, x, steps):
    """Take all images of a batch over the same steps."""
    rows, alphas = steps.expand(len(x), -1), chain_alphas(chain)
    if method is ddim:
        return ddim(predictor(chain), x, rows, alphas)
    if method in SOLVERS:
        return multistep(method, chain, predictor(chain), x, steps)
    return ancestral(predictor(chain), x, rows, alphas, streams=streams(len(x)), variance=method)


@pytest.mark.parametrize(
    ("method", "order"), [(ddim, 1), (DPMSolverMultistepScheduler, 2), (UniPCMultistepScheduler, 2)]
)
def test_halving_the_step_divides_the_error_by_two_to_its_order(method, order):
    # A slow chain of many steps, so that rounding to its steps is not what is measured; the last
    # step, which takes the noise away, is of first order for all.
    chain = new_chain(20_000, "linear", beta_start=1e-5, beta_end=5e-4)
    alphas = chain_alphas(chain)
    errors = []
    for num_steps in (50, 100, 200):
        x = noise() if method in SOLVERS else noise().double()
        steps = torch.linspace(20_000, 4_000, num_steps + 1).long()
        wanted = exact(x, alphas[20_000], alphas[4_000])
        errors.append(float((walk(method, chain, x, steps) - wanted).abs().max()))
    for coarse, fine in pairwise(errors):
        assert 2**order * 0.9 < coarse / fine < 2**order * 1.3


@pytest.mark.parametrize("chain", [LINEAR, COSINE, new_chain(400, "linear")])
@pytest.mark.parametrize("method", [ddim, *SOLVERS])
def test_any_number_of_steps_ends_at_the_clean_image(method, chain):
    alphas = chain_alphas(chain)
    # 61 and 97 of 1,000 and 400 are where diffusers' own spacing gives a step too many.
    for num_steps, tolerance in [(61, 0.07), (97, 0.05), (len(alphas) - 1, 0.02)]:
        steps = chain_steps(alphas, num_steps)
        wanted = exact(noise(), alphas[steps[0]], alphas[0])
        assert torch.allclose(walk(method, chain, noise(), steps), wanted, atol=tolerance)


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
@pytest.mark.parametrize("num_steps", [200, 400])
def test_ancestral_steps_end_in_the_gaussian(variance, num_steps):
    chain = new_chain(400, "linear")
    images = walk(variance, chain, noise(200), chain_steps(chain_alphas(chain), num_steps))
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(images.std()) == pytest.approx(STD, abs=0.03)


@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
@pytest.mark.parametrize(
    "chain", [new_chain(100, "linear", beta_start=0.01, beta_end=0.2), new_chain(100, "cosine")]
)
def test_all_steps_of_the_chain_are_those_of_diffusers_ddpm(chain, variance):
    scheduler = DDPMScheduler.from_config(chain.config, variance_type=variance)
    scheduler.set_timesteps(100)
    x, own = noise(), streams()
    for t in scheduler.timesteps:
        epsilon = predictor(chain)(x, t.expand(len(x)))
        x = scheduler.step(epsilon, t, x, generator=own, return_dict=False)[0]
    ours = walk(variance, chain, noise(), torch.arange(100, -1, -1))
    assert torch.allclose(ours, x, atol=1e-5)


def test_steps_that_divide_the_chain_are_those_of_diffusers_ddim():
    scheduler = DDIMScheduler.from_config(LINEAR.config, timestep_spacing="trailing")
    scheduler.set_timesteps(50)
    x = noise()
    for t in scheduler.timesteps:
        epsilon = predictor(LINEAR)(x, t.expand(len(x)))
        x = scheduler.step(epsilon, t, x, return_dict=False)[0]
    ours = walk(ddim, LINEAR, noise(), chain_steps(chain_alphas(LINEAR), 50))
    assert torch.allclose(ours, x, atol=1e-5)


def test_one_step_is_algorithm_2_of_lundberg2022():
    betas = torch.linspace(1e-4, 0.02, 400, dtype=torch.float64)
    alpha, alpha_bar, t = 1 - betas, (1 - betas).cumprod(0), 250
    chain, x, own = new_chain(400, "linear"), noise(1), streams(1)
    epsilon = predictor(chain)(x, torch.tensor([t - 1])).double()
    z = torch.randn(x.shape[1:], generator=streams(1)[0])
    mean = x - (1 - alpha[t - 1]) / (1 - alpha_bar[t - 1]).sqrt() * epsilon
    wanted = mean / alpha[t - 1].sqrt() + betas[t - 1].sqrt() * z
    taken = ancestral(
        predictor(chain),
        x,
        torch.tensor([[t, t - 1]]),
        chain_alphas(chain),
        streams=own,
        variance="fixed_large",
    )
    assert torch.allclose(taken.double(), wanted, atol=1e-5)


@pytest.mark.parametrize("method", [ddim, "fixed_large"])
def test_each_row_goes_its_own_way_and_draws_its_own_noise(method):
    chain, x = new_chain(20, "linear"), noise()
    alphas = chain_alphas(chain)
    whole = torch.arange(20, -1, -1)
    starts = torch.tensor([20, 7, 0, 13])
    rows = whole.clamp(max=starts.unsqueeze(1))

    def take(images, steps, own):
        if method is ddim:
            return ddim(predictor(chain), images, steps, alphas)
        return ancestral(
            predictor(chain), images, steps, alphas, streams=own, variance="fixed_large"
        )

    together = take(x, rows, streams())
    for i, start in enumerate(starts.tolist()):
        one = slice(i, i + 1)
        alone = take(x[one], torch.arange(start, -1, -1).unsqueeze(0), streams()[one])
        assert torch.allclose(together[one], alone, atol=1e-6)
    assert torch.equal(together[2], x[2])


def test_a_step_that_no_image_takes_costs_nothing():
    told = []

    def counting(x, t):
        told.append(t.tolist())
        return torch.zeros_like(x)

    steps = torch.tensor([[3, 3, 2, 1, 0], [1, 1, 1, 1, 0]])
    ddim(counting, noise(2), steps, chain_alphas(LINEAR))
    assert told == [[2, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize("chain", [LINEAR, COSINE])
def test_any_number_of_steps_falls_strictly_from_the_chain_s_end_to_0(chain):
    alphas = chain_alphas(chain)
    for num_steps in range(1, 1001):
        steps = chain_steps(alphas, num_steps)
        assert len(steps) == num_steps + 1
        assert bool((steps.diff() < 0).all())
        assert steps[-1] == 0
        # The cosine chain's last steps hold no signal, and are left out as soon as any is.
        assert steps[0] == (1000 if chain is LINEAR or num_steps > 996 else 996)


def test_a_small_error_of_the_network_stays_small_with_few_steps_of_the_cosine_chain():
    def erring(x, t):
        return predictor(COSINE)(x, t) + 0.02

    alphas = chain_alphas(COSINE)
    steps = chain_steps(alphas, 20)
    images = ddim(erring, noise(), steps.expand(4, -1), alphas)
    ideal = ddim(predictor(COSINE), noise(), steps.expand(4, -1), alphas)
    assert float((images - ideal).abs().max()) < 0.5


def test_more_steps_than_the_chain_has_are_refused():
    with pytest.raises(ValueError, match=r"1001 .* 1000 steps; give at most 1000"):
        chain_steps(chain_alphas(LINEAR), 1001)
