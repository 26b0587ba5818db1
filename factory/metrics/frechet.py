"""The Frechet distance between two sets of features, taken as Gaussians.

N samples, D features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1e-10
"""Added to the diagonal, relative to its mean, so that a covariance of low rank has a root."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Number of samples, mean float64 [D] and covariance float64 [D, D]."""

    num_samples: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def moments(features: NDArray[np.floating]) -> Moments:
    """Moments of features [N, D], with the unbiased covariance.

    Raises:
        ValueError: if N is not above D: the distance of so few samples is mostly their number's.
    """
    num_samples, size = features.shape
    if num_samples <= size:
        raise ValueError(
            f"features are [{num_samples}, {size}]; give more samples than features, since the "
            "covariance of fewer has no full rank"
        )
    exact = features.astype(np.float64)
    return Moments(num_samples, exact.mean(axis=0), np.cov(exact, rowvar=False).reshape(size, size))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet (2-Wasserstein) distance |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    A B has the eigenvalues of L^T B L, which is symmetric, where L L^T = A: so the trace of its
    root needs no root of a matrix that is not symmetric.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"moments have {len(a.mean)} and {len(b.mean)} features; give those of one extractor"
        )
    size = len(a.mean)
    ridge = _RIDGE * (np.trace(a.covariance) / size or 1.0)
    root = np.linalg.cholesky(a.covariance + ridge * np.eye(size))
    eigenvalues = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    cross = np.sqrt(eigenvalues.clip(min=0)).sum()
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)
