"""Can a linear classifier tell synthetic images from real ones (Frank et al. 2020)?

N real and M synthetic images, H height, W width, C channels, D = H W C values of an image.

The classifier is ridge regression of +1 and -1, in closed form and with a grid of strengths, as in
the paper: one matrix of second moments serves every strength, nothing has to converge, and the two
sides can be exchanged. Memory is bounded: that matrix has D^2 entries, or the square of the number
of training images where these are fewer.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.linalg import solve
from scipy.special import ndtri
from scipy.stats import binomtest

from factory.images import pixel_digest
from factory.seeds import hash_seed
from factory.spec import Frozen, SpecError

MARGIN = 0.05
"""Half-width of the accuracy's interval at chance that there must be test images for."""
VALIDATION = 0.2
"""Share of the images that are not for the test by which the strength is chosen."""
STRENGTHS = tuple(10.0**power for power in range(-6, 3))
"""What is tried: added to every feature's variance, as a multiple of their mean."""

_UNKNOWNS = 12_288
"""Largest side of the matrix that is solved: 1.2 GB. 64 px RGB images have as many values."""
_HELD = 2**28
"""Most training features that are held where images have more values: 2 GB."""
_NUMBERS = 2**22
"""Most values of the images that are transformed at once."""
_LEAST = 0.01
"""Added to the size of DCT coefficients before the logarithm. Rounding to uint8 alone gives them a
deviation of 0.29; what lies far below is the rounding of float64."""

Domain = Literal["pixel", "dct"]
Images = NDArray[np.uint8]


class Detection(Frozen):
    """How well real and synthetic images can be told apart."""

    domain: Domain
    accuracy: float
    """Share of the test images, half of them real, that are told rightly; 0.5 is chance."""
    low: float
    """Wilson's interval of the accuracy, over test images."""
    high: float
    regularisation: float
    """The one of `STRENGTHS` that was best on the validation images."""
    num_train: int
    """Images of each side, here and below."""
    num_validation: int
    num_test: int


def detect(
    real: Images,
    synthetic: Images,
    *,
    domain: Domain,
    test_fraction: float,
    confidence: float,
    seed: int,
) -> Detection | None:
    """Train a linear classifier to tell the two apart, and test it on images it has not seen.

    The larger side is cut to the size of the smaller one. Training, validation and test images
    have no image in common, not even where a dataset holds one twice or both hold it. Which image
    goes where depends on its content and the seed alone, so neither the order of the images nor
    which side is called real changes the result.

    Images of the two sides must be independent for 0.5 to be chance. Where each synthetic image is
    a slight change of a real one, a classifier that learns images by heart falls below.

    Args:
        real: uint8 [N, H, W, C].
        synthetic: uint8 [M, H, W, C].
        domain: what the classifier sees. "pixel": pixels in [-1, 1], less their mean over the
            training images. "dct": ln(|c| + 0.01) of the coefficients c of each channel's
            orthonormal two-dimensional type-II DCT of pixels in 0..255, standardised with the
            training images' mean and deviation.
        test_fraction: share of each side that is tested on, in (0, 1).
        confidence: of the interval, in (0, 1).
        seed: of the split.

    Returns:
        None where too few images are different: the same image is not used for both training and
        test, which leaves none to train on.

    Raises:
        SpecError: if images differ in size, or are fewer than `fewest_images`.
    """
    _refuse_misfits(real, synthetic, fewest_images(test_fraction, confidence))
    sides = (_sorted(real, seed), _sorted(synthetic, seed))
    test, rest = _split(sides, test_fraction)
    validation, train = _split(rest, VALIDATION)
    if not len(train[0].keys) or not len(validation[0].keys):
        return None
    train = _cut(train, _most_training(real[0].size))
    tried = _fit(train, domain)
    # Of equally good strengths the largest.
    best = len(STRENGTHS) - 1 - int(_num_right(tried, validation)[::-1].argmax())
    num_right = int(_num_right(tried.only(best), test)[0])
    num_test = len(test[0].keys)
    result = binomtest(num_right, 2 * num_test)
    low, high = result.proportion_ci(confidence, method="wilson")
    return Detection(
        domain=domain,
        accuracy=result.statistic,
        low=low,
        high=high,
        regularisation=STRENGTHS[best],
        num_train=len(train[0].keys),
        num_validation=len(validation[0].keys),
        num_test=num_test,
    )


def fewest_images(test_fraction: float, confidence: float) -> int:
    """How many images each side must have at least.

    So many that Wilson's interval of an accuracy of 0.5 is no wider than `MARGIN` to either side.
    """
    # Its half-width there is z / (2 sqrt(n + z^2)) with n test images, half of them a side.
    z = float(ndtri((1 + confidence) / 2))
    num_test = math.ceil(z**2 * (1 / (4 * MARGIN**2) - 1) / 2)
    return math.ceil(num_test / test_fraction)


@dataclass(frozen=True, slots=True)
class _Side:
    """Images [N, H, W, C] in the order of their keys [N], hashes of seed and content."""

    images: Images
    keys: NDArray[np.int64]

    def take(self, which: slice | NDArray[np.bool_]) -> "_Side":
        return _Side(self.images[which], self.keys[which])


_Sides = tuple[_Side, _Side]
"""As many images each, once they are split."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """Classifiers that look at the same features: a positive score says real."""

    domain: Domain
    mean: NDArray[np.float64]
    """Of the training features, [D]."""
    scale: NDArray[np.float64]
    """What the features less their mean are divided by, [D]."""
    weights: NDArray[np.float64]
    """[D, S], one column for each classifier."""

    def only(self, column: int) -> "_Linear":
        return replace(self, weights=self.weights[:, column : column + 1])

    def features(self, images: Images) -> NDArray[np.float64]:
        """[N, H, W, C] -> [N, D]."""
        return (_values(images, self.domain) - self.mean) / self.scale

    def scores(self, images: Images) -> NDArray[np.float64]:
        """[N, H, W, C] -> [N, S]."""
        return np.concatenate([self.features(block) @ self.weights for block in _blocks(images)])


def _sorted(images: Images, seed: int) -> _Side:
    keys = np.array([hash_seed("detection", seed, pixel_digest(image)) for image in images])
    order = keys.argsort()
    return _Side(images[order], keys[order])


def _split(sides: _Sides, share: float) -> tuple[_Sides, _Sides]:
    """The first `share` of both sides, cut to one size; and those that are none of these images."""
    num_images = min(len(side.keys) for side in sides)
    a, b = _cut(sides, num_images)
    num_first = round(share * num_images)
    first = _cut((a, b), num_first)
    taken = np.concatenate([side.keys for side in first])
    a, b = (side.take(~np.isin(side.keys, taken)) for side in (a, b))
    return first, _cut((a, b), min(len(a.keys), len(b.keys)))


def _cut(sides: _Sides, num_images: int) -> _Sides:
    a, b = sides
    return a.take(slice(num_images)), b.take(slice(num_images))


def _most_training(num_values: int) -> int:
    """Training images a side that memory allows for images of D values."""
    if num_values <= _UNKNOWNS:
        return _HELD
    return min(_UNKNOWNS, _HELD // num_values) // 2


def _fit(train: _Sides, domain: Domain) -> _Linear:
    """One classifier for each of `STRENGTHS`."""
    keys = np.concatenate([side.keys for side in train])
    # Sums are rounded in an order that does not say which side is the real one.
    order = keys.argsort()
    images = np.concatenate([side.images for side in train])[order]
    targets = np.repeat([1.0, -1.0], len(train[0].keys))[order]
    mean, scale = _standardisation(images, domain)
    empty = _Linear(domain, mean, scale, np.empty((len(mean), 0)))
    few = len(images) <= len(mean)
    weights = _solve_for_images(empty, images, targets) if few else _solve(empty, images, targets)
    return replace(empty, weights=weights)


def _standardisation(
    images: Images, domain: Domain
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D] of the features, and what to divide them by [D]."""
    # Shifted by one image's, for the difference of squares below.
    shift = _values(images[:1], domain)[0]
    total, squares = np.zeros_like(shift), np.zeros_like(shift)
    for block in _blocks(images):
        shifted = _values(block, domain) - shift
        total += shifted.sum(axis=0)
        squares += np.square(shifted).sum(axis=0)
    mean = total / len(images)
    variance = np.maximum(squares / len(images) - mean**2, 0)
    if domain == "pixel":
        # Pixels share a unit; in its own, one that is nearly always black would outweigh the rest.
        variance = np.full_like(variance, variance.mean())
    # What varies less is a constant that was rounded.
    return mean + shift, np.sqrt(np.where(variance > 1e-12, variance, 1))


def _solve(model: _Linear, images: Images, targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [D, S] from the D x D matrix of second moments."""
    size = len(model.mean)
    moments, products = np.zeros((size, size)), np.zeros(size)
    start = 0
    for block in _blocks(images):
        x = model.features(block)
        moments += x.T @ x
        products += x.T @ targets[start : start + len(block)]
        start += len(block)
    return _ridge(moments, products, len(images))


def _solve_for_images(
    model: _Linear, images: Images, targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same from the N x N matrix of the N images' products: X' (X X' + s I)^-1 y."""
    x = np.concatenate([model.features(block) for block in _blocks(images)])
    return x.T @ _ridge(x @ x.T, targets, len(images))


def _ridge(
    matrix: NDArray[np.float64], target: NDArray[np.float64], num_images: int
) -> NDArray[np.float64]:
    """Solutions for all strengths, as columns.

    Features have a mean variance of 1, so `num_images` is the mean of the moments' diagonal.
    """
    solutions = []
    for strength in STRENGTHS:
        regular = matrix.copy()
        regular[np.diag_indices_from(regular)] += strength * num_images
        solutions.append(solve(regular, target, assume_a="pos", overwrite_a=True))
    return np.stack(solutions, axis=1)


def _num_right(model: _Linear, sides: _Sides) -> NDArray[np.int64]:
    """Images told rightly by each classifier, [S]; of those in between, half."""
    a, b = (np.sign(model.scores(side.images)).astype(np.int64) for side in sides)
    # sign is 1 where right, -1 where wrong and 0 in between.
    return ((1 + a).sum(axis=0) + (1 - b).sum(axis=0)) // 2


def _values(images: Images, domain: Domain) -> NDArray[np.float64]:
    """What a classifier in this domain sees, [N, D]."""
    pixels = images.astype(np.float64)
    match domain:
        case "pixel":
            seen = pixels / 127.5 - 1
        case "dct":
            coefficients = np.asarray(dctn(pixels, type=2, axes=(1, 2), norm="ortho"))
            seen = np.log(np.abs(coefficients) + _LEAST)
    return seen.reshape(len(images), -1)


def _blocks(images: Images) -> Iterator[Images]:
    step = max(1, _NUMBERS // images[0].size)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _refuse_misfits(real: Images, synthetic: Images, fewest: int) -> None:
    if real.shape[1:] != synthetic.shape[1:]:
        raise SpecError(
            f"detection: real images are {list(real.shape[1:])} and synthetic ones "
            f"{list(synthetic.shape[1:])}; set image_size and channels of both"
        )
    if min(len(real), len(synthetic)) < fewest:
        raise SpecError(
            f"detection: there are {len(real)} real and {len(synthetic)} synthetic images; an "
            f"accuracy that is known to {100 * MARGIN:g} points takes {fewest} of each, or fewer "
            "with a larger test_fraction"
        )
