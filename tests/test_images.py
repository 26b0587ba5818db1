"""Pixels survive every bridge, and an encoded image says what it is."""

import contextlib
import io
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from factory.images import (
    COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
    MARKS,
    TRAINED_ALGORITHMIC_MEDIA,
    contact_sheet,
    decode_image,
    encode_png,
    pixel_digest,
    read_mark,
    to_float,
    to_uint8,
)

GREY = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (32, 20, 3), dtype=np.uint8)

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
pixels = shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape))


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def test_floats_and_back_gives_every_level_again():
    levels = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1)
    x = to_float(levels)
    assert x.shape == (2, 1, 8, 16)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    assert np.array_equal(to_uint8(x), levels)


def test_channels_and_sides_keep_their_places():
    x = to_float(RGB[None])
    assert x.shape == (1, 3, 32, 20)
    assert x[0, 2, 30, 5] == pytest.approx(RGB[30, 5, 2] / 127.5 - 1)
    assert np.array_equal(to_uint8(x)[0], RGB)


def test_uint8_clamps_what_lies_outside_and_rounds_to_the_nearest_level():
    x = torch.tensor([-7.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 1.0, 7.0])
    assert to_uint8(x.view(1, 1, 1, 6)).flatten().tolist() == [0, 0, 0, 1, 255, 255]


def test_uint8_of_broken_images_names_them():
    x = torch.zeros(4, 1, 2, 2)
    x[1, 0, 0, 0], x[3, 0, 1, 1] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"\[1, 3\] of 4"):
        to_uint8(x)


@pytest.mark.parametrize("wrong", [GREY, GREY[None].astype(np.float32)])
def test_float_of_something_else_says_what_it_got(wrong):
    with pytest.raises(ValueError, match=str(wrong.dtype)):
        to_float(wrong)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int)])
def test_uint8_of_something_else_says_what_it_got(wrong):
    with pytest.raises(ValueError, match=str(wrong.dtype)):
        to_uint8(wrong)


@given(pixels, st.sampled_from([None, *MARKS]), st.integers(0, 9))
def test_png_gives_pixels_and_mark_again(image, mark, level):
    png = encode_png(image, mark=mark, compress_level=level)
    assert np.array_equal(decode_image(png), image)
    assert read_mark(png) == mark


def test_png_bytes_do_not_depend_on_what_was_encoded_before_or_beside():
    def encode(image):
        return encode_png(image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=6)

    alone = [encode(GREY), encode(RGB)]
    with ThreadPoolExecutor(4) as threads:
        beside = list(threads.map(encode, [GREY, RGB] * 50))
    assert beside == alone * 50


@pytest.mark.parametrize("image", [GREY, RGB])
def test_mark_costs_a_third_of_a_kilobyte_and_no_pixel(image):
    plain = encode_png(image, mark=None, compress_level=6)
    marked = encode_png(image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=6)
    assert 0 < len(marked) - len(plain) < 360
    assert np.array_equal(decode_image(plain), decode_image(marked))
    # What is there beside the mark's chunk is the unmarked file.
    start = marked.index(b"iTXt") - 4
    end = start + 12 + struct.unpack(">I", marked[start : start + 4])[0]
    assert marked[:start] + marked[end:] == plain


def test_mark_is_the_property_that_iptc_names():
    png = encode_png(RGB, mark=COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA, compress_level=6)
    packet = ElementTree.fromstring(Image.open(io.BytesIO(png)).info["xmp"])
    (described,) = packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert described.get(name) == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    )


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_mark_is_read_by_exiftool(tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(encode_png(GREY, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=6))
    command = ["exiftool", "-s3", "-XMP-iptcExt:DigitalSourceType", "-validate", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == ["http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia", "OK"]


def test_mark_is_read_from_other_formats_and_spellings():
    address = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    xmp = f"<e:DigitalSourceType>{address}</e:DigitalSourceType>".encode()
    assert read_mark(encoded(Image.fromarray(RGB), "JPEG", xmp=xmp)) == TRAINED_ALGORITHMIC_MEDIA
    assert read_mark(encoded(Image.fromarray(RGB), "WEBP")) is None


def test_unknown_mark_is_refused():
    with pytest.raises(ValueError, match=r"'ai'.*trainedAlgorithmicMedia"):
        encode_png(GREY, mark="ai", compress_level=6)


@pytest.mark.parametrize("wrong", [GREY[:, :, 0], RGB[:, :, :2], RGB.astype(np.float32)])
def test_png_of_no_image_says_what_it_got(wrong):
    with pytest.raises(ValueError, match=str(wrong.dtype)):
        encode_png(wrong, mark=None, compress_level=6)


@pytest.mark.parametrize("format", ["BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_decode_reads_lossless_formats_exactly(format):
    options = {"lossless": True} if format == "WEBP" else {}
    # A GIF has 256 colours.
    source = RGB // 64 * 64 if format == "GIF" else RGB
    assert np.array_equal(decode_image(encoded(Image.fromarray(source), format, **options)), source)


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("RGB", 3)]
)
def test_decode_gives_one_channel_for_grey_and_three_for_the_rest(mode, channels):
    shape = decode_image(encoded(Image.fromarray(RGB).convert(mode), "PNG")).shape
    assert shape == (32, 20, channels)


def test_decode_turns_photographs_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: to be shown turned right
    photograph = encoded(Image.fromarray(RGB), "PNG", exif=exif)
    assert np.array_equal(decode_image(photograph), np.rot90(RGB, -1))


def test_decode_refuses_what_eight_bits_cannot_hold():
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(ValueError, match="I;16"):
        decode_image(encoded(deep, "PNG"))


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@given(st.data())
def test_decode_of_damaged_bytes_is_a_value_error_or_an_image(data):
    format = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF"]))
    whole = encoded(Image.fromarray(RGB), format)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + data.draw(st.binary(max_size=4))
    with contextlib.suppress(ValueError):
        assert decode_image(damaged).dtype == np.uint8


@pytest.mark.parametrize(
    "data", [b"", b"no image", encode_png(RGB, mark=None, compress_level=6)[:-40]]
)
def test_decode_of_broken_bytes_says_so(data):
    with pytest.raises(ValueError, match=f"image of {len(data)} bytes"):
        decode_image(data)


@given(pixels)
def test_digest_tells_pixels_and_shapes_apart_and_nothing_else(image):
    digest = pixel_digest(image)
    assert pixel_digest(np.asfortranarray(image)) == digest
    assert pixel_digest(image ^ 1) != digest
    assert pixel_digest(image.reshape(1, -1, image.shape[2])) != digest or len(image) == 1


def test_contact_sheet_holds_every_image_enlarged():
    rows = np.stack([RGB, RGB[::-1], RGB[:, ::-1]])
    sheet = decode_image(contact_sheet(rows, columns=2, scale=3))
    # 2 columns of 20 and 2 rows of 32 pixels, enlarged 3 times, with gaps of 6 around.
    assert sheet.shape == (6 + 2 * (96 + 6), 6 + 2 * (60 + 6), 3)
    large = RGB.repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(sheet[6:102, 6:66], large)
    assert np.array_equal(sheet[6:102, 72:132], large[::-1])
    assert np.array_equal(sheet[108:204, 6:66], large[:, ::-1])
    assert (sheet[108:204, 72:] == 255).all()


def test_contact_sheet_writes_row_names_beside_the_same_images():
    four = np.stack([GREY] * 4)
    plain = decode_image(contact_sheet(four, columns=2))
    named = decode_image(contact_sheet(four, columns=2, row_names=["bag", "coat"]))
    margin = named.shape[1] - plain.shape[1]
    assert np.array_equal(named[:, margin:][:, 4:], plain[:, 4:])
    upper, lower = named[: len(named) // 2, :margin], named[len(named) // 2 :, :margin]
    assert upper.min() < 128
    assert lower.min() < 128


def test_contact_sheet_refuses_names_that_do_not_match_the_rows():
    with pytest.raises(ValueError, match="3 names for 2 rows"):
        contact_sheet(np.stack([GREY] * 3), columns=2, row_names=["a", "b", "c"])


def test_module_imports_without_torch():
    code = "import sys, factory.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
