"""What test results over several seeds prove: intervals, verdicts, and what they could find.

S seeds (trainings of one arm), N test images. All confidences are in (0, 1), all scores and
differences fractions.

The accuracy of an arm is a mean over a crossed layout of seeds and test images. Its variance has
three parts: luck of a training (over S), luck of the test images (over N), and the residual, luck
of one training with one image (over S N). The variance between the seeds' means estimates the
first and the last, the variance between the images' means the second and the last; the residual
(two-way analysis of variance) is counted with the seeds.

With three seeds Welch's approximation errs in up to 8 % of verdicts instead of 5 %. So the half-
widths of the parts' own t intervals are added as squares (S. Banerjee, Sankhya 22, 1960): for a
normal Z and independent variances X and Y, P(Z^2 > a X + b Y) is convex in (a, b). Between the two
extremes of one part alone, where its t interval is exact, it is therefore nowhere larger.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar
from scipy.special import chdtri, gammaln, nctdtrinc, stdtrit

from factory.spec import Frozen

FEWEST_IMAGES = 10
"""With fewer test images a t interval says nothing about right and wrong."""
POWER = 0.8
"""Probability with which a difference of `detectable` is found."""
METHOD = (
    "Arms are compared image by image, and seed by seed where both have as many; intervals and "
    "verdicts hold for new seeds and new test images alike, since the squared half-width is that "
    "of Student's t over seeds plus that over test images, which keeps the stated confidence even "
    "with three seeds (Banerjee 1960). Verdicts and p-values of single classes are corrected over "
    "the classes by Holm (their intervals are not); verdicts of several arms are each at that "
    "confidence on their own; intervals of F1 are over seeds alone, and "
    f"the gap stated with a verdict is the true one that such a comparison finds with {POWER:.0%} "
    "power."
)

_LEAST_TAIL = 1e-100
"""Smaller probabilities are given as 0."""

Correct = NDArray[np.bool_]
Outcome = Literal["helps", "no evidence", "hurts"]


class Interval(Frozen):
    """A mean over seeds, and where it would lie if all were done again."""

    mean: float
    low: float | None
    """None where there are too few seeds or test images to tell."""
    high: float | None
    spread: float | None
    """Standard deviation over seeds (n - 1); None for one seed."""
    num_seeds: int


class Comparison(Frozen):
    """Whether an arm is better than a baseline."""

    outcome: Outcome
    difference: Interval
    """Arm minus baseline."""
    p_value: float | None
    """Two-sided, corrected where one of several; None where it cannot be had."""
    detectable: float | None
    """The true difference that such a comparison finds with a probability of `POWER`; None where
    it cannot be had, where nothing varies, or where not even a difference of 1 would be found."""
    note: str = ""
    """Why there is no p-value."""


def seed_interval(scores: Sequence[float], confidence: float) -> Interval:
    """Mean of scores [S] with Student's t interval over seeds, which may leave their range.

    For scores that are no mean over images, such as F1; the test images are taken as given.
    """
    mean, num_seeds = float(np.mean(scores)), len(scores)
    if num_seeds == 1:
        return _interval(mean, None, None, 1)
    spread = float(np.std(scores, ddof=1))
    half = _quantile(num_seeds - 1, (1 - confidence) / 2) * spread / math.sqrt(num_seeds)
    return _interval(mean, half, spread, num_seeds)


def score_interval(correct: Correct, confidence: float) -> Interval:
    """Accuracy with its interval over seeds and test images, cut to [0, 1].

    Args:
        correct: bool [S, N], whether each training is right on each test image.
        confidence: of the interval.
    """
    result = _measure([correct.astype(np.float64)])
    return within(result.interval((1 - confidence) / 2), 0.0, 1.0)


def within(interval: Interval, low: float, high: float) -> Interval:
    """`interval`, cut to the range that its value can have."""
    if interval.low is None or interval.high is None:
        return interval
    return interval.model_copy(
        update={"low": max(interval.low, low), "high": min(interval.high, high)}
    )


def compare(arm: Correct, baseline: Correct, confidence: float) -> Comparison:
    """Verdict on an arm's accuracy against the baseline's.

    Args:
        arm: bool [S, N], whether each training is right on each test image.
        baseline: bool [S', N], on the same images. Where S' is S, row s of both has the same seed.
        confidence: the verdict on two arms that are alike is "no evidence" at least so often.
    """
    result = _measure(_pair(arm, baseline))
    return result.comparison(result.p_value, 1 - confidence, num_tests=1)


def compare_classes(
    arm: Correct,
    baseline: Correct,
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    confidence: float,
) -> dict[str, Comparison]:
    """Verdict on every class that has test images.

    P-values are adjusted by Holm over the classes that can be tested, and outcomes follow them:
    all classes of two arms that are alike say "no evidence" together at least as often as
    `confidence`. `detectable` is what a class shows if it is the only one that differs. Intervals
    are each class's own, so one can leave out 0 where the outcome is "no evidence".

    Args:
        arm: bool [S, N], as for `compare`.
        baseline: bool [S', N].
        labels: int64 [N], the classes of the test images.
        class_names: names in label order.
        confidence: of the family of verdicts, and of each interval.
    """
    results = {
        name: _measure(_pair(arm[:, labels == label], baseline[:, labels == label]))
        for label, name in enumerate(class_names)
        if np.any(labels == label)
    }
    p_values = {name: r.p_value for name, r in results.items() if r.p_value is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {
        name: result.comparison(adjusted.get(name), 1 - confidence, num_tests=len(adjusted))
        for name, result in results.items()
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (S. Holm, Scand. J. Statist. 6, 1979).

    The i-th smallest of m is multiplied by m - i + 1, is never below the one before, and at most 1.
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


@dataclass(frozen=True, slots=True)
class _Uncertainty:
    """The parts of a mean's variance."""

    seeds: tuple[tuple[float, int], ...]
    """Variance and degrees of freedom of each independent set of seeds, the residual included."""
    residual: float
    images: float
    """Without the residual."""
    num_images: int

    def half_width(self, tail: float) -> float:
        """Of the interval that leaves out `tail` on each side."""
        over_seeds = sum(v * _quantile(df, tail) ** 2 for v, df in self.seeds)
        over_images = _quantile(self.num_images - 1, tail) ** 2
        # The seeds' means may agree by chance, and on few images they often do. But their
        # variance holds the residual, which all images together tell well.
        return math.sqrt(max(over_seeds, self.residual * over_images) + self.images * over_images)

    def p_value(self, difference: float) -> float:
        """Two-sided: twice the tail whose interval ends at 0."""
        if difference == 0:
            return 1.0

        def excess(log_tail: float) -> float:
            return self.half_width(math.exp(log_tail)) - abs(difference)

        least, most = math.log(_LEAST_TAIL), math.log(0.5)
        if excess(least) <= 0:
            return 0.0
        return 2 * math.exp(root_scalar(excess, bracket=(least, most)).root)

    def detectable(self, tail: float) -> float | None:
        """The difference whose interval leaves out 0 with probability `POWER`, if it is below 1.

        At each extreme exactly the noncentrality of the t test, times the standard error. The
        latter is freed of its bias (a standard deviation of few seeds is too small on average), so
        that the mean of many such answers is the right one.
        """
        unbiased = replace(self, seeds=tuple((v / _bias(df) ** 2, df) for v, df in self.seeds))
        beyond = sum(v * _margin(df, tail) ** 2 for v, df in unbiased.seeds)
        beyond += self.images * _margin(self.num_images - 1, tail) ** 2
        difference = unbiased.half_width(tail) + math.sqrt(beyond)
        # Results without any spread do not tell what another seed would give.
        return difference if 0 < difference <= 1 else None


@dataclass(frozen=True, slots=True)
class _Result:
    """A mean over seeds and images, and how sure it is."""

    mean: float
    spread: float | None
    num_seeds: int
    uncertainty: _Uncertainty | None
    note: str = ""

    @property
    def p_value(self) -> float | None:
        """That of a mean as far from 0 as this one, were the true one 0."""
        return None if self.uncertainty is None else self.uncertainty.p_value(self.mean)

    def interval(self, tail: float) -> Interval:
        half = None if self.uncertainty is None else self.uncertainty.half_width(tail)
        return _interval(self.mean, half, self.spread, self.num_seeds)

    def comparison(self, p_value: float | None, error: float, *, num_tests: int) -> Comparison:
        outcome: Outcome = "no evidence"
        if p_value is not None and p_value <= error:
            outcome = "helps" if self.mean > 0 else "hurts"
        return Comparison(
            outcome=outcome,
            difference=self.interval(error / 2),
            p_value=p_value,
            # Holm's first step tests at error / num_tests.
            detectable=None
            if self.uncertainty is None
            else self.uncertainty.detectable(error / 2 / num_tests),
            note=self.note,
        )


def _pair(arm: Correct, baseline: Correct) -> list[NDArray[np.float64]]:
    """Differences [S, N] seed by seed; or, where the numbers differ, both arms on their own."""
    if arm.shape[1] != baseline.shape[1]:
        raise ValueError(
            f"arm has {arm.shape[1]} test images and baseline {baseline.shape[1]}; "
            "give results on the same images"
        )
    if len(arm) == len(baseline):
        return [arm.astype(np.float64) - baseline]
    return [arm.astype(np.float64), -baseline.astype(np.float64)]


def _measure(tables: Sequence[NDArray[np.float64]]) -> _Result:
    """The mean of a sum of tables [S_t, N] with seeds of their own and images in common."""
    num_seeds = min(len(table) for table in tables)
    of_images = np.sum([table.mean(axis=0) for table in tables], axis=0)
    mean, num_images = float(of_images.mean()), len(of_images)
    if num_seeds == 1:
        note = "one seed does not tell how much another would differ; train with three or more"
        return _Result(mean, None, 1, None, note)
    of_seeds = [float(table.mean(axis=1).var(ddof=1)) for table in tables]
    spread = math.sqrt(sum(of_seeds))
    if num_images < FEWEST_IMAGES:
        note = f"{num_images} test images are too few to tell; {FEWEST_IMAGES} are the least"
        return _Result(mean, spread, num_seeds, None, note)
    pairs = list(zip(of_seeds, tables, strict=True))
    residual = sum(_residual(table, v) for v, table in pairs)
    seeds = tuple((v / len(table), len(table) - 1) for v, table in pairs)
    images = max(float(of_images.var(ddof=1)) / num_images - residual, 0.0)
    return _Result(mean, spread, num_seeds, _Uncertainty(seeds, residual, images, num_images))


def _residual(table: NDArray[np.float64], of_seeds: float) -> float:
    """The residual's part of the variance of the mean of a table [S, N].

    The residual mean square of the two-way analysis of variance over S N, written with the
    variances over seeds of single images and of the mean.
    """
    num_seeds, num_images = table.shape
    within_images = float(table.var(axis=0, ddof=1).mean())
    return max(within_images - of_seeds, 0.0) / ((num_images - 1) * num_seeds)


def _interval(mean: float, half: float | None, spread: float | None, num_seeds: int) -> Interval:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(mean=mean, low=low, high=high, spread=spread, num_seeds=num_seeds)


def _quantile(degrees: int, tail: float) -> float:
    """The value that Student's t exceeds with probability `tail`."""
    return -float(stdtrit(degrees, tail))


def _margin(degrees: int, tail: float) -> float:
    """How far above `_quantile` the noncentrality must be for a one-sided power of `POWER`."""
    quantile = _quantile(degrees, tail)
    if quantile > 100:
        # The luck of the spread decides, not that of the mean; and SciPy's search takes minutes.
        return quantile * (math.sqrt(chdtri(degrees, 1 - POWER) / degrees) - 1)
    return float(nctdtrinc(degrees, 1 - POWER, quantile)) - quantile


def _bias(degrees: int) -> float:
    """Expected standard deviation of normal values over the true one (c4 of quality control)."""
    return math.sqrt(2 / degrees) * math.exp(gammaln((degrees + 1) / 2) - gammaln(degrees / 2))
