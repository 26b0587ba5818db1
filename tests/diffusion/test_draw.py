"""Drawing a batch: a real tiny EDM model through every scheduler."""

from typing import get_args

import numpy as np
import pytest
import torch

from factory.diffusion.draw import load_sampler
from factory.diffusion.edm import EdmPipeline
from factory.diffusion.edm_sampler import EdmSampler
from factory.resolve import resolve
from factory.spec import EdmGenerator
from tests.conftest import CLASS_NAMES
from tests.datasets import PLAIN, small_spec

NAMES = ("cat", "dog", "T-shirt/top", "dog")
SEEDS = (11, 12, 13, 14)
SCHEDULERS = get_args(EdmGenerator.model_fields["scheduler"].annotation)


@pytest.fixture
def draw(tiny_model):
    """Draws `NAMES` and `SEEDS`, or others, with a generator of the fields given."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def images(names=NAMES, seeds=SEEDS, model=tiny_model, **fields):
        generator = EdmGenerator(model=str(model), **{**PLAIN, "num_inference_steps": 5, **fields})
        return EdmSampler(str(model), generator, torch.device("cpu")).draw(names, seeds)

    yield images
    torch.set_num_threads(threads)


def largest_difference(some, others):
    return np.abs(some.astype(int) - others.astype(int)).max()


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_draws_the_same_images_twice(draw, scheduler, guidance_scale):
    fields = {"scheduler": scheduler, "guidance_scale": guidance_scale}
    images = draw(**fields)
    assert (images.shape, images.dtype) == ((4, 8, 8, 3), np.uint8)
    assert images.std() > 5
    np.testing.assert_array_equal(draw(**fields), images)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_step_is_enough(draw, scheduler):
    assert draw(scheduler=scheduler, num_inference_steps=1).shape == (4, 8, 8, 3)


def test_a_fine_schedule_comes_to_rest(draw):
    # More levels change less and less: 100 and 200 of them agree to the eye.
    fine, finer = (draw(scheduler="euler", num_inference_steps=n) for n in (100, 200))
    assert largest_difference(fine, finer) < largest_difference(draw(scheduler="euler"), fine) / 4


def test_one_and_two_threads_draw_the_same_images(draw):
    one = draw()
    torch.set_num_threads(2)
    np.testing.assert_array_equal(draw(), one)


def test_an_image_depends_on_its_own_seed_and_class_wherever_it_stands(draw):
    # Batch-mates and places change last bits only: at most one step of uint8.
    images = draw()
    assert largest_difference(draw(NAMES[::-1], SEEDS[::-1]), images[::-1]) <= 1
    others = draw(("dog", *NAMES[1:]), (11, 12, 13, 99))
    assert largest_difference(others[1:3], images[1:3]) <= 1
    assert largest_difference(others[0], images[0]) > 1
    assert largest_difference(others[3], images[3]) > 1


def test_the_factory_s_euler_loop_and_diffusers_agree(draw):
    # Both take the same steps of one ODE, in float64 here and float32 there.
    own, diffusers = draw(scheduler="euler"), draw(scheduler="edm_euler")
    assert largest_difference(own, diffusers) <= 1


def test_classes_and_images_have_the_model_s_order(draw):
    alone = draw([CLASS_NAMES[1]], [7])
    assert largest_difference(draw(CLASS_NAMES, [7, 7, 7])[1], alone[0]) <= 1


def test_bounds_of_the_guidance_interval_are_inside_it(draw):
    fields = {"scheduler": "euler", "guidance_scale": 3.0, "num_inference_steps": 3}
    first = {"sigma_max": 2.0, "guidance_interval": (2.0, 3.0)}
    assert largest_difference(draw(**fields, **first), draw(**fields, sigma_max=2.0)) > 1
    outside = {"sigma_max": 2.0, "guidance_interval": (2.1, 3.0)}
    unguided = draw(**fields | {"guidance_scale": 1.0}, sigma_max=2.0)
    np.testing.assert_array_equal(draw(**fields, **outside), unguided)


def test_either_convention_of_guidance_draws_the_same_images(draw, tiny_model):
    weighted = EdmGenerator(
        model=str(tiny_model), guidance_weight=1.0, num_inference_steps=5, scheduler="heun"
    )
    sampler = EdmSampler(str(tiny_model), weighted, torch.device("cpu"))
    images = draw(guidance_scale=2.0, guidance_interval=weighted.guidance_interval)
    np.testing.assert_array_equal(sampler.draw(NAMES, SEEDS), images)


def test_the_sampler_of_a_spec_draws_what_its_candidates_ask_for(draw, tiny_model):
    resolved = resolve(small_spec(tiny_model))
    batch = resolved.plan.batch(0, 0)
    drawn = load_sampler(resolved)(batch)
    names, seeds = [one.class_name for one in batch], [one.seed for one in batch]
    np.testing.assert_array_equal(drawn.images, draw(names, seeds, num_inference_steps=3))
    assert drawn.facts == ({},) * len(batch)
    assert drawn.rejected == (None,) * len(batch)


def test_broken_weights_are_refused_and_not_drawn(draw, tiny_model, tmp_path):
    pipeline = EdmPipeline.from_pretrained(str(tiny_model))
    with torch.no_grad():
        next(iter(pipeline.unet.parameters())).fill_(torch.nan)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        draw(model=tmp_path)
