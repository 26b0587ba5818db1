"""Improved precision and recall: the share of samples of one set that the other set covers.

N samples, D features, k the number of neighbours (Kynkaanniemi et al., NeurIPS 2019, Eqs. 1 and 2).
A set covers the balls about its samples, each of which reaches to the k-th nearest other sample.
Balls shrink as N grows, so values are comparable at equal numbers of samples only.

Distances are of float32, as |x|^2 + |y|^2 - 2 x.y of features whose common centre was taken away.
A sample on the surface of a ball lies in it. A ball is at least so large that rounding cannot put a
copy of its centre outside, even where the centre has k or more copies and the radius is 0; between
other distances that differ by less than rounding, rounding decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from factory.spec import Frozen

_CPU = torch.device("cpu")
_TILE = 2**25
"""Distances in memory at a time: 128 MiB."""
_RESOLUTION = 1e-5
"""Squared distance of a sample from its copy, over its squared norm, that rounding stays below."""

Features = NDArray[np.floating]


class PrecisionRecall(Frozen):
    """How much of either set the other one covers, fractions in [0, 1]."""

    precision: float
    """Of synthetic samples: those that lie where real ones do."""
    recall: float
    """Of real samples: those that lie where synthetic ones do."""
    neighbours: int
    num_real: int
    num_synthetic: int


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """A set of samples with the balls about them, on one device."""

    samples: torch.Tensor
    """float32 [N, D], less `centre`."""
    squared_norms: torch.Tensor
    """float32 [N]."""
    squared_radii: torch.Tensor
    """float32 [N]."""
    centre: NDArray[np.floating]
    """[D]."""
    neighbours: int


def neighbourhoods(
    features: Features,
    neighbours: int,
    *,
    centre: NDArray[np.floating] | None = None,
    device: torch.device = _CPU,
    tile: int = _TILE,
) -> Neighbourhoods:
    """Balls from each sample to its k-th nearest other one; an equal sample is another one.

    Time is that of 2 N^2 D operations. Memory is a copy of the features and about twice `tile`
    numbers, whatever N.

    Args:
        features: [N, D], finite.
        neighbours: k, 1 or more.
        centre: [D], what to take away from all features: of another set that these are compared
            with; default: the mean of these.
        device: to compute on.
        tile: most distances in memory at a time.

    Raises:
        ValueError: if there are k samples or fewer, or features are not finite.
    """
    if neighbours < 1 or len(features) <= neighbours:
        raise ValueError(
            f"features are {list(features.shape)} and neighbours is {neighbours}; give 1 neighbour "
            "or more, and more samples than neighbours"
        )
    # Comparisons with NaN are silently false: they would lower the values and nothing else.
    num_broken = len(features) - int(np.isfinite(features).all(axis=1).sum())
    if num_broken:
        raise ValueError(
            f"features are {list(features.shape)} and those of {num_broken} samples are not "
            "finite; compute them again, or leave these samples out"
        )
    origin = features.mean(axis=0, dtype=np.float64) if centre is None else centre
    origin = origin.astype(features.dtype)  # or float32 features would all be copied as float64
    samples = torch.from_numpy((features - origin).astype(np.float32, copy=False)).to(device)
    squared_norms = samples.square().sum(dim=1)
    radii = torch.empty_like(squared_norms)
    for rows in _rows(len(samples), len(samples), tile):
        squared = _squared_distances(samples[rows], samples, squared_norms[rows], squared_norms)
        itself = torch.arange(rows.start, rows.stop, device=device)
        squared[itself - rows.start, itself] = torch.inf
        radii[rows] = squared.topk(neighbours, dim=1, largest=False).values[:, -1]
    radii = torch.maximum(radii, _RESOLUTION * squared_norms)
    return Neighbourhoods(samples, squared_norms, radii, origin, neighbours)


def precision_recall(
    real: Neighbourhoods, synthetic: Features, *, tile: int = _TILE
) -> PrecisionRecall:
    """Precision and recall of one synthetic set; `real` serves for several.

    Args:
        real: the balls of the real set; their device and k hold for both sets.
        synthetic: features [M, D] of the same extractor, finite.
        tile: most distances in memory at a time.

    Raises:
        ValueError: if there are k samples or fewer, the numbers of features differ, or features
            are not finite.
    """
    if synthetic.shape[1:] != real.samples.shape[1:]:
        raise ValueError(
            f"features are {list(real.samples.shape)} and {list(synthetic.shape)}; give those of "
            "one extractor"
        )
    other = neighbourhoods(
        synthetic, real.neighbours, centre=real.centre, device=real.samples.device, tile=tile
    )
    inside_real = torch.zeros(len(synthetic), dtype=torch.bool, device=real.samples.device)
    num_covered = 0
    for rows in _rows(len(real.samples), len(synthetic), tile):
        squared = _squared_distances(
            real.samples[rows], other.samples, real.squared_norms[rows], other.squared_norms
        )
        inside_real |= (squared <= real.squared_radii[rows, None]).any(dim=0)
        num_covered += int((squared <= other.squared_radii).any(dim=1).sum())
    return PrecisionRecall(
        precision=int(inside_real.sum()) / len(synthetic),
        recall=num_covered / len(real.samples),
        neighbours=real.neighbours,
        num_real=len(real.samples),
        num_synthetic=len(synthetic),
    )


def _rows(num_rows: int, num_columns: int, tile: int) -> Iterator[slice]:
    """Rows of a matrix of distances, cut so that a part holds at most `tile` (or one row)."""
    step = max(tile // num_columns, 1)
    return (slice(at, min(at + step, num_rows)) for at in range(0, num_rows, step))


def _squared_distances(
    x: torch.Tensor, y: torch.Tensor, x_norms: torch.Tensor, y_norms: torch.Tensor
) -> torch.Tensor:
    """float32 [N, M]; by rounding also a little below 0."""
    return torch.addmm(y_norms[None], x, y.T, alpha=-2).add_(x_norms[:, None])
