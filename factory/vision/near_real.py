"""Is a candidate nearer to a real training image than images are that nobody has copied?

N candidates or queries, R real images, D features, P pairs.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from factory.images import pixel_digest
from factory.spec import SpecError

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
        _refuse_misfits(real, held_out)
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
                f"filters.near_real.real: has images {_sizes(self._shape)}, the dataset's are "
                f"{_sizes(images.shape[1:])}; set image_size and channels of real and held_out"
            )
        near = self._distances(images) <= self.threshold
        return ["near_real" if is_near else None for is_near in near]

    def _distances(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._nearest.distances(self._features(images))


def pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images uint8 [N, H, W, C] -> their pixels in [0, 1], float32 [N, H W C]."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


class Nearest:
    """Finds the Euclidean distance from a vector to the nearest of many, exact to float64.

    |q|^2 + |r|^2 - 2 q r in float32 is fast, but of a small distance between long vectors it leaves
    no digit. So it only says which pairs can be the nearest, with the worst that rounding can do
    to it (`_rounding`), and the distances of those few are computed from their differences. The
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
        """Vectors [N, D] -> distances [N]."""
        squared = np.full(len(queries), np.inf)
        for top in range(0, len(queries), _QUERIES):
            block = queries[top : top + _QUERIES]
            # A view: what is found for these rows goes into `squared`.
            nearest = squared[top : top + _QUERIES]
            for left in range(0, len(self._real), _REALS):
                others = self._real[left : left + _REALS]
                for rows, columns in self._possible(block, left, nearest):
                    difference = block[rows].astype(np.float64) - others[columns]
                    np.minimum.at(nearest, rows, np.square(difference).sum(axis=1))
        return np.sqrt(squared)

    def _possible(
        self, queries: NDArray[np.float32], left: int, nearest: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows and columns of what may be the nearest, in the block of vectors from `left` on.

        `nearest` are the squared distances to the vectors before.
        """
        q = torch.from_numpy(queries).to(self._norms.device)
        r, r_norm = (x[left : left + _REALS] for x in (self._on_device, self._norms))
        q_norm = q.square().sum(dim=1)
        rounding = _rounding(q.shape[1]) * (q_norm + r_norm.max())
        found = torch.addmm(r_norm, q, r.T, alpha=-2).add_(q_norm[:, None])
        # The nearest is no farther than either of these, and looks at most one rounding farther.
        known = torch.from_numpy(nearest).to(found)
        limit = torch.minimum(found.amin(dim=1) + rounding, known) + rounding
        pairs = (found <= limit[:, None]).nonzero().cpu().numpy()
        for start in range(0, len(pairs), step := max(1, _DIFFERENCES // q.shape[1])):
            yield pairs[start : start + step, 0], pairs[start : start + step, 1]


def _rounding(num_features: int) -> float:
    """Bound on the error of |q|^2 + |r|^2 - 2 q r in float32, as a share of |q|^2 + |r|^2.

    Each of the three sums of D products is off by at most D u / (1 - D u) of its terms' absolute
    sum, in whatever order it is added up (Higham, Accuracy and Stability of Numerical Algorithms,
    2002, Eq. 3.5), and 2 |q r| <= |q|^2 + |r|^2; so D u twice, and a few u for adding the three.
    """
    error = (num_features + 8) * _UNIT
    return 2 * error / (1 - error)


def _refuse_misfits(real: NDArray[np.uint8], held_out: NDArray[np.uint8]) -> None:
    if real.shape[1:] != held_out.shape[1:]:
        raise SpecError(
            f"filters.near_real: real has images {_sizes(real.shape[1:])}, held_out "
            f"{_sizes(held_out.shape[1:])}; set image_size and channels of both"
        )
    seen = {pixel_digest(image) for image in real}
    shared = sum(pixel_digest(image) in seen for image in held_out)
    if shared:
        raise SpecError(
            f"filters.near_real.held_out: {shared} of its {len(held_out)} images are in real too, "
            "and would put the threshold at 0; give images that the generator has not seen"
        )


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
