import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.spec import SpecError
from factory.vision import near_real
from factory.vision.near_real import Nearest, NearReal, pixels

CPU = torch.device("cpu")


def images(num_images, *, seed, shape=(6, 5, 1)):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_images, *shape), dtype=np.uint8)


def brute_force(queries, real):
    difference = queries.astype(np.float64)[:, None] - real.astype(np.float64)[None]
    return np.sqrt(np.square(difference).sum(axis=2).min(axis=1))


def calibrate(real, held_out, *, quantile=0.1, features=pixels):
    return NearReal(real, held_out, features=features, quantile=quantile, device=CPU)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_features=st.sampled_from([1, 3, 50]),
    offset=st.sampled_from([0.0, 30.0, 1e4]),
    spread=st.sampled_from([1e-3, 1.0]),
)
def test_distance_is_exact_where_long_vectors_lie_close_together(
    seed, num_features, offset, spread
):
    # Norms of up to 1e5 and distances down to 1e-3: the float32 expansion alone keeps no digit.
    generator = np.random.default_rng(seed)
    real = (offset + spread * generator.standard_normal((70, num_features))).astype(np.float32)
    queries = real[:30] + (spread * generator.standard_normal((30, num_features)) / 10)
    queries = np.concatenate([queries.astype(np.float32), real[:3]])
    found = Nearest(real, CPU).distances(queries)
    assert np.allclose(found, brute_force(queries, real), rtol=1e-12, atol=0)
    assert (found[-3:] == 0).all()


@pytest.mark.parametrize(
    ("queries", "reals", "differences"), [(7, 11, 60), (1, 200, 1), (50, 3, 8)]
)
def test_distance_has_the_same_bits_however_the_work_is_cut(
    monkeypatch, queries, reals, differences
):
    real, seen = pixels(images(120, seed=0)), pixels(images(40, seed=1))
    # Many pairs are equally near.
    real[60:90] = real[0]
    seen[5:9] = real[0] + np.float32(0.01)
    whole = Nearest(real, CPU).distances(seen)
    monkeypatch.setattr(near_real, "_QUERIES", queries)
    monkeypatch.setattr(near_real, "_REALS", reals)
    monkeypatch.setattr(near_real, "_DIFFERENCES", differences)
    assert np.array_equal(Nearest(real, CPU).distances(seen), whole)
    assert np.array_equal(Nearest(real[::-1].copy(), CPU).distances(seen), whole)


def test_filter_says_the_same_of_an_image_in_any_company():
    near = calibrate(images(100, seed=0), images(50, seed=1), quantile=0.5)
    candidates = images(40, seed=2)
    together = near(candidates, ["cat"] * 40)
    assert set(together) == {None, "near_real"}
    alone = [near(candidates[i : i + 1], ["cat"])[0] for i in range(40)]
    assert alone == together


@pytest.mark.parametrize(("quantile", "num_rejected"), [(0, 1), (0.01, 2), (0.1, 20), (1, 200)])
def test_threshold_rejects_the_given_share_of_the_held_out_images(quantile, num_rejected):
    real, held_out = images(100, seed=0), images(200, seed=1)
    near = calibrate(real, held_out, quantile=quantile)
    assert near(held_out, [""] * 200).count("near_real") == num_rejected
    expected = np.sort(brute_force(pixels(held_out), pixels(real)))[num_rejected - 1]
    assert near.threshold == pytest.approx(expected, rel=1e-12)


def test_copies_and_near_copies_are_rejected_and_images_as_far_as_others_are_not():
    real = images(100, seed=0)
    near = calibrate(real, images(100, seed=1), quantile=0.01)
    touched = real.copy()
    touched[:, 0, 0] ^= 7
    assert near(real, [""] * 100) == near(touched, [""] * 100) == ["near_real"] * 100
    # Honest images are rejected about as often as the quantile says.
    assert near(images(500, seed=2), [""] * 500).count("near_real") < 25


def test_copy_is_rejected_though_features_cannot_tell_the_held_out_images_apart():
    real = images(10, seed=0)
    near = calibrate(real, images(10, seed=1), features=lambda x: pixels(x) * 0)
    assert near.threshold == 0
    assert near(real, [""] * 10) == ["near_real"] * 10


def test_distances_are_taken_in_the_given_features():
    def brightness(shown):
        return pixels(shown).mean(axis=1, keepdims=True)

    real = np.full((2, 4, 4, 1), 100, dtype=np.uint8)
    held_out = np.full((1, 4, 4, 1), 110, dtype=np.uint8)
    near = calibrate(real, held_out, features=brightness)
    shown = np.stack([np.full((4, 4, 1), level, dtype=np.uint8) for level in (89, 91, 105, 111)])
    assert near(shown, [""] * 4) == [None, "near_real", "near_real", None]


def test_pixels_are_compared_in_the_unit_interval():
    black, white = np.zeros((1, 3, 3, 1), np.uint8), np.full((1, 3, 3, 1), 255, np.uint8)
    assert calibrate(black, white).threshold == 3


def test_held_out_images_among_the_real_ones_are_refused_by_number():
    real = images(20, seed=0)
    held_out = np.concatenate([images(5, seed=1), real[4:7]])
    with pytest.raises(SpecError, match=r"near_real.held_out: 3 of its 8 images are in real"):
        calibrate(real, held_out)


def test_images_of_other_sizes_are_refused():
    real, small = images(4, seed=0, shape=(6, 5, 3)), images(4, seed=1, shape=(6, 4, 3))
    with pytest.raises(SpecError, match="real has images 5x6 RGB, held_out 4x6 RGB"):
        calibrate(real, small)
    near = calibrate(real, images(4, seed=2, shape=(6, 5, 3)))
    with pytest.raises(SpecError, match="real: has images 5x6 RGB, the dataset's are 4x6 RGB"):
        near(small, [""] * 4)
