"""How good a classifier's probabilities are: accuracy, F1, confusion, calibration, entropy.

N test images, K classes. Everywhere `labels` are int64 [N] from 0 to K - 1, and `probabilities`
floating [N, K] in [0, 1], of any precision; the predicted class is the most probable one (of
equal ones the first).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from factory.spec import Frozen

NUM_BINS = 15
"""Bins of the calibration, as in Guo et al. 2017."""

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating]


class ReliabilityBin(Frozen):
    """Predictions whose confidence lies in one bin."""

    low: float
    """Exclusive, but for the first bin."""
    high: float
    """Inclusive."""
    count: int
    confidence: float | None
    """Mean probability of the predicted class; None: an empty bin."""
    accuracy: float | None
    """Share of right predictions; None: an empty bin."""


class Calibration(Frozen):
    """Whether a classifier is as often right as it says."""

    error: float
    """Expected calibration error in [0, 1] (Guo et al. 2017, Eq. 3); 0 is best."""
    bins: tuple[ReliabilityBin, ...]
    """`NUM_BINS` bins of equal width from 0 to 1."""


def is_correct(labels: Labels, probabilities: Probabilities) -> NDArray[np.bool_]:
    """Which images are classified rightly, [N]."""
    return _predicted(labels, probabilities) == labels


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Share of images that are classified rightly (top-1)."""
    return float(is_correct(labels, probabilities).mean())


def per_class_accuracy(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Share of each class's images that are classified rightly (recall), [K].

    NaN for a class without a test image.
    """
    counts = _pair_counts(labels, probabilities)
    present = counts.sum(axis=1)
    return np.where(present, counts.diagonal() / np.maximum(present, 1), np.nan)


def macro_f1(labels: Labels, probabilities: Probabilities) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), in [0, 1].

    Classes without a test image are left out of the mean; images wrongly given to them still
    count as misses of their own class.
    """
    counts = _pair_counts(labels, probabilities)
    present = counts.sum(axis=1)
    # 2 TP + FP + FN is what is in the class and what is said to be.
    f1 = 2 * counts.diagonal() / np.maximum(present + counts.sum(axis=0), 1)
    return float(f1[present > 0].mean())


def confusion(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Shares of each true class (row) that are given to each class (column), [K, K].

    A row sums to 1, or is 0 for a class without a test image.
    """
    counts = _pair_counts(labels, probabilities)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def calibration(labels: Labels, probabilities: Probabilities) -> Calibration:
    """Expected calibration error and its reliability bins (Guo et al. 2017, Eq. 3).

    The mean over bins of |accuracy - mean confidence|, weighted with the bins' images.
    """
    correct = is_correct(labels, probabilities)
    confidence = probabilities.max(axis=1)
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    # A bin holds its upper edge; a rounded probability may lie a little above 1.
    index = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(index, minlength=NUM_BINS)
    right = np.bincount(index, weights=correct, minlength=NUM_BINS)
    believed = np.bincount(index, weights=confidence, minlength=NUM_BINS)
    bins = tuple(
        ReliabilityBin(
            low=edges[b],
            high=edges[b + 1],
            count=int(counts[b]),
            confidence=believed[b] / counts[b] if counts[b] else None,
            accuracy=right[b] / counts[b] if counts[b] else None,
        )
        for b in range(NUM_BINS)
    )
    return Calibration(error=np.abs(right - believed).sum() / len(labels), bins=bins)


def output_entropies(probabilities: Probabilities) -> NDArray[np.float64]:
    """How undecided the classifier is about each image: entropy in nats, [N], in [0, log K].

    No labels are needed, so the images may be synthetic ones that show nobody knows what.
    """
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(
            f"probabilities are {list(probabilities.shape)}; give [N, K] with N and K of 1 or more"
        )
    # 0 log 0 is 0.
    return entr(probabilities.astype(np.float64)).sum(axis=1)


def output_entropy(probabilities: Probabilities) -> float:
    """Mean entropy of an image's probabilities in nats (yamaguchi2024, Eq. 4).

    The paper calls it marginal entropy, which elsewhere is the entropy of the mean probabilities;
    its formula is this one.
    """
    return float(output_entropies(probabilities).mean())


def _predicted(labels: Labels, probabilities: Probabilities) -> Labels:
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or not len(labels):
        raise ValueError(
            f"labels are {list(labels.shape)} and probabilities {list(probabilities.shape)}; give "
            "[N] and [N, K] with N of 1 or more"
        )
    return probabilities.argmax(axis=1)


def _pair_counts(labels: Labels, probabilities: Probabilities) -> NDArray[np.int64]:
    """Images of each true class (row) that are given to each class (column), [K, K]."""
    predicted = _predicted(labels, probabilities)
    num_classes = probabilities.shape[1]
    pairs = labels * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
