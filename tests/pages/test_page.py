"""Pictures as parts of a page: their size on it, and what becomes of large ones."""

import base64
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from factory.pages.figures import png
from factory.pages.looks import DENSITY, STYLE
from factory.pages.page import Picture, embed


def encode(pixels) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def decode(picture: Picture) -> tuple[str, bytes]:
    kind, _, data = picture.address.removeprefix("data:image/").partition(";base64,")
    return kind, base64.b64decode(data)


def test_a_chart_is_sharper_than_the_page():
    with rc_context(STYLE):
        data = png(Figure(figsize=(4, 3)))
    assert Image.open(io.BytesIO(data)).size == (DENSITY * 400, DENSITY * 300)
    shown = embed(data)
    assert shown[1:] == (400, 300)
    assert decode(shown) == ("png", data)


def test_a_small_sheet_stays_as_it_is():
    data = encode(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    shown = embed(data)
    assert shown[1:] == (30, 40)
    assert decode(shown) == ("png", data)


def test_a_large_sheet_takes_fewer_bytes_and_looks_the_same():
    # A slope with so much noise that PNG cannot make it small.
    noise = np.random.default_rng(0).integers(0, 8, (900, 700, 3))
    pixels = (np.linspace(20, 230, 700)[:, None] + noise).astype(np.uint8)
    data = encode(pixels)
    shown = embed(data)
    kind, embedded = decode(shown)
    assert (kind, *shown[1:]) == ("jpeg", 700, 900)
    assert len(embedded) < len(data)
    found = np.asarray(Image.open(io.BytesIO(embedded)), float)
    assert np.abs(found - pixels).mean() < 3
