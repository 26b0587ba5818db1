"""What is promised of a GPU: the same pixels twice, fast as well as plain, and batches that fit."""

import re

import numpy as np
import pytest
import torch

from factory.diffusion.draw import load_sampler
from factory.generate.draw import BatchTooLarge, draw_batch
from factory.resolve import resolve
from factory.spec import GenerateSpec

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

FAST = {"dtype": "bfloat16", "compile": True}
TOLERANCE = 1.0
"""Mean absolute difference of pixels, of 255; on a CPU bfloat16 alone moves them by 0.4."""
MIB = 2**20


def load(batch_size=64, **generator):
    """The embedded model's sampler on the GPU, and a batch of candidates."""
    spec = GenerateSpec.model_validate({"batch_size": batch_size, "generator": generator})
    resolved = resolve(spec)
    return load_sampler(resolved), resolved.plan.batch(0, 0)


def draw(**generator):
    sampler, batch = load(**generator)
    return sampler(batch).images


@pytest.mark.parametrize("fields", [{}, FAST], ids=["plain", "fast"])
def test_a_batch_drawn_again_has_the_same_pixels(fields):
    sampler, batch = load(**fields)
    images = sampler(batch).images
    np.testing.assert_array_equal(sampler(batch).images, images)
    np.testing.assert_array_equal(draw(**fields), images)


def test_the_fast_path_draws_nearly_what_the_plain_one_draws():
    difference = np.abs(draw(**FAST).astype(int) - draw())
    assert difference.mean() < TOLERANCE


@pytest.fixture
def little_memory():
    """Room for 256 MiB beside what this process holds already."""
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    allowed = torch.cuda.memory_reserved() + 256 * MIB
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_batch_without_room_names_one_that_can_be_drawn(little_memory):
    sampler, batch = load(batch_size=4_096)
    with pytest.raises(BatchTooLarge, match="is 4096") as error:
        draw_batch(sampler, batch)
    named = re.search(r"batch_size=(\d+)", str(error.value))
    assert named is not None, error.value
    size = int(named[1])
    assert len(draw_batch(sampler, batch[:size]).images) == size
