import numpy as np
import pytest
from PIL import Image

from factory.spec import DuplicateFilter
from factory.vision.duplicates import Duplicates, difference_hash

EXACT = DuplicateFilter(kind="duplicate")


def nearly(max_distance):
    return DuplicateFilter(kind="duplicate", max_distance=max_distance)


def smooth(seed, *, side=32, channels=3, low=30, high=220):
    """A random image without fine detail."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(low, high, (6, 6, channels), dtype=np.uint8)
    layers = [
        np.asarray(Image.fromarray(coarse[:, :, c]).resize((side, side), Image.Resampling.BICUBIC))
        for c in range(channels)
    ]
    return np.stack(layers, axis=2)


def bits_apart(a, b):
    return (difference_hash(a) ^ difference_hash(b)).bit_count()


def ramp(steps):
    """A grey image of 9 x 8 px, in which each of `steps` is the rise from one pixel to the next."""
    values = 128 + np.concatenate([np.zeros((8, 1)), np.cumsum(steps, axis=1)], axis=1)
    return values.astype(np.uint8)[:, :, None]


@pytest.mark.parametrize("spec", [EXACT, nearly(0), nearly(5)])
def test_image_is_new_until_it_was_added(spec):
    duplicates, images = Duplicates(spec), [smooth(seed) for seed in range(20)]
    for image in images:
        assert duplicates.is_new(image)
        assert duplicates.is_new(image)
        duplicates.add(image)
    assert not any(duplicates.is_new(image.copy()) for image in images)


def test_exact_duplicates_differ_in_no_pixel():
    duplicates, image = Duplicates(EXACT), smooth(0)
    duplicates.add(image)
    other = image.copy()
    other[5, 5, 1] ^= 1
    assert duplicates.is_new(other)
    assert duplicates.is_new(np.ascontiguousarray(image[:, ::-1]))


def test_hash_has_one_bit_for_each_rise_in_reading_order():
    rises = np.random.default_rng(0).integers(0, 2, (8, 8))
    # An image of 9 x 8 px is not resized.
    text = "".join(str(bit) for bit in rises.ravel())
    assert difference_hash(ramp(np.where(rises == 1, 7, -7))) == int(text, 2)
    assert difference_hash(ramp(np.where(rises == 1, 7, 0))) == int(text, 2)
    assert difference_hash(np.full((20, 30, 3), 99, dtype=np.uint8)) == 0


@pytest.mark.parametrize("max_distance", [0, 1, 5, 64])
def test_near_duplicates_are_those_within_so_many_bits(max_distance):
    steps = np.where(np.random.default_rng(1).integers(0, 2, (8, 8)) == 1, 7, -7)
    duplicates = Duplicates(nearly(max_distance))
    duplicates.add(ramp(steps))
    for num_flipped in (0, 1, 2, 5, 6, 64):
        flipped = steps.ravel().copy()
        flipped[:num_flipped] *= -1
        image = ramp(flipped.reshape(8, 8))
        assert duplicates.is_new(image) == (num_flipped > max_distance)


def test_hash_survives_light_contrast_size_and_noise_but_not_another_image():
    image = smooth(3)
    noise = np.random.default_rng(0).integers(-2, 3, image.shape)
    large = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
    for changed in (image // 2 + 60, image + 20, (image + noise).astype(np.uint8), large):
        assert bits_apart(image, changed) <= 4
    assert all(bits_apart(image, smooth(seed)) > 8 for seed in range(4, 24))


def test_grey_image_hashes_as_the_same_image_in_rgb():
    grey = smooth(0, channels=1)
    assert difference_hash(grey) == difference_hash(grey.repeat(3, axis=2))
