import numpy as np
import pytest

from factory.metrics.classification import (
    NUM_BINS,
    accuracy,
    calibration,
    confusion,
    is_correct,
    macro_f1,
    output_entropies,
    output_entropy,
    per_class_accuracy,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 3])
"""Class 3 has no test image."""


def sure(predicted, num_classes=4):
    return np.eye(num_classes)[predicted]


def test_scores_of_a_worked_example():
    p = sure(PREDICTED)
    assert is_correct(LABELS, p).tolist() == [True, True, True, False, True, False, False]
    assert accuracy(LABELS, p) == pytest.approx(4 / 7)
    assert per_class_accuracy(LABELS, p)[:3].tolist() == [0.75, 0.5, 0]
    assert np.isnan(per_class_accuracy(LABELS, p)[3])
    # F1 of the classes 0 to 2: 6 / 8, 2 / 4 and 0 / 1.
    assert macro_f1(LABELS, p) == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert confusion(LABELS, p).tolist() == [
        [0.75, 0.25, 0, 0],
        [0.5, 0.5, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]


def test_scores_do_not_depend_on_the_order_of_images_or_the_sharpness_of_probabilities():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    p = generator.dirichlet(np.ones(4), 200)
    order = generator.permutation(200)
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    for score in (accuracy, macro_f1):
        assert score(labels, p) == pytest.approx(score(labels[order], p[order]))
        assert score(labels, p) == score(labels, sharp.astype(np.float16))


def test_accuracy_is_the_mean_of_class_accuracies_weighted_with_their_images():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 300)
    p = generator.dirichlet(np.ones(4), 300)
    shares = np.bincount(labels) / 300
    assert accuracy(labels, p) == pytest.approx(shares @ per_class_accuracy(labels, p))
    assert np.allclose(confusion(labels, p).diagonal(), per_class_accuracy(labels, p))
    assert np.allclose(confusion(labels, p).sum(axis=1), 1)


def test_perfect_predictions_have_perfect_scores():
    labels = np.arange(12) % 4
    p = sure(labels)
    assert accuracy(labels, p) == macro_f1(labels, p) == 1
    assert calibration(labels, p).error == 0


def test_calibration_of_a_worked_example():
    # Four images believed with 0.8, three of them right; two believed with 0.62, none right.
    confidence = np.array([0.8, 0.8, 0.8, 0.8, 0.62, 0.62])
    p = np.stack([confidence, 1 - confidence], axis=1)
    result = calibration(np.array([0, 0, 0, 1, 1, 1]), p)
    assert result.error == pytest.approx(4 / 6 * 0.05 + 2 / 6 * 0.62)
    filled = {b.low: b for b in result.bins if b.count}
    # 0.8 is the upper edge of a bin, and belongs to it.
    assert [round(low * NUM_BINS) for low in filled] == [9, 11]
    low, high = filled.values()
    assert (low.count, low.accuracy, low.confidence) == (2, 0, pytest.approx(0.62))
    assert (high.count, high.accuracy, high.confidence) == (4, 0.75, pytest.approx(0.8))


def test_calibration_counts_every_image_once_whatever_its_confidence():
    top = np.linspace(0.5, 1, 401)
    p = np.stack([top, 1 - top], axis=1)
    for dtype in (np.float64, np.float16):
        result = calibration(np.zeros(401, dtype=np.int64), p.astype(dtype))
        assert len(result.bins) == NUM_BINS
        assert sum(b.count for b in result.bins) == 401
        # All are right: what misses is the confidence.
        assert result.error == pytest.approx(0.25, abs=1e-3)
        for b in result.bins:
            assert (b.confidence is None) == (b.count == 0)


def test_calibrated_predictions_have_a_small_error():
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.ones(3), 50_000)
    labels = (generator.random((50_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert calibration(labels, p).error < 0.01
    sharp = p**2 / (p**2).sum(axis=1, keepdims=True)
    assert calibration(labels, sharp).error > 0.1


def test_probabilities_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"labels are \[3\] and probabilities \[2, 4\]"):
        accuracy(np.zeros(3, np.int64), np.ones((2, 4)))
    with pytest.raises(ValueError, match="N of 1 or more"):
        macro_f1(np.zeros(0, np.int64), np.ones((0, 4)))


def test_entropy_is_zero_where_the_classifier_is_sure_and_log_k_where_it_is_not():
    p = np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.9, 0.1, 0, 0]])
    last = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    expected = [0, np.log(4), np.log(2), last]
    assert output_entropies(p).tolist() == pytest.approx(expected)
    assert output_entropy(p) == pytest.approx(np.mean(expected))


def test_entropy_is_that_of_single_images_and_not_of_their_mean():
    # Sure of every image, and on average of none.
    assert output_entropy(np.eye(4)) == 0
    p = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    average = p.mean(axis=0)
    assert output_entropy(p) < -(average @ np.log(average)) - 0.1


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_entropy_of_coarse_probabilities_is_summed_exactly(dtype):
    p = np.random.default_rng(0).dirichlet(np.full(100, 0.1), 2000).astype(dtype)
    assert np.isfinite(output_entropies(p)).all()
    assert output_entropy(p) == pytest.approx(output_entropy(p.astype(np.float64)), rel=1e-12)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,)])
def test_entropy_of_no_probabilities_is_refused(shape):
    with pytest.raises(ValueError, match="N and K of 1 or more"):
        output_entropy(np.ones(shape))
