"""The Frechet distance between two sets of features, taken as Gaussians.

N samples, D features. The distance of given moments is exact to rounding; what it says of the
distributions behind the samples is biased: it is too large by about c / N, the more so the larger
D, and the ranking of two generators can be that of their numbers of samples (Chong and Forsyth,
CVPR 2020). So distances are comparable at equal N only, and a class's lies far above that of all
classes together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

EXTRAPOLATION_PARTS = (1, 2, 4)
"""Into how many parts of equal size `frechet_at_infinity` cuts the samples, one after the other."""

_RIDGE = 1e-10
"""Added to the diagonal, relative to its mean, so that a covariance of low rank has a root."""
_BLOCK = 4_096
"""Samples that are looked at in float64 at a time."""

Features = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Moments:
    """Number of samples, mean float64 [D] and unbiased covariance float64 [D, D].

    Those of blocks merge to those of all samples, in any order, to rounding: so a stream of any
    length needs no more memory than two of these. The covariance of one sample is 0.
    """

    num_samples: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def is_low_rank(self) -> bool:
        """Whether N is not above D: a distance is then mostly bias, and says little."""
        return self.num_samples <= len(self.mean)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of samples together.

        Sums of squares are kept about each block's own mean (Chan, Golub and LeVeque, The American
        Statistician 37, 1983, Eq. 1.5), so that features far from 0 cancel nothing.

        Raises:
            ValueError: if they have another number of features.
        """
        _refuse_other_features(self, other)
        total = self.num_samples + other.num_samples
        share = other.num_samples / total
        apart = other.mean - self.mean
        squares = (
            (self.num_samples - 1) * self.covariance
            + (other.num_samples - 1) * other.covariance
            + self.num_samples * share * np.outer(apart, apart)
        )
        return Moments(total, self.mean + share * apart, squares / (total - 1))


def moments(features: Features) -> Moments:
    """Moments of features [N, D] with N of 1 or more, computed in float64 block by block."""
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features are {list(features.shape)}; give [N, D] with N of 1 or more")
    starts = range(0, len(features), _BLOCK)
    return reduce(Moments.merge, (_block_moments(features[at : at + _BLOCK]) for at in starts))


def frechet_distance(a: Moments, b: Moments, *, allow_low_rank: bool = False) -> float:
    """Squared Frechet (2-Wasserstein) distance |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    A B has the eigenvalues of L^T B L, which is symmetric, where L L^T = A: so the trace of its
    root needs no root of a matrix that is not symmetric.

    Args:
        a: moments of one set, for example of real images.
        b: moments of the other.
        allow_low_rank: also take sides of D samples or fewer. The value is right for such moments,
            to 1e-7 of the covariances' traces, but mostly bias: say so where it is shown
            (`Moments.is_low_rank`).

    Raises:
        ValueError: if the numbers of features differ; or if a side has too few samples.
    """
    _refuse_other_features(a, b)
    if not allow_low_rank and (a.is_low_rank or b.is_low_rank):
        raise ValueError(
            f"moments are of {a.num_samples} and {b.num_samples} samples with {len(a.mean)} "
            "features; give more samples than features on both sides, since the distance of fewer "
            "is mostly their number's"
        )
    # The root of the side of higher rank: what the ridge adds where the other one has no variance
    # is lost in the product. The other way round low ranks were wrong by 1e-5 of the traces.
    low, high = sorted((a, b), key=lambda side: side.num_samples)
    size = len(high.mean)
    ridge = _RIDGE * (np.trace(high.covariance) / size or 1.0)
    root = np.linalg.cholesky(high.covariance + ridge * np.eye(size))
    eigenvalues = np.linalg.eigvalsh(root.T @ low.covariance @ root)
    cross = np.sqrt(eigenvalues.clip(min=0)).sum()
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


def frechet_at_infinity(a: Features, b: Features, *, seed: int) -> float:
    """The distance that infinitely many samples would have, estimated; it can be below 0.

    The bias of N samples is c / N and terms of higher order, so the distances of ever smaller
    parts lie on a straight line in 1 / N, whose value at 0 is free of c (Chong and Forsyth 2020).
    Both sides are shuffled and cut into 1, 2 and 4 parts, so that every sample counts at every
    size; the distances of parts of one size are averaged.

    It holds if the samples are independent of each other, between the sides too: not for
    reconstructions of the images that they are compared with. The estimate scatters more than the
    distance itself, and with 4 samples a feature some per cent of the bias stay, of either sign.

    Args:
        a: features [N, D] of one set.
        b: features [M, D] of the other.
        seed: of the parts. Sets of one size are cut alike, so that a set with itself has 0.

    Raises:
        ValueError: if a side has fewer samples than `fewest_to_extrapolate`.
    """
    few = fewest_to_extrapolate(a.shape[1])
    if min(len(a), len(b)) < few:
        raise ValueError(
            f"features are {list(a.shape)} and {list(b.shape)}; give at least {few} samples on "
            "both sides, so that their smallest parts have more samples than features"
        )
    quarters = [_shuffled_parts(side, EXTRAPOLATION_PARTS[-1], seed) for side in (a, b)]
    means = []
    for num_parts in EXTRAPOLATION_PARTS:
        parts = zip(*(_merge_to(num_parts, side) for side in quarters), strict=True)
        means.append(np.mean([frechet_distance(left, right) for left, right in parts]))
    slope_and_value = np.polyfit(EXTRAPOLATION_PARTS, means, deg=1)
    return float(slope_and_value[1])


def fewest_to_extrapolate(num_features: int) -> int:
    """Samples a side from which `frechet_at_infinity` works: its smallest parts have full rank."""
    return EXTRAPOLATION_PARTS[-1] * (num_features + 1)


def _block_moments(block: Features) -> Moments:
    exact = block.astype(np.float64)
    mean = exact.mean(axis=0)
    exact -= mean
    return Moments(len(exact), mean, exact.T @ exact / max(len(exact) - 1, 1))


def _shuffled_parts(features: Features, num_parts: int, seed: int) -> list[Moments]:
    order = np.random.default_rng(seed).permutation(len(features))
    return [moments(features[np.sort(part)]) for part in np.array_split(order, num_parts)]


def _merge_to(num_parts: int, parts: Sequence[Moments]) -> list[Moments]:
    """Neighbouring parts merged to fewer ones of equal size."""
    width = len(parts) // num_parts
    return [reduce(Moments.merge, parts[at : at + width]) for at in range(0, len(parts), width)]


def _refuse_other_features(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"moments have {len(a.mean)} and {len(b.mean)} features; give those of one extractor"
        )
