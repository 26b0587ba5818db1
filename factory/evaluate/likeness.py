"""How alike two sets of images are in the features of one network, as far as their number allows.

N real and M other images, D features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from factory.evaluate.results import Estimate, Likeness
from factory.metrics.frechet import (
    Moments,
    fewest_to_extrapolate,
    frechet_at_infinity,
    frechet_distance,
    moments,
)
from factory.metrics.kernel import kernel_distance
from factory.metrics.precision_recall import Neighbourhoods, neighbourhoods, precision_recall
from factory.seeds import hash_seed
from factory.spec import EvaluateSpec

FEWEST = 2
"""Images of either side for any number."""

_PUBLISHED_SUBSET, _LEAST_SUBSETS = 1_000, 10
"""Images of either side in a subset of the kernel distance, and subsets at least."""

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RealSide:
    """Real images' features, with what every comparison needs of them."""

    features: Features
    """[N, D]."""
    moments: Moments
    neighbourhoods: Neighbourhoods | None
    """None: not asked for, or of too few images."""


def surround(
    features: Features, spec: EvaluateSpec, device: torch.device, *, with_neighbours: bool
) -> RealSide:
    """Prepare real features [N, D], N of 1 or more; neighbours are found on `device`."""
    found = None
    if with_neighbours and len(features) > spec.neighbours:
        found = neighbourhoods(features, spec.neighbours, device=device)
    return RealSide(features, moments(features), found)


def compare(real: RealSide, features: Features, spec: EvaluateSpec) -> Likeness:
    """Measure features [M, D] against those of the real images."""
    num_real, num_images = len(real.features), len(features)
    if min(num_real, num_images) < FEWEST:
        return Likeness(
            num_real=num_real,
            num_images=num_images,
            frechet_distance=None,
            frechet_limit=None,
            is_biased=True,
            kernel_distance=None,
            precision=None,
            recall=None,
        )
    own = moments(features)
    covered = None
    if real.neighbourhoods is not None and num_images > spec.neighbours:
        covered = precision_recall(real.neighbourhoods, features)
    kernel = kernel_distance(
        real.features,
        features,
        confidence=spec.confidence,
        seed=hash_seed(spec.seed, "evaluate", "kernel"),
        subset_size=_subset_size(min(num_real, num_images)),
    )
    return Likeness(
        num_real=num_real,
        num_images=num_images,
        frechet_distance=frechet_distance(real.moments, own, allow_low_rank=True),
        frechet_limit=_limit(real.features, features, spec.seed),
        is_biased=real.moments.is_low_rank or own.is_low_rank,
        kernel_distance=Estimate(value=kernel.value, low=kernel.low, high=kernel.high),
        precision=covered and covered.precision,
        recall=covered and covered.recall,
    )


def _subset_size(num_images: int) -> int:
    """As published where there are enough images for an interval, else as many as leave one."""
    return max(FEWEST, min(_PUBLISHED_SUBSET, num_images // _LEAST_SUBSETS))


def _limit(real: Features, features: Features, seed: int) -> float | None:
    if min(len(real), len(features)) < fewest_to_extrapolate(real.shape[1]):
        return None
    return frechet_at_infinity(real, features, seed=hash_seed(seed, "evaluate", "limit"))
