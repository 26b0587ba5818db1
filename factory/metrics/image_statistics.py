"""What images look like in plain numbers: brightness, background, contrast, colour, sharpness.

N images, H height, W width, C channels (1 grey, 3 RGB). Between conditional and unconditional
images basu2022 (Fig. 11) saw such a difference by eye: darker backgrounds.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp, ttest_ind

from factory.spec import Frozen, SpecError

BORDER = 1 / 8
"""Share of height and of width that counts as background along each side, at least 1 px."""

_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue (ITU-R BT.601)."""
_NUMBERS = 2**22
"""Most pixel values that are held as floating numbers at once: 34 MB."""

Statistics = dict[str, NDArray[np.float64]]


class Mean(Frozen):
    """A mean over images, and where that of new ones of the same kind would lie."""

    mean: float
    low: float
    high: float
    spread: float
    """Standard deviation over images (n - 1)."""
    num_images: int


class Difference(Frozen):
    """How much two sets of images differ in their means."""

    difference: float
    """The first set's mean minus the second's."""
    low: float
    high: float


def image_statistics(images: NDArray[np.uint8]) -> Statistics:
    """Plain numbers of every image, by name, float64 [N] each.

    Luma Y is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of pixels in 0..255, or the grey value.

    - `luminance`: mean of Y, 0..255.
    - `background_luminance`: mean of Y over the border that `BORDER` says; nothing is segmented.
    - `contrast`: standard deviation of Y over pixels, 0..127.5.
    - `high_frequencies`: variance of Y's Laplacian (4 Y less its four neighbours) over the inner
      pixels, in squared grey levels; noise adds to it, and blur takes away.
    - `saturation`, of RGB alone: mean over pixels of (max - min) / max of R, G and B as in HSV,
      0..1, where black has 0.

    Raises:
        SpecError: if there is no image, or images are not grey or RGB of 3 px or more a side.
    """
    num_images, height, width, channels = images.shape
    if not num_images or min(height, width) < 3 or channels not in (1, 3):
        raise SpecError(
            f"images are {list(images.shape)}; give one or more, [N, H, W, C] with H and W of 3 px "
            "or more and 1 or 3 channels"
        )
    parts = [_statistics(block) for block in _blocks(images)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def summarise(statistics: Mapping[str, NDArray[np.float64]], confidence: float) -> dict[str, Mean]:
    """The mean of each statistic [N] with Student's t interval over images.

    Args:
        statistics: by name, N of 2 or more.
        confidence: of each interval, in (0, 1).

    Raises:
        SpecError: if there are fewer than two images.
    """
    return {name: _mean(values, confidence) for name, values in statistics.items()}


def differences(
    a: Mapping[str, NDArray[np.float64]], b: Mapping[str, NDArray[np.float64]], confidence: float
) -> dict[str, Difference]:
    """Mean of `a` minus mean of `b`, with Welch's t interval, for every statistic that both have.

    The two sets may vary unequally. Images count as independent of each other, so between a set
    and reconstructions of its own images the intervals are too wide rather than too narrow.

    Args:
        a: values [N] by name, N of 2 or more.
        b: values [M] by name, M of 2 or more.
        confidence: of each interval, in (0, 1).

    Raises:
        SpecError: if either has fewer than two images.
    """
    return {name: _difference(a[name], b[name], confidence) for name in a if name in b}


def _blocks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    step = max(1, _NUMBERS // images[0].size)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _statistics(images: NDArray[np.uint8]) -> Statistics:
    luma = images.astype(np.float64) @ (_LUMA if images.shape[3] == 3 else np.ones(1))
    found = {
        "luminance": luma.mean(axis=(1, 2)),
        "background_luminance": luma[:, _border(*luma.shape[1:])].mean(axis=1),
        "contrast": luma.std(axis=(1, 2)),
        "high_frequencies": _laplacian(luma).var(axis=(1, 2)),
    }
    if images.shape[3] == 3:
        found["saturation"] = _saturation(images).mean(axis=(1, 2))
    return found


def _border(height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels [H, W] are background."""
    rows, columns = (max(1, round(BORDER * side)) for side in (height, width))
    border = np.ones((height, width), dtype=np.bool_)
    border[rows:-rows, columns:-columns] = False
    return border


def _laplacian(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the inner pixels, [N, H - 2, W - 2]."""
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return 4 * luma[:, 1:-1, 1:-1] - neighbours


def _saturation(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    most = images.max(axis=3).astype(np.float64)
    return (most - images.min(axis=3)) / np.maximum(most, 1)


def _mean(values: NDArray[np.float64], confidence: float) -> Mean:
    _refuse_one_image(values)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    # SciPy has no interval for values that do not vary.
    low, high = (mean, mean)
    if spread:
        low, high = ttest_1samp(values, 0).confidence_interval(confidence)
    return Mean(mean=mean, low=low, high=high, spread=spread, num_images=len(values))


def _difference(a: NDArray[np.float64], b: NDArray[np.float64], confidence: float) -> Difference:
    _refuse_one_image(a)
    _refuse_one_image(b)
    difference = float(a.mean() - b.mean())
    low, high = (difference, difference)
    if a.std() or b.std():
        low, high = ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    return Difference(difference=difference, low=low, high=high)


def _refuse_one_image(values: NDArray[np.float64]) -> None:
    if len(values) < 2:
        raise SpecError(f"{len(values)} images have no spread; an interval takes 2 or more")
