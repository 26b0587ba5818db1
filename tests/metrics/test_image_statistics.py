import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from factory.metrics import image_statistics as module
from factory.metrics.image_statistics import differences, image_statistics, summarise
from factory.spec import SpecError


def noise(num_images, *, seed=0, shape=(16, 16, 3)):
    return np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8)


def plain(colour, *, side=8):
    return np.broadcast_to(np.uint8(colour), (1, side, side, len(colour)))


@pytest.mark.parametrize(
    ("colour", "luminance", "saturation"),
    [
        ((255, 0, 0), 76.245, 1),
        ((0, 255, 0), 149.685, 1),
        ((0, 0, 255), 29.07, 1),
        ((200, 100, 100), 129.9, 0.5),
        ((90, 90, 90), 90, 0),
        ((0, 0, 0), 0, 0),
    ],
)
def test_plain_colour_has_its_luma_and_saturation_and_nothing_else(colour, luminance, saturation):
    found = {name: values.item() for name, values in image_statistics(plain(colour)).items()}
    assert found == pytest.approx(
        {
            "luminance": luminance,
            "background_luminance": luminance,
            "contrast": 0,
            "high_frequencies": 0,
            "saturation": saturation,
        },
        abs=1e-9,
    )


def test_grey_images_have_no_saturation_and_else_the_statistics_of_rgb_ones():
    grey = noise(5, shape=(9, 12, 1))
    found, expected = image_statistics(grey), image_statistics(grey.repeat(3, axis=3))
    assert (expected.pop("saturation") == 0).all()
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert np.allclose(values, expected[name])


@pytest.mark.parametrize(("shape", "rows", "columns"), [((8, 16), 1, 2), ((5, 28), 1, 4)])
def test_background_is_an_eighth_of_the_side_all_around(shape, rows, columns):
    images = np.full((1, *shape, 1), 10, np.uint8)
    images[:, rows:-rows, columns:-columns] = 255
    assert image_statistics(images)["background_luminance"] == 10
    images[:, rows - 1] = 20
    images[:, :, -columns] = 20
    assert image_statistics(images)["background_luminance"] > 10


def test_contrast_and_high_frequencies_of_a_checkerboard_and_a_ramp():
    rows, columns = np.indices((8, 8))
    board = np.where((rows + columns) % 2, 255, 0)
    images = np.stack([board, 10 * rows + 20 * columns])[..., None].astype(np.uint8)
    found = image_statistics(images)
    assert found["contrast"].tolist() == pytest.approx([127.5, np.sqrt(525 + 4 * 525)])
    # Four times 255 up or down; and a plane has no curvature.
    assert found["high_frequencies"].tolist() == [1020**2, 0]


def test_blur_takes_high_frequencies_away_and_leaves_luminance():
    sharp = noise(20)
    soft = gaussian_filter(sharp, (0, 1, 1, 0), mode="wrap")
    before, after = image_statistics(sharp), image_statistics(soft)
    assert (after["high_frequencies"] < before["high_frequencies"] / 10).all()
    assert (after["contrast"] < before["contrast"]).all()
    assert np.allclose(after["luminance"], before["luminance"], atol=1.5)


def test_image_has_the_same_statistics_in_any_company(monkeypatch):
    images = noise(7)
    whole = image_statistics(images)
    monkeypatch.setattr(module, "_NUMBERS", 2 * images[0].size)
    for name, values in image_statistics(images).items():
        assert np.allclose(values, whole[name], rtol=1e-12)


def test_summary_has_the_interval_of_student():
    found = summarise({"luminance": np.array([1.0, 2.0, 3.0])}, 0.95)["luminance"]
    # 4.302653 is the 97.5 % point of t with two degrees of freedom.
    half = 4.302653 / np.sqrt(3)
    assert (found.mean, found.spread, found.num_images) == (2, 1, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_difference_has_the_interval_of_welch_and_changes_its_sign_with_the_sides():
    a, b = np.array([1.0, 2, 3]), np.array([10.0, 14, 12, 20])
    found = differences({"x": a, "only here": a}, {"x": b}, 0.9)
    assert found.keys() == {"x"}
    parts = a.var(ddof=1) / 3, b.var(ddof=1) / 4
    # 2.353363 and 2.131847 are the 95 % points of t with three and four degrees of freedom.
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    assert 3 < degrees < 4
    half = (found["x"].high - found["x"].low) / 2
    assert 2.131847 < half / np.sqrt(sum(parts)) < 2.353363
    assert found["x"].difference == -12
    back = differences({"x": b}, {"x": a}, 0.9)["x"]
    assert (back.difference, back.low, back.high) == pytest.approx(
        (12, -found["x"].high, -found["x"].low)
    )


def test_interval_of_the_difference_holds_the_true_one_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        a, b = generator.normal(5, 1, 40), generator.normal(3, 4, 15)
        found = differences({"x": a}, {"x": b}, 0.9)["x"]
        held += found.low <= 2 <= found.high
    assert 430 <= held <= 470


def test_values_that_do_not_vary_have_an_interval_without_width():
    same = {"contrast": np.full(5, 3.0)}
    assert summarise(same, 0.95)["contrast"].low == summarise(same, 0.95)["contrast"].high == 3
    found = differences(same, {"contrast": np.full(4, 1.0)}, 0.95)["contrast"]
    assert (found.difference, found.low, found.high) == (2, 2, 2)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 2, 8, 3), (4, 8, 8, 4)])
def test_images_without_statistics_are_refused(shape):
    with pytest.raises(SpecError, match="3 px or more and 1 or 3 channels"):
        image_statistics(np.zeros(shape, np.uint8))


def test_interval_of_one_image_is_refused():
    one, two = {"x": np.ones(1)}, {"x": np.arange(2.0)}
    with pytest.raises(SpecError, match="1 images have no spread"):
        summarise(one, 0.95)
    with pytest.raises(SpecError, match="1 images have no spread"):
        differences(two, one, 0.95)
