"""Sheets of images: where every image lies, and at what size."""

import io

import numpy as np
import pytest
from PIL import Image

from factory.pages.sheets import LARGE_SIDE, ImageBlock, fit_images, image_sheet, side_of


@pytest.mark.parametrize(
    ("size", "shown"),
    [((12, 12), (60, 60)), ((28, 28), (56, 56)), ((64, 64), (64, 64)), ((80, 40), (80, 40)),
     ((512, 256), (96, 48))],
)  # fmt: skip
def test_images_get_a_size_to_look_at(size, shown):
    for channels in (1, 3):
        fitted = fit_images(np.zeros((2, *size, channels), np.uint8))
        assert fitted.shape == (2, *shown, channels)
    assert side_of(*size) == max(shown) <= LARGE_SIDE


def test_an_enlarged_image_keeps_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert (fit_images([image])[0][::4, ::4] == image).all()
    assert (fit_images([image])[0][3::4, 3::4] == image).all()


def blobs(*shape) -> np.ndarray:
    """Images [*shape, 20, 20, 1] of one dark grey each, all different."""
    count = int(np.prod(shape))
    return np.broadcast_to(
        np.arange(1, count + 1, dtype=np.uint8).reshape(*shape, 1, 1, 1), (*shape, 20, 20, 1)
    )


def places(sheet: bytes, level: int) -> tuple[int, int]:
    """Upper left corner, y and x, of the one image of that grey."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))[:, :, 0]
    whole = np.lib.stride_tricks.sliding_window_view(pixels, (20, 20))
    ((y, x),) = np.argwhere((whole == level).all(axis=(2, 3)))
    return int(y), int(x)


def test_every_image_lies_in_its_row_and_block():
    first, second = blobs(3, 2), blobs(3, 1) + 100
    blocks = [ImageBlock("real", first), ImageBlock("a long name that is cut", second)]
    sheet = image_sheet(blocks, row_names=["cat", "dog", "$x$"])
    found = [[places(sheet, 2 * row + column + 1) for column in (0, 1)] for row in range(3)]
    other = [places(sheet, 101 + row) for row in range(3)]
    for row in range(3):
        # One height in a row, one place across in a column.
        assert len({place[0] for place in [*found[row], other[row]]}) == 1
        assert found[row][0][1] == found[0][0][1]
        assert other[row][1] == other[0][1]
    gap = found[0][1][1] - found[0][0][1] - 20
    assert other[0][1] - found[0][1][1] - 20 > gap > 0


def headings(sheet: bytes, top: int) -> np.ndarray:
    """Columns of the sheet above its images that hold something dark."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))[:top, :, 0]
    return np.flatnonzero((pixels < 128).any(axis=0))


@pytest.mark.parametrize("name", ["real and synthetic images", "Donaudampfschiff", "a b c d e f"])
def test_a_heading_stays_over_its_own_images(name):
    block = ImageBlock(name, np.full((1, 2, 20, 20, 1), 200, np.uint8))
    sheet = image_sheet([block, ImageBlock("", block.images)])
    y, x = places(image_sheet([ImageBlock(name, blobs(1, 1).repeat(2, 1)[:, :1])]), 1)
    dark = headings(sheet, y)
    assert len(dark) > 0
    assert x <= dark.min() <= dark.max() <= x + 2 * 22
