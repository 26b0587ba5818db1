"""Is a candidate nearer to a real training image than images are that nobody has copied?

N candidates or queries, R real images, D features, P pairs.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from factory.sources.decode import size_in_words
from factory.spec import SpecError
from factory.vision.near_real_images import refuse_misfits

_QUERIES, _REALS = 1_000, 8_192
"""Rows and columns of the block of distances that is held at once: 33 MB."""
_DIFFERENCES = 2**22
"""Most numbers of the differences that are held at once: 34 MB."""
_UNIT = 2.0**-24
"""Relative rounding error of one float32 operation."""

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images uint8 [N, H, W, C] -> float32 [N, D]; an image's row must not depend on the others."""


class NearReal:
    """Rejects candidates that lie suspiciously near to an image that the generator has seen.

    The measure is the Euclidean distance to the nearest of the real training images. How near is
    too near, the held-out images say: real ones of the same kind that the generator has not seen,
    so that none of them is a copy of a training image, and yet some lie near to one. The threshold
    is the given quantile of their distances: with 0.01, one in a hundred honest images would be
    rejected. So the quantile is what the filter costs, and does not depend on the generator.
    """

    def __init__(
        self,
        real: NDArray[np.uint8],
        held_out: NDArray[np.uint8],
        *,
        features: Features,
        quantile: float,
        device: torch.device,
    ) -> None:
        """Calibrate.

        Args:
            real: what the generator was trained on, [R, H, W, C].
            held_out: [N, H, W, C], none of them in `real`.
            features: where distances are measured.
            quantile: share of the held-out images that would be rejected (ceil(quantile N) of
                them, at least one), as `NearRealFilter` has it.
            device: where distances are computed.

        Raises:
            SpecError: if the images differ in shape, or the two share some.
        """
        refuse_misfits(real, held_out)
        self._shape = real.shape[1:]
        self._features = features
        self._nearest = Nearest(features(real), device)
        distances = self._distances(held_out)
        self.threshold = float(np.quantile(distances, quantile, method="inverted_cdf"))
        """Largest distance at which a candidate is rejected. As it is included, a copy is rejected
        whatever the threshold."""

    def __call__(self, images: NDArray[np.uint8], class_names: Sequence[str]) -> list[str | None]:
        """ "near_real" where an image is at most `threshold` away from a real one.

        Args:
            images: uint8 [N, H, W, C], of the real images' H, W and C.
            class_names: not looked at.

        Raises:
            SpecError: if the images have another shape than the real ones.
        """
        if images.shape[1:] != self._shape:
            raise SpecError(
                f"filters.near_real.real: has images {size_in_words(self._shape)}, the dataset's "
                f"are {size_in_words(images.shape[1:])}; set image_size and channels of real and "
                "held_out"
            )
        near = self._distances(images) <= self.threshold
        return ["near_real" if is_near else None for is_near in near]

    def _distances(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._nearest.distances(self._features(images))


def pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images uint8 [N, H, W, C] -> their pixels in [0, 1], float32 [N, H W C]."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


class Nearest:
    """Finds the vectors that lie nearest to a vector among many, exact to float64.

    |q|^2 + |r|^2 - 2 q r in float32 is fast, but of a small distance between long vectors it leaves
    no digit. So it only says which pairs can be among the nearest, with the worst that rounding can
    do to it (`_rounding`), and the distances of those few are computed from their differences. The
    result for a vector therefore has the same bits in any company. Memory is bounded, however many
    vectors there are.
    """

    def __init__(self, real: NDArray[np.float32], device: torch.device) -> None:
        """Keep the vectors [R, D], R > 0, on `device` too.

        Float32 products must not be rounded to TF32 there, which is torch's default.
        """
        self._real = real
        self._on_device = torch.from_numpy(real).to(device)
        self._norms = self._on_device.square().sum(dim=1)

    def distances(self, queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Vectors [N, D] -> Euclidean distances to the nearest, [N]."""
        return self.neighbours(queries, 1)[0][:, 0]

    def neighbours(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Vectors [N, D] -> distances [N, k] and places in 0..R - 1 of the k nearest.

        Nearest first; of equally near ones the first.

        Raises:
            ValueError: if k is not in 1..R.
        """
        if not 1 <= k <= len(self._real):
            raise ValueError(f"k is {k}; give 1 to {len(self._real)}, the number of vectors")
        squared = np.full((len(queries), k), np.inf)
        places = np.full((len(queries), k), len(self._real))
        for top in range(0, len(queries), _QUERIES):
            block = queries[top : top + _QUERIES]
            # Views: what is found for these rows goes into `squared` and `places`.
            best = squared[top : top + _QUERIES], places[top : top + _QUERIES]
            for left in range(0, len(self._real), _REALS):
                rows, columns = self._possible(block, left, best[0])
                found = _squared_distances(block, rows, self._real, columns)
                _keep_nearest(*best, rows, found, columns)
        return np.sqrt(squared), places

    def _possible(
        self, queries: NDArray[np.float32], left: int, best: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Queries and places of what may be among the nearest, of the block from `left` on.

        `best` are the squared distances [N, k] to the nearest vectors before.
        """
        q = torch.from_numpy(queries).to(self._norms.device)
        r, r_norm = (x[left : left + _REALS] for x in (self._on_device, self._norms))
        q_norm = q.square().sum(dim=1)
        rounding = _rounding(q.shape[1]) * (q_norm + r_norm.max())
        found = torch.addmm(r_norm, q, r.T, alpha=-2).add_(q_norm[:, None])
        k = min(best.shape[1], found.shape[1])
        # The k-th is no farther than either of these, and looks at most one rounding farther.
        kth = found.topk(k, largest=False).values[:, -1] if k > 1 else found.amin(dim=1)
        known = torch.from_numpy(best[:, -1]).to(found)
        limit = torch.minimum(kth + rounding, known) + rounding
        rows, columns = (found <= limit[:, None]).nonzero(as_tuple=True)
        return rows.cpu().numpy(), left + columns.cpu().numpy()


def _squared_distances(
    a: NDArray[np.float32],
    rows: NDArray[np.int64],
    b: NDArray[np.float32],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Between the vectors a[rows] and b[columns], [P]."""
    found = np.empty(len(rows))
    step = max(1, _DIFFERENCES // a.shape[1])
    for start in range(0, len(rows), step):
        pairs = slice(start, start + step)
        difference = a[rows[pairs]].astype(np.float64) - b[columns[pairs]]
        found[pairs] = np.square(difference).sum(axis=1)
    return found


def _keep_nearest(
    squared: NDArray[np.float64],
    places: NDArray[np.int64],
    rows: NDArray[np.int64],
    found: NDArray[np.float64],
    columns: NDArray[np.int64],
) -> None:
    """Let the pairs (row, place) of squared distances `found` [P] into the nearest k, in place.

    `squared` and `places` [N, k] hold the nearest so far, all of smaller places.
    """
    num_rows, k = squared.shape
    all_rows = np.concatenate([np.repeat(np.arange(num_rows), k), rows])
    all_squared = np.concatenate([squared.ravel(), found])
    all_places = np.concatenate([places.ravel(), columns])
    order = np.lexsort((all_places, all_squared, all_rows))
    # Every row has k or more entries, and its first ones are the nearest.
    first = np.searchsorted(all_rows[order], np.arange(num_rows))
    chosen = order[first[:, None] + np.arange(k)]
    squared[:] = all_squared[chosen]
    places[:] = all_places[chosen]


def _rounding(num_features: int) -> float:
    """Bound on the error of |q|^2 + |r|^2 - 2 q r in float32, as a share of |q|^2 + |r|^2.

    Each of the three sums of D products is off by at most D u / (1 - D u) of its terms' absolute
    sum, in whatever order it is added up (Higham, Accuracy and Stability of Numerical Algorithms,
    2002, Eq. 3.5), and 2 |q r| <= |q|^2 + |r|^2; so D u twice, and a few u for adding the three.
    """
    error = (num_features + 8) * _UNIT
    return 2 * error / (1 - error)
