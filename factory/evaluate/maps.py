"""Features in two dimensions: the plane in which the real images vary most.

N images, D features. yamaguchi2024 (Figs. 2, 9) looks at features so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from factory.seeds import hash_seed
from factory.sources.source import Source

MOST_POINTS = 3_000
"""Images of a dataset that a map shows."""

_MOST_FITTED = 10_000
"""Real images that a plane is fitted to: more do not turn it visibly."""
_FEWEST_FITTED = 3

ReadFeatures = Callable[[str], NDArray[np.float32]]
"""Name of a source -> the features of all its images in order, [N, D]."""


class Points(NamedTuple):
    """Images of one source on a map."""

    places: NDArray[np.float64]
    """[n, 2]."""
    labels: NDArray[np.int64]
    """[n]."""


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """All sources in one plane."""

    shares: tuple[float, float]
    """Of the real images' variance, along either axis."""
    points: dict[str, Points]
    """Source -> some of its images, chosen at random."""


class Plane(NamedTuple):
    """Two directions in the space of features."""

    mean: NDArray[np.float64]
    """[D]."""
    axes: NDArray[np.float64]
    """[2, D], of length one, across each other."""
    shares: tuple[float, float]


def map_features(
    sources: Mapping[str, Source],
    read_features: ReadFeatures,
    labels: Sequence[int | None],
) -> list[FeatureMap]:
    """A map for each of `labels`: of that class alone, or of all images for None.

    The plane is fitted to the real images of the map alone. Features are read once for all maps,
    and held for one source at a time.

    Args:
        sources: "real", then the datasets.
        read_features: features of a source by its name.
        labels: a label with too few real images to fit a plane has a map without points.
    """
    planes: dict[int | None, Plane] = {}
    points: dict[int | None, dict[str, Points]] = {label: {} for label in labels}
    for name in ("real", *(name for name in sources if name != "real")):
        features, own = read_features(name), sources[name].labels
        for label in labels:
            places = np.arange(len(own)) if label is None else np.flatnonzero(own == label)
            if name == "real" and len(places) >= _FEWEST_FITTED:
                planes[label] = fit_plane(features[_some(places, _MOST_FITTED, "plane")])
            if label in planes:
                shown = _some(places, MOST_POINTS, name)
                points[label][name] = Points(project(planes[label], features[shown]), own[shown])
    return [
        FeatureMap(planes[label].shares if label in planes else (0.0, 0.0), points[label])
        for label in labels
    ]


def fit_plane(features: NDArray[np.floating]) -> Plane:
    """The first two principal components of features [N, D], N and D of 2 or more.

    Their signs are such that the largest number of each axis is positive.
    """
    exact = features.astype(np.float64)
    covariance = np.cov(exact, rowvar=False)
    size = len(covariance)
    variances, vectors = eigh(covariance, subset_by_index=[size - 2, size - 1])
    axes = vectors.T[::-1]
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[[0, 1], largest])[:, None]
    # Rounding may leave a variance of zero a little below it.
    first, second = np.maximum(variances[::-1], 0) / max(float(np.trace(covariance)), 1e-300)
    return Plane(exact.mean(axis=0), axes, (float(first), float(second)))


def project(plane: Plane, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Features [N, D] -> places in the plane, [N, 2]."""
    return (features - plane.mean) @ plane.axes.T


def _some(places: NDArray[np.int64], most: int, name: str) -> NDArray[np.int64]:
    """At most so many of the places, chosen at random, in order."""
    if len(places) <= most:
        return places
    generator = np.random.default_rng(hash_seed("map", name))
    return np.sort(generator.choice(places, most, replace=False))
