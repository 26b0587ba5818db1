from typing import get_args

import pytest
import torch

from factory.spec import Augmentation
from factory.vision.augment import augment

EVERY = get_args(Augmentation)
RANDOM = [name for name in EVERY if name != "none"]


def noise(num_images=64, *, channels=3, height=32, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_images, channels, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 16, 24)])
def test_augment_keeps_shape_and_range_and_its_argument(name, channels, height, width):
    x = noise(channels=channels, height=height, width=width)
    before = x.clone()
    out = augment(x, name, seed=0)
    assert out.shape == x.shape
    assert out.abs().max() <= 1
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", RANDOM)
def test_augment_is_a_function_of_its_seed_and_leaves_the_global_generator(name):
    x = noise()
    state = torch.get_rng_state()
    a, c = augment(x, name, seed=3), augment(x, name, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(a, augment(x, name, seed=3))
    assert not torch.equal(a, c)


@pytest.mark.parametrize("name", EVERY)
def test_augment_does_to_a_grey_image_what_it_does_to_the_same_image_in_rgb(name):
    x = noise(channels=1)
    grey, rgb = augment(x, name, seed=0), augment(x.repeat(1, 3, 1, 1), name, seed=0)
    assert torch.allclose(grey.expand(-1, 3, -1, -1), rgb, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_augment_changes_equal_images_in_different_ways(name):
    x = noise(1).repeat(64, 1, 1, 1)
    kinds = torch.unique(augment(x, name, seed=0).flatten(1), dim=0)
    expected = {"none": (1, 1), "flip": (2, 2)}.get(name, (20, 64))
    assert expected[0] <= len(kinds) <= expected[1]


def test_flip_mirrors_half_of_the_images():
    x = noise(1_000, channels=1, height=8, width=8)
    out = augment(x, "flip", seed=0)
    flipped = (out == x.flip(3)).flatten(1).all(dim=1)
    kept = (out == x).flatten(1).all(dim=1)
    assert (flipped ^ kept).all()
    assert 430 < flipped.sum() < 570


@pytest.mark.parametrize("name", ["crop", "flip_crop"])
def test_crop_shifts_by_up_to_an_eighth_and_shows_every_shift(name):
    x = noise(2_000, channels=1, height=16, width=24)
    out = augment(x, name, seed=0)
    padded = torch.nn.functional.pad(x, (3, 3, 2, 2), value=-1.0)
    explained = torch.zeros(len(x), dtype=torch.int64)
    for top in range(5):
        for left in range(7):
            window = padded[:, :, top : top + 16, left : left + 24]
            same = (out == window).flatten(1).all(dim=1)
            if name == "flip_crop":
                same |= (out == window.flip(3)).flatten(1).all(dim=1)
            # 57 of 2,000 are expected at each of the 35 places.
            assert 20 < same.sum() < 110
            explained += same
    assert (explained == 1).all()


def test_randaugment_leaves_untouched_what_drew_the_identity_twice():
    # More than 255 pixels: equalize leaves an image of fewer as it is.
    x = noise(2_000, channels=1, height=20, width=20)
    x = torch.cat([x, -x, x / 2], dim=1)
    out = augment(x, "randaugment", seed=0)
    untouched = torch.isclose(out, x, atol=1e-5).flatten(1).all(dim=1)
    # One in 14 * 14: 10 are expected.
    assert 2 < untouched.sum() < 25
