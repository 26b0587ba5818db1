"""The kernel distance between two sets of features, which few samples do not bias.

N samples, D features, S subsets. The squared maximum mean discrepancy with the kernel
k(x, y) = (x.y / D + 1)^3 (Binkowski et al., ICLR 2018; with Inception's features called KID).
"""

import numpy as np
from numpy.typing import NDArray

from factory.metrics.evidence import seed_interval
from factory.spec import Frozen

_BLOCK = 1_024
"""Rows of a kernel matrix that are in memory at a time."""

Features = NDArray[np.floating]


class KernelDistance(Frozen):
    """A mean over subsets, and where it would lie with other samples."""

    value: float
    """Below 0 by chance where the sets are nearly alike."""
    low: float | None
    """None of one subset, which does not tell."""
    high: float | None
    num_subsets: int
    subset_size: int
    """Samples of either side in each subset."""


def kernel_distance(
    a: Features, b: Features, *, confidence: float, seed: int, subset_size: int = 1_000
) -> KernelDistance:
    """Mean distance of disjoint random subsets, with Student's t interval over them.

    Every subset's value is exact and its expectation is that of infinitely many samples, if all
    samples are independent, between the sides too; so the size of the subsets only trades their
    number against the spread of each. Of two sets of different size the larger one is not used up.
    The interval takes the subsets' values as normal, which those of small subsets are not quite.

    Args:
        a: features [N, D] of one set, of any floating type; computed in float64.
        b: features [M, D] of the other.
        confidence: of the interval, in (0, 1).
        seed: of the subsets.
        subset_size: samples of either side in a subset, 2 or more; all of the smaller set where it
            has fewer.

    Raises:
        ValueError: if a side has fewer than 2 samples, the numbers of features differ, or
            `subset_size` is below 2.
    """
    if a.shape[1:] != b.shape[1:] or min(len(a), len(b), subset_size) < 2:
        raise ValueError(
            f"features are {list(a.shape)} and {list(b.shape)}, subset_size is {subset_size}; give "
            "2 or more samples of one extractor on both sides, and subsets of 2 or more"
        )
    size = min(subset_size, len(a), len(b))
    num_subsets = min(len(a), len(b)) // size
    generator = np.random.default_rng(seed)
    lefts, rights = (_subsets(len(side), num_subsets, size, generator) for side in (a, b))
    pairs = zip(lefts, rights, strict=True)
    values = [_squared_discrepancy(a[left], b[right]) for left, right in pairs]
    interval = seed_interval(values, confidence)
    return KernelDistance(
        value=interval.mean,
        low=interval.low,
        high=interval.high,
        num_subsets=num_subsets,
        subset_size=size,
    )


def _subsets(
    num_samples: int, num_subsets: int, size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Places of samples, [S, size]; none twice."""
    order = generator.permutation(num_samples)
    return order[: num_subsets * size].reshape(num_subsets, size)


def _squared_discrepancy(x: Features, y: Features) -> float:
    """The unbiased estimate (Gretton et al., JMLR 13, 2012, Eq. 3): no sample meets itself."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    within = sum(_sum_of_pairs(side) / (len(side) * (len(side) - 1)) for side in (x, y))
    return within - 2 * _sum_of_kernel(x, y) / (len(x) * len(y))


def _sum_of_pairs(x: NDArray[np.float64]) -> float:
    """Kernel of each sample with all others, summed."""
    with_itself = _kernel(np.einsum("nd,nd->n", x, x), x.shape[1]).sum()
    return _sum_of_kernel(x, x) - float(with_itself)


def _sum_of_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Kernel of each sample of one set with each of the other, summed block by block."""
    starts = range(0, len(x), _BLOCK)
    return sum(float(_kernel(x[at : at + _BLOCK] @ y.T, x.shape[1]).sum()) for at in starts)


def _kernel(products: NDArray[np.float64], num_features: int) -> NDArray[np.float64]:
    """The kernel of pairs with these inner products."""
    return (products / num_features + 1) ** 3
