"""Drawing a batch: tiny DDPM models, conditional and not, through every scheduler."""

from typing import get_args

import numpy as np
import pytest
import torch

from factory.diffusion.ddpm import DdpmPipeline, new_chain, new_pipeline
from factory.diffusion.ddpm_sampler import DdpmSampler
from factory.seeds import seeded
from factory.spec import DdpmGenerator, DenoiserShape
from tests.conftest import CLASS_NAMES

NAMES = ("cat", "dog", "T-shirt/top", "dog")
SEEDS = (11, 12, 13, 14)
SCHEDULERS = get_args(DdpmGenerator.model_fields["scheduler"].annotation)


def save_model(folder, class_names):
    """A random DDPM of 8x8 RGB images and 20 steps."""
    with seeded(0):
        pipeline = new_pipeline(
            DenoiserShape(block_out_channels=(16, 32), layers_per_block=1, patch_size=1),
            new_chain(20, "linear", beta_end=0.3),
            name="tiny",
            class_names=class_names,
            image_size=8,
            channels=3,
            label_dropout=0.1 if class_names else 0.0,
            trained_on=None,
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a class-conditional and of an unconditional model."""
    folder = tmp_path_factory.mktemp("ddpm")
    conditional = save_model(folder / "conditional", CLASS_NAMES)
    return {True: conditional, False: save_model(folder / "unconditional", ())}


@pytest.fixture
def load(models):
    """Loads a sampler of the conditional model, or another, with the fields given."""

    def sampler(*, conditional=True, model=None, **fields):
        folder = str(model or models[conditional])
        generator = DdpmGenerator(kind="ddpm", model=folder, **fields)
        return DdpmSampler(folder, generator, torch.device("cpu"))

    return sampler


@pytest.fixture
def draw(load):
    """Draws `NAMES` and `SEEDS`, or others."""
    return lambda names=NAMES, seeds=SEEDS, **fields: load(**fields).draw(names, seeds)


def largest_difference(some, others):
    return np.abs(some.astype(int) - others.astype(int)).max()


@pytest.mark.parametrize("num_inference_steps", [None, 1, 7])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_draws_the_same_images_twice(load, scheduler, num_inference_steps):
    sampler = load(scheduler=scheduler, num_inference_steps=num_inference_steps)
    images = sampler.draw(NAMES, SEEDS)
    assert (images.shape, images.dtype) == ((4, 8, 8, 3), np.uint8)
    assert images.std() > 5
    np.testing.assert_array_equal(sampler.draw(NAMES, SEEDS), images)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_image_depends_on_its_own_seed_and_class_wherever_it_stands(draw, scheduler):
    # Batch-mates and places change last bits only: at most one step of uint8.
    fields = {"scheduler": scheduler, "num_inference_steps": 6}
    images = draw(**fields)
    assert largest_difference(draw(NAMES[::-1], SEEDS[::-1], **fields), images[::-1]) <= 1
    others = draw(("dog", *NAMES[1:]), (11, 12, 13, 99), **fields)
    assert largest_difference(others[1:3], images[1:3]) <= 1
    assert largest_difference(others[0], images[0]) > 1
    assert largest_difference(others[3], images[3]) > 1


def test_the_choice_of_variance_and_guidance_reach_the_images(draw):
    plain = draw()
    assert largest_difference(draw(variance="fixed_small"), plain) > 1
    guided = draw(guidance_weight=3)
    assert largest_difference(guided, plain) > 1
    np.testing.assert_array_equal(draw(guidance_scale=4), guided)


def test_an_unconditional_model_draws_without_class_names(draw):
    images = draw([None] * 4, conditional=False)
    assert images.std() > 5
    assert largest_difference(images[0], images[1]) > 1


def test_bfloat16_draws_nearly_the_same_images(draw):
    fields = {"scheduler": "ddim", "num_inference_steps": 5}
    difference = draw(**fields, dtype="bfloat16").astype(int) - draw(**fields)
    assert 0 < np.abs(difference).mean() < 6


def test_more_steps_than_the_chain_has_are_refused(load):
    with pytest.raises(ValueError, match=r"num_inference_steps is 21 .* give at most 20"):
        load(num_inference_steps=21)


def test_broken_weights_are_refused_and_not_drawn(draw, models, tmp_path):
    pipeline = DdpmPipeline.from_pretrained(str(models[True]))
    with torch.no_grad():
        next(iter(pipeline.unet.parameters())).fill_(torch.nan)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        draw(model=tmp_path)
