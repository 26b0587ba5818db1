import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest

from factory.metrics import detection
from factory.metrics.detection import detect, fewest_images
from factory.spec import SpecError

DOMAINS = ("pixel", "dct")


def smooth_images(num_images, *, seed, shape=(8, 8, 1)):
    """Blurred noise, the same kind for every seed."""
    noise = np.random.default_rng(seed).standard_normal((num_images, *shape))
    smooth = gaussian_filter(noise, (0, 1.5, 1.5, 0), mode="wrap")
    return as_images(128 + 40 * smooth / smooth.std())


def noise_images(num_images, *, seed, shape=(8, 8, 1)):
    return np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8)


def as_images(values):
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def tell(real, synthetic, domain, *, seed=0, test_fraction=0.25, confidence=0.95):
    return detect(
        real,
        synthetic,
        domain=domain,
        test_fraction=test_fraction,
        confidence=confidence,
        seed=seed,
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_interval_holds_chance_as_often_as_it_says_for_two_halves_of_one_set(domain):
    images = smooth_images(1600, seed=0, shape=(6, 6, 1))
    halves = [np.random.default_rng(seed).permutation(1600) for seed in range(50)]
    found = [
        tell(images[order[:800]], images[order[800:]], domain, seed=seed)
        for seed, order in enumerate(halves)
    ]
    missed = sum(not result.low <= 0.5 <= result.high for result in found)
    # 2.5 are expected; 8 or more come once in 200 times.
    assert missed < 8
    assert np.mean([result.accuracy for result in found]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("domain", DOMAINS)
def test_two_sets_of_one_kind_are_at_chance_with_more_values_than_images(domain):
    a, b = (smooth_images(800, seed=seed, shape=(20, 20, 3)) for seed in (0, 1))
    result = tell(a, b, domain)
    assert result.num_train * 2 < 20 * 20 * 3
    assert result.low <= 0.5 <= result.high


def checkerboard(images):
    """Adds a faint grid, light or dark by chance, so that no pixel changes on average."""
    rows, columns = np.indices(images.shape[1:3])
    grid = np.where((rows + columns) % 2, 1, -1)[None, :, :, None]
    signs = np.random.default_rng(0).choice([-1, 1], (len(images), 1, 1, 1))
    return as_images(images + 3.0 * signs * grid)


def upsampled(images):
    return images[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)


@pytest.mark.parametrize("plant", [checkerboard, upsampled])
def test_artefact_of_upsampling_is_found_by_its_frequencies_and_not_by_its_pixels(plant):
    real, synthetic = smooth_images(800, seed=0), plant(smooth_images(800, seed=1))
    assert tell(real, synthetic, "dct").low > 0.85
    pixel = tell(real, synthetic, "pixel")
    assert pixel.low <= 0.5 <= pixel.high


@pytest.mark.parametrize("domain", DOMAINS)
def test_fixed_pattern_is_found(domain):
    pattern = 20 * np.random.default_rng(0).standard_normal((8, 8, 1))
    real, synthetic = smooth_images(800, seed=0), smooth_images(800, seed=1)
    assert tell(real, as_images(synthetic + pattern), domain).low > 0.8


@pytest.mark.parametrize("domain", DOMAINS)
def test_result_does_not_depend_on_the_sides_or_on_the_order_of_images(domain):
    real = noise_images(900, seed=0)
    synthetic = as_images(noise_images(800, seed=1) + 20.0 * (np.arange(8) > 3)[:, None])
    result = tell(real, synthetic, domain)
    assert 0.5 < result.accuracy < 1
    assert tell(synthetic, real, domain) == result
    order = np.random.default_rng(0).permutation(800)
    assert tell(real[order], synthetic[order[::-1]], domain) == tell(real[:800], synthetic, domain)
    assert tell(real, synthetic, domain, seed=1) != result


@pytest.mark.parametrize("shape", [(6, 6, 1), (20, 20, 1)])
def test_weights_change_their_signs_and_no_bit_with_the_sides(shape):
    real, synthetic = (
        detection._sorted(noise_images(100, seed=seed, shape=shape), 0) for seed in (0, 1)
    )
    weights = detection._fit((real, synthetic), "dct").weights
    assert np.array_equal(detection._fit((synthetic, real), "dct").weights, -weights)


def test_sides_are_cut_to_the_smaller_one_and_split():
    result = tell(smooth_images(1200, seed=0), smooth_images(764, seed=1), "pixel")
    # A quarter of 764; a fifth of the other 573.
    assert (result.num_test, result.num_validation, result.num_train) == (191, 115, 458)
    assert result.accuracy * 382 == pytest.approx(round(result.accuracy * 382))
    expected = binomtest(round(result.accuracy * 382), 382).proportion_ci(0.95, method="wilson")
    assert (result.low, result.high) == tuple(expected)


def test_images_of_the_test_are_not_learned_though_both_sides_hold_each_ten_times():
    # With more values than images a classifier knows every image that it was trained on.
    real, synthetic = (noise_images(200, seed=seed, shape=(20, 20, 1)) for seed in (0, 1))
    result = tell(real.repeat(10, axis=0), synthetic.repeat(10, axis=0), "pixel")
    assert result.accuracy < 0.7


@pytest.mark.parametrize("domain", DOMAINS)
def test_images_that_are_the_same_on_both_sides_cannot_be_told(domain):
    images = noise_images(800, seed=0)
    assert tell(images, images, domain).accuracy == 0.5
    # Nor can they where one side has but half of the other's.
    half = tell(noise_images(1600, seed=0), noise_images(1600, seed=0)[:800], domain)
    assert half.low <= 0.5 <= half.high


@pytest.mark.parametrize(
    ("num_images", "solution"), [(100, detection._solve), (30, detection._solve_for_images)]
)
def test_weights_are_those_of_ridge_regression(num_images, solution):
    images = smooth_images(num_images, seed=0, shape=(6, 6, 1))
    targets = np.repeat([1.0, -1.0], num_images // 2)
    mean, scale = detection._standardisation(images, "dct")
    empty = detection._Linear("dct", mean, scale, np.empty((36, 0)))
    x = empty.features(images).astype(np.float64)
    assert np.allclose(x.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(x.std(axis=0), 1)
    # Ridge regression is least squares with rows that ask for small weights.
    pulls = [np.sqrt(num_images * s) * np.eye(36) for s in detection.STRENGTHS]
    aims = np.concatenate([targets, np.zeros(36)])
    expected = [np.linalg.lstsq(np.concatenate([x, p]), aims)[0] for p in pulls]
    assert np.allclose(solution(empty, images, targets).T, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("domain", DOMAINS)
def test_blocks_do_not_change_the_result(monkeypatch, domain):
    real, synthetic = smooth_images(800, seed=0), checkerboard(smooth_images(800, seed=1))
    whole = tell(real, synthetic, domain)
    monkeypatch.setattr(detection, "_NUMBERS", 100 * 64)
    assert tell(real, synthetic, domain).accuracy == pytest.approx(whole.accuracy, abs=0.01)


def test_images_too_large_for_the_matrix_are_told_from_fewer_training_images(monkeypatch):
    real, synthetic = smooth_images(800, seed=0), checkerboard(smooth_images(800, seed=1))
    monkeypatch.setattr(detection, "_UNKNOWNS", 60)
    result = tell(real, synthetic, "dct")
    assert (result.num_train, result.num_test) == (30, 200)
    assert result.accuracy > 0.6
    monkeypatch.setattr(detection, "_HELD", 40 * 64)
    assert tell(real, synthetic, "dct").num_train == 20


def test_images_that_do_not_vary_are_at_chance():
    grey = np.full((800, 8, 8, 1), 100, np.uint8)
    assert tell(grey, grey, "pixel") is None
    assert tell(smooth_images(800, seed=0), grey, "pixel") is None
    lit = np.arange(800)[:, None, None, None] % 250 + np.zeros((1, 8, 8, 1))
    result = tell(lit.astype(np.uint8), lit[::-1].astype(np.uint8), "dct")
    assert result.accuracy == 0.5


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_fewest_images_give_an_interval_of_five_points(confidence):
    def half_width(num_test):
        low, high = binomtest(num_test, 2 * num_test).proportion_ci(confidence, method="wilson")
        return (high - low) / 2

    num_test = fewest_images(0.5, confidence) // 2
    assert half_width(num_test) <= 0.05 < half_width(num_test - 1)


def test_too_few_images_are_refused_with_the_number_needed():
    with pytest.raises(SpecError, match=r"1000 real and 763 synthetic images.*764 of each"):
        tell(smooth_images(1000, seed=0), smooth_images(763, seed=1), "pixel")


def test_images_of_other_sizes_are_refused():
    small = smooth_images(800, seed=1, shape=(8, 6, 1))
    with pytest.raises(SpecError, match=r"are \[8, 8, 1\] and synthetic ones \[8, 6, 1\]"):
        tell(smooth_images(800, seed=0), small, "pixel")
