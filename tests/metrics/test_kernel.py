from itertools import product

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from factory.metrics.kernel import kernel_distance


def features(num_samples, size, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((num_samples, size)) + shift


def value(a, b, **options):
    return kernel_distance(a, b, **{"confidence": 0.95, "seed": 0} | options).value


def test_mean_over_all_draws_is_the_distance_of_the_distributions():
    # With D = 1, k(x, y) = 1 + 3 xy + 3 x^2 y^2 + x^3 y^3: the distance of the distributions is
    # that of their first three moments, with these weights.
    left, right = np.array([-1.0, 0.0, 2.0]), np.array([-1.5, 1.0, 1.0])
    exact = sum(
        weight * (np.mean(left**power) - np.mean(right**power)) ** 2
        for power, weight in ((1, 3), (2, 3), (3, 1))
    )
    draws = [
        value(np.reshape(x, (2, 1)), np.reshape(y, (2, 1)))
        for x, y in product(product(left, repeat=2), product(right, repeat=2))
    ]
    assert np.mean(draws) == pytest.approx(exact, rel=1e-12)
    assert min(draws) < 0


def test_mean_over_all_draws_from_one_distribution_is_zero():
    values = [-1.0, 0.5, 2.0]
    draws = [
        value(np.reshape(x, (2, 1)), np.reshape(y, (2, 1)))
        for x, y in product(product(values, repeat=2), repeat=2)
    ]
    assert np.mean(draws) == pytest.approx(0, abs=1e-12)
    assert max(draws) > 0


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
@pytest.mark.parametrize("size", [3, 64, 200])
def test_value_of_whole_sets_agrees_with_torchmetrics(size):
    a, b = features(150, size, 0), features(150, size, 1, shift=0.3)
    metric = KernelInceptionDistance(torch.nn.Identity(), subsets=1, subset_size=150)
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    assert value(a, b) == pytest.approx(float(metric.compute()[0]), rel=1e-10)


def test_value_of_sets_larger_than_a_block_agrees_with_torchmetrics():
    a, b = features(2_100, 5, 0), features(2_100, 5, 1, shift=0.1)
    expected = float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))
    assert value(a, b, subset_size=2_100) == pytest.approx(expected, rel=1e-9)


def test_value_is_unchanged_by_the_order_and_a_common_rotation_and_reflection():
    a, b = features(40, 6, 0), features(40, 6, 1, shift=0.5)
    turn = np.linalg.qr(features(6, 6, 2))[0]
    assert value(a[::-1], b) == pytest.approx(value(a, b), rel=1e-12)
    assert value(b, a) == pytest.approx(value(a, b), rel=1e-12)
    assert value(a @ turn, b @ turn) == pytest.approx(value(a, b), rel=1e-10)


def test_float32_features_are_computed_in_float64():
    a, b = (features(50, 8, seed, shift=30.0).astype(np.float32) for seed in (0, 1))
    assert value(a, b) == value(a.astype(np.float64), b.astype(np.float64))


def test_interval_is_that_of_disjoint_subsets():
    a, b = features(95, 3, 0), features(130, 3, 1, shift=1.0)
    result = kernel_distance(a, b, confidence=0.9, seed=5, subset_size=30)
    assert (result.num_subsets, result.subset_size) == (3, 30)
    assert result.low < result.value < result.high
    wider = kernel_distance(a, b, confidence=0.99, seed=5, subset_size=30)
    assert (wider.value, wider.low < result.low) == (result.value, True)
    other = kernel_distance(a, b, confidence=0.9, seed=6, subset_size=30)
    assert other.value != result.value


def test_interval_covers_the_distance_of_the_distributions_as_often_as_it_says():
    # D = 1, normal: moments 0, 1, 0 against 0.5, 1.25, 1.625.
    exact = 3 * 0.5**2 + 3 * 0.25**2 + 1.625**2
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        a, b = generator.standard_normal((160, 1)), generator.standard_normal((160, 1)) + 0.5
        result = kernel_distance(a, b, confidence=0.9, seed=seed, subset_size=20)
        covered += result.low <= exact <= result.high
    # Subsets' values are skewed, which costs some per cent.
    assert 0.80 <= covered / 400 <= 0.94


def test_single_subset_has_no_interval():
    result = kernel_distance(features(5, 3, 0), features(9, 3, 1), confidence=0.95, seed=0)
    assert (result.num_subsets, result.subset_size) == (1, 5)
    assert (result.low, result.high) == (None, None)


@pytest.mark.parametrize(
    ("left", "right", "subset_size", "message"),
    [
        ((1, 3), (5, 3), 10, r"\[1, 3\] and \[5, 3\].*2 or more samples"),
        ((5, 3), (5, 4), 10, r"\[5, 3\] and \[5, 4\].*one extractor"),
        ((5, 3), (5, 3), 1, r"subset_size is 1.*subsets of 2 or more"),
    ],
)
def test_too_few_samples_or_other_features_are_refused(left, right, subset_size, message):
    with pytest.raises(ValueError, match=message):
        value(np.zeros(left), np.zeros(right), subset_size=subset_size)
