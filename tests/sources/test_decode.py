"""Images are converted as asked, and refused where they differ or are corrupt."""

import numpy as np
import pytest
from PIL import Image

from factory.sources.open import open_source
from factory.spec import SourceSpec, SpecError
from tests.sources.pictures import encode, pictures, write_parquet

LABELS = [0, 1, 2, 2, 1, 0, 0, 0, 1]


@pytest.fixture
def images():
    return pictures(9)


def opened(tmp_path, cells, labels=LABELS, **fields):
    path = write_parquet(tmp_path / "train.parquet", cells, labels)
    return open_source(SourceSpec(path=str(path), **fields))


def test_corrupt_images_are_counted_and_at_most_five_are_named(tmp_path, images):
    cells = [encode(image)[: 40 if row > 2 else None] for row, image in enumerate(images)]
    with pytest.raises(SpecError) as error:
        opened(tmp_path, cells)
    message = str(error.value)
    assert all(part in message for part in ["6 of 9", "row 3 (3.png)", "row 7", "and 1 more"])
    assert "row 8" not in message
    assert "skip_corrupt" in message


def test_skipped_images_are_named_and_everything_else_is_kept_in_order(tmp_path, images):
    cells = [encode(image)[: 40 if row in (0, 4) else None] for row, image in enumerate(images)]
    source = opened(tmp_path, cells, skip_corrupt=True)
    assert source.skipped == ("row 0 (0.png)", "row 4 (4.png)")
    rows = [row for row in range(9) if row not in (0, 4)]
    assert np.array_equal(source.images, images[rows])
    assert source.labels.tolist() == [LABELS[row] for row in rows]
    assert opened(tmp_path, images, skip_corrupt=True).skipped == ()


@pytest.mark.parametrize("corrupt", [(2, 3), range(9)], ids=["one class", "everything"])
def test_skipping_all_images_of_a_class_is_refused_naming_it(tmp_path, images, corrupt):
    cells = [encode(image)[: 40 if row in corrupt else None] for row, image in enumerate(images)]
    with pytest.raises(SpecError, match=r"nothing is left of \[.*'cow'\]"):
        opened(tmp_path, cells, skip_corrupt=True)


@pytest.mark.parametrize(
    ("odd", "got", "field"),
    [
        (pictures(1, size=9)[0], "9x9 grey", "image_size"),
        (pictures(1, channels=3)[0], "8x8 RGB", "channels"),
    ],
)
def test_images_that_differ_are_refused_naming_both_and_the_field_to_set(
    tmp_path, images, odd, got, field
):
    with pytest.raises(SpecError) as error:
        opened(tmp_path, [*images[:8], odd])
    wanted = ["row 8 (8.png)", got, "row 0 (0.png)", "8x8 grey", field]
    assert all(part in str(error.value) for part in wanted)
    assert opened(tmp_path, [*images[:8], odd], image_size=8, channels=1).images.shape == (
        9,
        8,
        8,
        1,
    )


@pytest.mark.parametrize("resample", ["nearest", "lanczos"])
def test_present_size_and_channels_change_no_pixel(tmp_path, images, resample):
    converted = opened(tmp_path, images, image_size=8, channels=1, resample=resample)
    assert converted.digest == opened(tmp_path, images).digest


def test_grey_to_rgb_repeats_it_and_back_gives_the_same_grey(tmp_path, images):
    rgb = opened(tmp_path, images, channels=3)
    assert np.array_equal(rgb.images, images.repeat(3, axis=3))
    assert np.array_equal(opened(tmp_path, rgb.images, channels=1).images, images)


def test_rgb_to_grey_is_the_luma_of_itu_r_601(tmp_path):
    colours = pictures(9, channels=3)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    grey = opened(tmp_path, colours, channels=1).images[..., 0]
    assert np.abs(grey - luma).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("is_upright", [True, False])
def test_resizing_fits_the_shorter_side_and_cuts_out_the_centre(tmp_path, is_upright):
    # 16x8 px in columns of their own grey: at half the size the middle four of eight are kept.
    wide = np.arange(16, dtype=np.uint8)[None, :, None].repeat(8, axis=0)
    picture = wide.transpose(1, 0, 2) if is_upright else wide
    made = opened(tmp_path, [picture], [0], image_size=4, resample="nearest").images[0, :, :, 0]
    half = np.asarray(Image.fromarray(wide[:, :, 0]).resize((8, 4), Image.Resampling.NEAREST))
    expected = half[:, 2:6]
    assert np.array_equal(made, expected.T if is_upright else expected)


def test_filters_of_the_resizing_differ(tmp_path, images):
    kinds = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    digests = {opened(tmp_path, images, image_size=5, resample=kind).digest for kind in kinds}
    assert len(digests) == len(kinds)


def test_images_without_a_label_are_named(tmp_path, images):
    labels = [None if row in (1, 6) else label for row, label in enumerate(LABELS)]
    with pytest.raises(SpecError, match=r"2 of 9 .* row 1 \(1\.png\), row 6 \(6\.png\)"):
        opened(tmp_path, images, labels)


def test_class_names_serve_files_that_declare_none_and_contradict_no_others(tmp_path, images):
    path = write_parquet(tmp_path / "plain.parquet", images, LABELS, names=None)
    names = ("x", "y", "z")
    assert open_source(SourceSpec(path=str(path), class_names=names)).class_names == names
    with pytest.raises(SpecError, match=r"class_names is \['x', 'y', 'z'\].*\['zebra', 'ant'"):
        opened(tmp_path, images, class_names=names)
