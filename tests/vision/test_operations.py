import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from factory.images import to_float, to_uint8
from factory.vision.operations import OPERATIONS, Ranges, magnitudes, operate

WIDE = Ranges(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, fewest_bits=2)


def pictures(num_images=6, *, channels=3, side=33):
    """Images with edges, slopes and noise, whose range is not the full one."""
    generator = np.random.default_rng(0)
    slope = np.linspace(20, 180, side)[None, :, None, None]
    images = slope + generator.integers(0, 40, (num_images, side, side, channels))
    images[:, 8:20, 5:16] = 230
    return images.astype(np.uint8)


def run(images, operation, magnitude):
    x = (to_float(images) + 1) / 2
    out = operate(x, operation, torch.tensor([magnitude] * len(images)))
    return to_uint8(out * 2 - 1)


def pillow(images, change):
    mode = "L" if images.shape[3] == 1 else "RGB"
    seen = [np.array(change(Image.fromarray(i.squeeze(), mode=None).convert(mode))) for i in images]
    return np.stack(seen).reshape(images.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("operation", "magnitude", "change"),
    [
        ("auto_contrast", 0.0, ImageOps.autocontrast),
        ("equalize", 0.0, ImageOps.equalize),
        ("solarize", 128 / 255, lambda i: ImageOps.solarize(i, 128)),
        ("posterize", 3.0, lambda i: ImageOps.posterize(i, 3)),
        ("color", 0.3, lambda i: ImageEnhance.Color(i).enhance(0.3)),
        ("color", 1.8, lambda i: ImageEnhance.Color(i).enhance(1.8)),
        ("contrast", 0.3, lambda i: ImageEnhance.Contrast(i).enhance(0.3)),
        ("contrast", 1.8, lambda i: ImageEnhance.Contrast(i).enhance(1.8)),
        ("brightness", 0.3, lambda i: ImageEnhance.Brightness(i).enhance(0.3)),
        ("brightness", 1.8, lambda i: ImageEnhance.Brightness(i).enhance(1.8)),
        ("sharpness", 0.3, lambda i: ImageEnhance.Sharpness(i).enhance(0.3)),
        ("sharpness", 1.8, lambda i: ImageEnhance.Sharpness(i).enhance(1.8)),
    ],
)
def test_operation_on_pixels_is_pillows(operation, magnitude, change, channels):
    images = pictures(channels=channels)
    expected = pillow(images, change).astype(int)
    apart = np.abs(run(images, operation, magnitude) - expected)
    # Pillow rounds in between, once or twice.
    assert apart.max() <= 2
    assert np.abs(expected - images).max() > 20 or (operation == "color" and channels == 1)


@pytest.mark.parametrize(("degrees", "quarters"), [(90.0, 1), (-90.0, -1), (180.0, 2)])
def test_rotate_turns_counter_clockwise_about_the_middle(degrees, quarters):
    images = pictures()
    expected = np.rot90(images, quarters, axes=(1, 2)).astype(int)
    assert np.abs(run(images, "rotate", degrees) - expected).max() <= 1


def test_translate_moves_right_and_down_and_fills_with_black():
    images = pictures()
    right, down = run(images, "translate_x", 5.0), run(images, "translate_y", -4.0)
    assert np.abs(right[:, :, 5:].astype(int) - images[:, :, :-5]).max() <= 1
    assert np.abs(down[:, :-4].astype(int) - images[:, 4:]).max() <= 1
    assert (right[:, :, :5] <= 1).all()
    assert (down[:, -4:] <= 1).all()


def test_shear_by_one_moves_each_row_or_column_by_its_distance_from_the_middle():
    images = pictures()
    across, along = run(images, "shear_x", 1.0), run(images, "shear_y", 1.0)
    for place in (6, 16, 26):
        row = run(images, "translate_x", place - 16.0)[:, place]
        column = run(images, "translate_y", place - 16.0)[:, :, place]
        assert np.abs(across[:, place].astype(int) - row).max() <= 1
        assert np.abs(along[:, :, place].astype(int) - column).max() <= 1


@pytest.mark.parametrize("operation", sorted({*OPERATIONS} - {"auto_contrast", "equalize"}))
@pytest.mark.parametrize("channels", [1, 3])
def test_operation_without_strength_changes_nothing_and_with_it_does(operation, channels):
    images = pictures(channels=channels)
    images[0, 0, 0] = 255
    x = (to_float(images) + 1) / 2
    signs = torch.tensor([1.0, -1.0] * 3)
    for strength in (0.0, 1.0):
        magnitude = magnitudes(operation, torch.full((6,), strength), signs, WIDE)
        same = np.abs(to_uint8(operate(x, operation, magnitude) * 2 - 1).astype(int) - images) <= 1
        idle = operation == "identity" or (operation == "color" and channels == 1)
        assert same.all() == (strength == 0.0 or idle)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_treats_each_image_alone(operation):
    x = (to_float(pictures()) + 1) / 2
    signs = torch.tensor([1.0, -1.0] * 3)
    magnitude = magnitudes(operation, torch.linspace(0, 1, 6), signs, WIDE)
    together = operate(x, operation, magnitude)
    for index in range(6):
        alone = operate(x[index : index + 1], operation, magnitude[index : index + 1])
        assert torch.allclose(together[index], alone[0], atol=1e-5)


def test_image_of_one_colour_survives_every_operation_finite():
    x = torch.full((6, 3, 9, 9), 0.5)
    for operation in OPERATIONS:
        magnitude = magnitudes(operation, torch.linspace(0, 1, 6), torch.ones(6), WIDE)
        assert operate(x, operation, magnitude).isfinite().all()
    assert torch.equal(operate(x, "auto_contrast", torch.zeros(6)), x)
