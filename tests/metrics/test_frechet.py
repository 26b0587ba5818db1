import tracemalloc
from functools import reduce

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from factory.metrics.frechet import (
    Moments,
    fewest_to_extrapolate,
    frechet_at_infinity,
    frechet_distance,
    moments,
)


def gaussian(mean, covariance):
    return Moments(1_000, np.asarray(mean, float), np.asarray(covariance, float))


def random_covariance(size, generator):
    root = generator.standard_normal((size, size))
    return root @ root.T + 0.1 * np.eye(size)


def features(num_samples, size, seed, *, spread=1.0, shift=0.0):
    """Correlated, in the same way for every seed."""
    mix = np.random.default_rng(99).standard_normal((size, size)) / np.sqrt(size)
    return np.random.default_rng(seed).standard_normal((num_samples, size)) @ mix * spread + shift


def assert_same_moments(a, b, rel=1e-12):
    assert a.num_samples == b.num_samples
    assert a.mean == pytest.approx(b.mean, rel=rel, abs=rel)
    assert a.covariance == pytest.approx(b.covariance, rel=rel, abs=rel)


def test_distance_of_commuting_gaussians_is_the_closed_form():
    a = gaussian([0, 0, 0], np.diag([1.0, 4.0, 9.0]))
    b = gaussian([1, -2, 0.5], np.diag([4.0, 1.0, 16.0]))
    # |m|^2 + sum of (s_a - s_b)^2
    assert frechet_distance(a, b) == pytest.approx(5.25 + 1 + 1 + 1, abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_distance_of_any_two_gaussians_is_that_of_the_map_between_them(seed):
    # x -> T x + d with a symmetric positive definite T moves N(m, A) to N(T m + d, T A T) at the
    # least cost, which is therefore the distance: E |x - T x - d|^2.
    generator = np.random.default_rng(seed)
    mean, shift = generator.standard_normal((2, 20))
    covariance, move = (random_covariance(20, generator) for _ in range(2))
    rest = np.eye(20) - move
    apart = rest @ mean - shift
    expected = apart @ apart + np.trace(rest @ covariance @ rest)
    a, b = gaussian(mean, covariance), gaussian(move @ mean + shift, move @ covariance @ move)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("size", [3, 50, 200])
def test_distance_agrees_with_the_root_of_scipy_and_with_torchmetrics(size):
    x, y = features(600, size, 0), features(500, size, 1, spread=1.2, shift=0.3)
    a, b = moments(x), moments(y)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    apart = a.mean - b.mean
    expected = apart @ apart + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    identity = torch.nn.Identity()
    identity.num_features = size
    metric = FrechetInceptionDistance(identity)
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(x), real=True)
    metric.update(torch.from_numpy(y), real=False)
    assert frechet_distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-9)


def test_distance_is_unchanged_by_a_common_rotation_and_shift():
    x, y = features(300, 8, 0), features(200, 8, 1, spread=2.0, shift=1.0)
    turn = np.linalg.qr(features(8, 8, 2))[0]
    expected = frechet_distance(moments(x), moments(y))
    turned = frechet_distance(moments(x @ turn + 50), moments(y @ turn + 50))
    assert turned == pytest.approx(expected, rel=1e-8)


def test_distance_of_a_set_with_itself_is_zero_and_of_two_sets_symmetric():
    a, b = moments(features(300, 8, 0)), moments(features(200, 8, 1, shift=1.0))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a, b) > 1


def test_features_that_never_vary_have_a_distance():
    still = np.zeros((50, 4))
    assert frechet_distance(moments(still), moments(still + 2)) == pytest.approx(16, abs=1e-3)


@pytest.mark.parametrize(
    ("num_a", "num_b"), [(1_000, 100), (100, 1_000), (60, 40), (60, 60), (300, 2)]
)
def test_distance_of_few_samples_is_exact_where_it_is_allowed(num_a, num_b):
    x, y = features(num_a, 200, 0), features(num_b, 200, 1, shift=0.1)
    # With centred samples X, Y as rows, tr (A B)^(1/2) is the sum of singular values of X Y^T.
    left, right = ((z - z.mean(axis=0)) / np.sqrt(len(z) - 1) for z in (x, y))
    apart = x.mean(axis=0) - y.mean(axis=0)
    cross = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    expected = apart @ apart + np.square(left).sum() + np.square(right).sum() - 2 * cross
    a, b = moments(x), moments(y)
    assert a.is_low_rank == (num_a <= 200)
    assert frechet_distance(a, b, allow_low_rank=True) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("num_a", "num_b"), [(8, 9), (9, 8), (1, 9)])
def test_distance_of_too_few_samples_is_refused(num_a, num_b):
    a, b = moments(features(num_a, 8, 0)), moments(features(num_b, 8, 1))
    with pytest.raises(ValueError, match=f"{num_a} and {num_b} samples with 8 features; give more"):
        frechet_distance(a, b)
    full = moments(features(9, 8, 2))
    assert not full.is_low_rank
    assert frechet_distance(full, full) == pytest.approx(0, abs=1e-5)


def test_distance_and_merge_of_other_numbers_of_features_are_refused():
    a, b = moments(features(9, 3, 0)), moments(features(9, 4, 1))
    for use in (frechet_distance, Moments.merge):
        with pytest.raises(ValueError, match="3 and 4 features; give those of one extractor"):
            use(a, b)


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 2, 2)])
def test_moments_of_anything_but_samples_and_features_are_refused(shape):
    with pytest.raises(ValueError, match=r"give \[N, D\] with N of 1 or more"):
        moments(np.zeros(shape))


def test_moments_of_one_and_of_many_blocks_are_those_of_numpy():
    for num_samples in (2, 50, 4_096, 4_097, 10_000):
        x = features(num_samples, 5, 0, shift=3.0)
        expected = Moments(num_samples, x.mean(axis=0), np.cov(x, rowvar=False))
        assert_same_moments(moments(x), expected)


def test_merged_moments_are_those_of_all_samples_in_any_order_and_grouping():
    x = features(1_000, 6, 0, shift=2.0)
    cuts = np.split(x, [1, 2, 40, 500, 503])
    whole = moments(x)
    parts = [moments(part) for part in cuts]
    order = np.random.default_rng(0).permutation(len(parts))
    assert_same_moments(reduce(Moments.merge, parts), whole)
    assert_same_moments(reduce(Moments.merge, [parts[i] for i in order]), whole)
    left, right = reduce(Moments.merge, parts[:3]), reduce(Moments.merge, parts[3:])
    assert_same_moments(left.merge(right), whole)
    assert_same_moments(moments(x[::-1]), whole)


def test_merged_moments_far_from_zero_lose_nothing():
    x = features(1_000, 4, 0)
    near = moments(x)
    far = reduce(Moments.merge, [moments(part + 1e6) for part in np.split(x, 10)])
    # Adding 1e6 itself rounds the samples by 1e-10.
    assert far.covariance == pytest.approx(near.covariance, abs=1e-9)


def test_float32_features_are_computed_in_float64():
    x = (features(500, 6, 0) + 1_000).astype(np.float32)
    exact = moments(x.astype(np.float64))
    assert np.array_equal(moments(x).covariance, exact.covariance)


def test_memory_of_moments_does_not_grow_with_the_samples():
    peaks = []
    for num_samples in (20_000, 200_000):
        x = np.ones((num_samples, 16), np.float32)
        tracemalloc.start()
        moments(x)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.fixture(scope="module")
def distances_of_alike_sets():
    """Distances, and those at infinity, of sets from one distribution: N -> the means of 30."""
    found = {}
    for num_samples in (100, 200, 400):
        pairs = [
            (features(num_samples, 16, 2 * n), features(num_samples, 16, 2 * n + 1))
            for n in range(1_000, 1_030)
        ]
        found[num_samples] = (
            np.mean([frechet_distance(moments(a), moments(b)) for a, b in pairs]),
            np.mean([frechet_at_infinity(a, b, seed=n) for n, (a, b) in enumerate(pairs)]),
        )
    return found


def test_bias_of_the_distance_falls_as_one_over_the_samples(distances_of_alike_sets):
    biased = [distance for distance, _ in distances_of_alike_sets.values()]
    assert biased[0] / biased[1] == pytest.approx(2, abs=0.15)
    assert biased[1] / biased[2] == pytest.approx(2, abs=0.15)


def test_distance_at_infinity_is_nearly_free_of_bias(distances_of_alike_sets):
    for distance, at_infinity in distances_of_alike_sets.values():
        assert abs(at_infinity) < 0.1 * distance


def test_distance_at_infinity_of_different_sets_is_that_of_their_distributions():
    # Those of `features` with spreads 1 and 1.5: T = 1.5 moves one to the other.
    mix = features(100_000, 16, 0)
    exact = 0.25 * np.trace(np.cov(mix, rowvar=False)) + 16 * 0.2**2
    pairs = [
        (features(300, 16, 2 * n), features(450, 16, 2 * n + 1, spread=1.5, shift=0.2))
        for n in range(500, 530)
    ]
    found = np.mean([frechet_at_infinity(a, b, seed=0) for a, b in pairs])
    biased = np.mean([frechet_distance(moments(a), moments(b)) for a, b in pairs])
    assert abs(found - exact) < 0.25 * abs(biased - exact)


def test_distance_at_infinity_cuts_sorted_samples_at_random():
    classes = np.repeat(10 * np.eye(4), 250, axis=0)
    a, b = classes + features(1_000, 4, 0), classes + features(1_000, 4, 1)
    mixed = b[np.random.default_rng(0).permutation(1_000)]
    assert frechet_at_infinity(a, mixed, seed=0) == pytest.approx(0, abs=0.1)


def test_distance_at_infinity_is_a_function_of_its_seed_and_zero_for_a_set_with_itself():
    a, b = features(200, 8, 0), features(300, 8, 1)
    assert frechet_at_infinity(a, b, seed=1) == frechet_at_infinity(a, b, seed=1)
    assert frechet_at_infinity(a, b, seed=1) != frechet_at_infinity(a, b, seed=2)
    assert frechet_at_infinity(a, a, seed=1) == pytest.approx(0, abs=1e-5)


def test_distance_at_infinity_of_too_few_samples_is_refused():
    few = fewest_to_extrapolate(8)
    assert frechet_at_infinity(features(few, 8, 0), features(few, 8, 1), seed=0) < 1
    with pytest.raises(ValueError, match=rf"\[{few - 1}, 8\].*at least {few} samples"):
        frechet_at_infinity(features(few - 1, 8, 0), features(few, 8, 1), seed=0)
