import numpy as np
import pytest

from factory.metrics.frechet import Moments, frechet_distance, moments


def gaussian(mean, covariance):
    return Moments(1_000, np.asarray(mean, float), np.asarray(covariance, float))


def test_distance_of_commuting_gaussians_is_the_closed_form():
    a = gaussian([0, 0, 0], np.diag([1.0, 4.0, 9.0]))
    b = gaussian([1, -2, 0.5], np.diag([4.0, 1.0, 16.0]))
    # |m|^2 + sum of (s_a - s_b)^2
    assert frechet_distance(a, b) == pytest.approx(5.25 + 1 + 1 + 1, abs=1e-7)


def test_distance_of_rotated_gaussians_is_that_of_the_unrotated():
    generator = np.random.default_rng(0)
    rotation = np.linalg.qr(generator.standard_normal((5, 5)))[0]
    a, b = np.diag([1.0, 2, 3, 4, 5]), np.diag([5.0, 1, 2, 2, 7])
    flat = frechet_distance(gaussian(np.zeros(5), a), gaussian(np.ones(5), b))
    turned = frechet_distance(
        gaussian(np.zeros(5), rotation @ a @ rotation.T),
        gaussian(rotation @ np.ones(5), rotation @ b @ rotation.T),
    )
    assert turned == pytest.approx(flat, rel=1e-7)


def test_distance_of_a_set_with_itself_is_zero_and_of_two_sets_symmetric():
    generator = np.random.default_rng(0)
    mix = generator.standard_normal((8, 8))
    a = moments(generator.standard_normal((300, 8)) @ mix)
    b = moments(generator.standard_normal((200, 8)) + 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    assert frechet_distance(a, b) > 1


def test_features_that_never_vary_have_a_distance():
    still = np.zeros((50, 4))
    assert frechet_distance(moments(still), moments(still + 2)) == pytest.approx(16, abs=1e-3)


def test_distance_of_float32_features_is_computed_in_float64():
    features = np.random.default_rng(0).standard_normal((500, 6)) + 1_000
    exact = moments(features.astype(np.float32).astype(np.float64))
    assert np.array_equal(moments(features.astype(np.float32)).covariance, exact.covariance)


def test_moments_of_too_few_samples_are_refused():
    with pytest.raises(ValueError, match=r"\[8, 8\]; give more samples than features"):
        moments(np.zeros((8, 8)))
