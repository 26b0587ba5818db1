"""Drawing a batch: guidance by exact arithmetic, and a real tiny model through every scheduler."""

from typing import get_args

import numpy as np
import pytest
import torch

from factory.diffusion.draw import EdmSampler, GuidedNetwork
from factory.diffusion.edm import EdmPipeline
from factory.spec import EdmGenerator, Scheduler
from tests.conftest import CLASS_NAMES
from tests.datasets import PLAIN

NULL = 3
NAMES = ("cat", "dog", "T-shirt/top", "dog")
SEEDS = (11, 12, 13, 14)


class Linear:
    """F(x, label) = label, whatever x; counts its evaluations."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, c_noise, labels):
        self.batches.append(len(x))
        return labels.view(-1, 1, 1, 1).expand_as(x).to(x.dtype)


def guide(sigmas, labels, **guidance):
    """Outputs of the guided network, one number an image, and the sizes of its evaluations."""
    network = Linear()
    guided = GuidedNetwork(network, null_label=NULL, **guidance)
    x = torch.zeros(len(sigmas), 1, 2, 2)
    out = guided(x, torch.tensor(sigmas).log() / 4, torch.tensor(labels))
    assert out.shape == x.shape
    return out[:, 0, 0, 0].tolist(), network.batches


def test_scale_1_costs_no_evaluation_of_the_null_class():
    assert guide([5.0, 0.1], [0, 1], scale=1.0, interval=None) == ([0, 1], [2])


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_scale_moves_from_the_null_class_through_the_class(scale):
    outputs, batches = guide([5.0, 0.1], [0, 1], scale=scale, interval=None)
    assert outputs == [NULL + scale * (0 - NULL), NULL + scale * (1 - NULL)]
    assert batches == [4]


def test_scale_applies_inside_the_interval_only_and_its_bounds_are_inside():
    sigmas = [80.0, 2.0, 1.0, 0.5, 0.1]
    outputs, _ = guide(sigmas, [0] * 5, scale=2.0, interval=(0.5, 2.0))
    assert outputs == [0, -NULL, -NULL, -NULL, 0]


def test_a_batch_outside_the_interval_costs_no_evaluation_of_the_null_class():
    assert guide([80.0, 0.1], [0, 1], scale=2.0, interval=(0.5, 2.0)) == ([0, 1], [2])


@pytest.fixture
def draw(tiny_model):
    """Draws `NAMES` and `SEEDS`, or others, with a generator of the fields given."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def images(names=NAMES, seeds=SEEDS, model=tiny_model, **fields):
        generator = EdmGenerator(model=str(model), **{**PLAIN, "num_inference_steps": 5, **fields})
        return EdmSampler(str(model), generator, torch.device("cpu"))(names, seeds)

    yield images
    torch.set_num_threads(threads)


def largest_difference(some, others):
    return np.abs(some.astype(int) - others.astype(int)).max()


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("scheduler", get_args(Scheduler))
def test_every_scheduler_draws_the_same_images_twice(draw, scheduler, guidance_scale):
    fields = {"scheduler": scheduler, "guidance_scale": guidance_scale}
    images = draw(**fields)
    assert (images.shape, images.dtype) == ((4, 8, 8, 3), np.uint8)
    assert images.std() > 5
    np.testing.assert_array_equal(draw(**fields), images)


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
def test_one_step_is_enough(draw, scheduler):
    assert draw(scheduler=scheduler, num_inference_steps=1).shape == (4, 8, 8, 3)


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


def test_broken_weights_are_refused_and_not_drawn(draw, tiny_model, tmp_path):
    pipeline = EdmPipeline.from_pretrained(str(tiny_model))
    with torch.no_grad():
        next(iter(pipeline.unet.parameters())).fill_(torch.nan)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        draw(model=tmp_path)
