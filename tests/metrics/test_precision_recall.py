import numpy as np
import pytest
import torch
from prdc import compute_prdc

from factory.metrics.precision_recall import neighbourhoods, precision_recall


def features(num_samples, size, seed, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((num_samples, size))


def measure(real, synthetic, k=3, **options):
    result = precision_recall(neighbourhoods(real, k, **options), synthetic)
    return result.precision, result.recall


def grid(num_samples, size, seed):
    """Whole numbers about 0, with many copies and ties: exact in float32."""
    half = np.random.default_rng(seed).integers(-2, 3, (num_samples // 2, size)).astype(np.float32)
    return np.concatenate([half, -half])


def plain(real, synthetic, k):
    """The definition, on the full matrices of exact distances."""

    def covered(points, others):
        apart = np.square(others[:, None] - others[None]).sum(axis=2)
        np.fill_diagonal(apart, np.inf)
        radii = np.sort(apart, axis=1)[:, k - 1]
        reach = np.square(points[:, None] - others[None]).sum(axis=2)
        return float((reach <= radii).any(axis=1).mean())

    return covered(synthetic, real), covered(real, synthetic)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "k", "scale"), [(2, 1, 0.5), (8, 3, 0.8), (64, 3, 0.95), (64, 10, 1.1), (512, 5, 1.0)]
)
def test_values_agree_with_prdc(dtype, size, k, scale):
    real, synthetic = (x.astype(dtype) for x in (features(400, size, 0), features(300, size, 1)))
    synthetic *= dtype(scale)
    expected = compute_prdc(real, synthetic, k)
    assert 0 < expected["precision"] + expected["recall"] < 2
    assert measure(real, synthetic, k) == (expected["precision"], expected["recall"])


@pytest.mark.parametrize("k", [1, 3, 7])
def test_values_with_copies_and_ties_follow_the_definition(k):
    real, synthetic = grid(120, 4, 0), grid(80, 4, 1)
    assert measure(real, synthetic, k) == plain(real, synthetic, k)


@pytest.mark.parametrize("tile", [1, 79, 80, 1_000, 2**25])
def test_tiles_of_any_size_give_the_same_values(tile):
    real, synthetic = grid(120, 6, 0), 2 * grid(80, 6, 1)
    whole = neighbourhoods(real, 3)
    parts = neighbourhoods(real, 3, tile=tile)
    assert torch.equal(parts.squared_radii, whole.squared_radii)
    assert precision_recall(parts, synthetic, tile=tile) == precision_recall(whole, synthetic)


def test_radius_leaves_the_sample_out_but_not_its_copies():
    line = np.array([[-3.0], [-1.0], [-1.0], [0.0], [5.0]])
    squared = [neighbourhoods(line, k).squared_radii.tolist() for k in (1, 2)]
    assert squared[0] == pytest.approx([4, 0, 0, 1, 25], abs=1e-3)
    assert squared[1] == pytest.approx([4, 1, 1, 1, 36], abs=1e-3)


@pytest.mark.parametrize("size", [16, 64, 2048])
def test_copies_lie_in_balls_without_a_radius(size):
    # Two of each sample: with k = 1 every radius is 0. Other tiles round otherwise.
    once = features(100, size, 0).astype(np.float32) + 3
    balls = neighbourhoods(np.tile(once, (2, 1)), 1)
    for tile in (1, 2**25):
        copies = precision_recall(balls, np.tile(once, (3, 1))[17:], tile=tile)
        assert (copies.precision, copies.recall) == (1, 1)
    near = precision_recall(balls, np.tile(once, (2, 1)) + np.float32(0.5))
    assert (near.precision, near.recall) == (0, 0)


def test_precision_falls_with_noise_and_recall_with_dropped_modes():
    centres = np.repeat(20 * np.eye(4), 100, axis=0)
    real = centres + features(400, 4, 0)
    alike = centres + features(400, 4, 1)
    noisy = np.concatenate([alike[::2], 300 + features(200, 4, 2)])
    precision, recall = measure(real, alike)
    assert min(precision, recall) > 0.9
    assert measure(real, alike[:200])[0] == pytest.approx(precision, abs=0.05)
    assert measure(real, alike[:200])[1] == pytest.approx(recall / 2, abs=0.05)
    assert measure(real, noisy)[0] == pytest.approx(precision / 2, abs=0.05)


def test_values_are_unchanged_by_order_shift_scale_and_rotation():
    real, synthetic = features(200, 10, 0), features(150, 10, 1, scale=0.9)
    expected = measure(real, synthetic)
    turn = np.linalg.qr(features(10, 10, 2))[0]
    order = np.random.default_rng(3).permutation(200)
    assert measure(real[order], synthetic[::-1]) == expected
    assert measure(real + 1_000, synthetic + 1_000) == expected
    assert measure(real.astype(np.float32) + 64, synthetic.astype(np.float32) + 64) == expected
    assert measure(3 * real @ turn, 3 * synthetic @ turn) == expected


def test_swapped_sets_swap_precision_and_recall():
    a, b = features(200, 10, 0), features(150, 10, 1, scale=0.8)
    assert measure(b, a) == measure(a, b)[::-1]


def test_balls_of_the_real_set_serve_for_several_synthetic_sets():
    real = neighbourhoods(features(200, 10, 0), 3)
    first, second = features(150, 10, 1, scale=0.7), features(50, 10, 2)
    alone = precision_recall(neighbourhoods(features(200, 10, 0), 3), second)
    precision_recall(real, first)
    assert precision_recall(real, second) == alone
    assert (alone.num_real, alone.num_synthetic, alone.neighbours) == (200, 50, 3)


@pytest.mark.parametrize(("count", "k"), [(3, 3), (0, 1), (5, 0)])
def test_sets_of_k_samples_or_fewer_are_refused(count, k):
    with pytest.raises(ValueError, match=rf"\[{count}, 4\] and neighbours is {k}"):
        neighbourhoods(np.zeros((count, 4)), k)


def test_synthetic_sets_that_do_not_fit_are_refused():
    real = neighbourhoods(features(20, 4, 0), 3)
    with pytest.raises(ValueError, match=r"\[3, 4\] and neighbours is 3"):
        precision_recall(real, features(3, 4, 1))
    with pytest.raises(ValueError, match=r"\[20, 4\] and \[20, 5\]; give those of one extractor"):
        precision_recall(real, features(20, 5, 1))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(wrong):
    real, synthetic = features(20, 4, 0), features(20, 4, 1)
    balls = neighbourhoods(real, 3)
    synthetic[7, 2] = wrong
    with pytest.raises(ValueError, match="of 1 samples are not finite"):
        precision_recall(balls, synthetic)
    real[0, 0] = wrong
    with pytest.raises(ValueError, match="of 1 samples are not finite"):
        neighbourhoods(real, 3)


@pytest.mark.gpu
def test_values_on_a_gpu_are_those_of_the_cpu():
    real, synthetic = features(400, 64, 0), features(300, 64, 1, scale=0.95)
    assert measure(real, synthetic, device=torch.device("cuda")) == measure(real, synthetic)
