"""Sheets of images: rows with names, in blocks with headings, side by side.

R rows, K images of a row in one block, H height, W width, C channels (1 grey, 3 RGB).
"""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from factory.pages.looks import shorten

SMALL_SIDE, LARGE_SIDE = 64, 96
"""px: images are enlarged by whole factors up to the first, and shrunk down to the second."""

_GAP = 2
"""Between images, px; blocks are eight times as far apart."""
_LINE, _MOST_LINES = 18, 3
"""Height of a line of a heading, px; and how many it may have."""
_FONT_SIZE = 14

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class ImageBlock(NamedTuple):
    """Images under one heading."""

    heading: str
    images: NDArray[np.uint8]
    """[R, K, H, W, C], all of one size; see `fit_images`."""


def fit_images(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images [H, W, C] of one size, at a size to look at; their pixels stay squares.

    Returns:
        uint8 [N, h, w, C], the longer side at most `LARGE_SIDE`.
    """
    return np.stack([_fit(image) for image in images])


def side_of(height: int, width: int) -> int:
    """Longer side of what `fit_images` makes of an image, px."""
    side = max(height, width)
    return side * max(1, SMALL_SIDE // side) if side <= LARGE_SIDE else LARGE_SIDE


def image_sheet(blocks: Sequence[ImageBlock], *, row_names: Sequence[str] = ()) -> bytes:
    """PNG of all blocks beside each other, a pixel of it being one of the page.

    Args:
        blocks: each of as many rows as the others.
        row_names: of the rows, written at their left; empty: they have none.
    """
    font = ImageFont.load_default(size=_FONT_SIZE)
    num_rows, _, height, width, _ = blocks[0].images.shape
    margin = int(max((font.getlength(shorten(name)) for name in row_names), default=0))
    widths = [block.images.shape[1] * (width + _GAP) for block in blocks]
    headings = [
        _wrap(block.heading, room, font) for block, room in zip(blocks, widths, strict=True)
    ]
    lines = max(heading.count("\n") + 1 for heading in headings)
    left, top, apart = margin + 4 * _GAP, lines * _LINE + 2 * _GAP, 8 * _GAP
    size = (left + sum(widths) + apart * (len(blocks) - 1), top + num_rows * (height + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(row_names):
        middle = top + row * (height + _GAP) + height // 2
        draw.text((margin, middle), shorten(name), fill="black", font=font, anchor="rm")
    for block, heading, room in zip(blocks, headings, widths, strict=True):
        draw.text((left, _GAP), heading, fill="black", font=font, spacing=_LINE - _FONT_SIZE)
        for row, column in np.ndindex(block.images.shape[:2]):
            place = (left + column * (width + _GAP), top + row * (height + _GAP))
            sheet.paste(_picture(block.images[row, column]), place)
        left += room + apart
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue()


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    scale = max(1, side_of(height, width) // max(height, width))
    picture = _picture(image.repeat(scale, axis=0).repeat(scale, axis=1))
    picture.thumbnail((LARGE_SIDE, LARGE_SIDE))
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _wrap(text: str, room: int, font: _Font) -> str:
    """The text in lines of at most `room` px; what is too long is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = [*lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])]
    return "\n".join(_cut(line, room, font) for line in kept if line)


def _cut(text: str, room: int, font: _Font) -> str:
    """The text, shortened until it takes no more than `room` px."""
    length = len(text)
    while length > 1 and font.getlength(shorten(text, length)) > room:
        length -= 1
    return shorten(text, length)
