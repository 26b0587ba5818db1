"""How often verdicts err, and how often they find what they say they can find.

`python benchmarks/verdicts.py [--comparisons N]` simulates comparisons of two arms that are alike
(equal classifiers but for the luck of training) and prints a Markdown table: the share of overall
verdicts, and of whole families of ten class verdicts, that say "no evidence" (0.95 wanted); the
mean of the stated `detectable`; and the share of verdicts that say "helps" when the arm truly is
better by that much (0.80 wanted). Takes about five minutes on one core.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar
from scipy.special import expit, ndtri

from factory.metrics.evidence import Comparison, Outcome, compare, compare_classes
from factory.seeds import hash_seed

CONFIDENCE = 0.95
CLASS_NAMES = tuple("abcdefghij")
DIFFICULTY_SPREAD = 2.5
"""Standard deviation over images of the logit of the probability to be classified rightly."""


@dataclass(frozen=True)
class Trials:
    """Test results of pairs of arms: logits of images, seeds and both, and a coin for each result.

    All arms see the same images; every training has luck of its own, overall and in each class.
    """

    num_seeds: int
    num_images: int
    seed_spread: float
    """Standard deviation of true accuracy between seeds."""
    class_spread: float = 0.02
    """The same for single classes, around the seed's own."""
    ease: float = 3.5
    """Mean of the logits; 3.5 gives an accuracy of about 0.88."""
    image_spread: float = 0.0
    """Standard deviation of what an arm (all its seeds) finds easier in an image, in logits."""

    def draw(
        self, count: int, *, seed: int, gap: float = 0.0
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """`count` pairs (arm, baseline) bool [S, N]; the arm is truly better by `gap`."""
        generator = np.random.default_rng(seed)
        shift = self._shift(gap)
        for _ in range(count):
            images = generator.normal(self.ease, DIFFICULTY_SPREAD, self.num_images)
            baseline = self._results(images, generator)
            yield self._results(images + shift, generator), baseline

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N], the classes in turn."""
        return np.arange(self.num_images) % len(CLASS_NAMES)

    def _results(
        self, images: NDArray[np.float64], generator: np.random.Generator
    ) -> NDArray[np.bool_]:
        logits = images + generator.normal(0, self.image_spread, self.num_images)
        overall = generator.normal(0, self.seed_spread, (self.num_seeds, 1))
        classes = generator.normal(0, self.class_spread, (self.num_seeds, len(CLASS_NAMES)))
        luck = overall + classes - classes.mean(axis=1, keepdims=True)
        right = expit(self._logits)
        # A small shift of all logits moves the mean accuracy by this much.
        slope = (right * (1 - right)).mean()
        return generator.random((self.num_seeds, self.num_images)) < expit(
            logits + luck[:, self.labels] / slope
        )

    def _shift(self, gap: float) -> float:
        """What must be added to all logits so that the mean accuracy rises by `gap`."""
        wanted = expit(self._logits).mean() + gap
        rise = root_scalar(lambda x: expit(self._logits + x).mean() - wanted, bracket=(-1, 40))
        return rise.root

    @cached_property
    def _logits(self) -> NDArray[np.float64]:
        """Those of all images, as evenly spaced quantiles."""
        spread = math.hypot(DIFFICULTY_SPREAD, self.image_spread)
        return self.ease + spread * ndtri((np.arange(2_000) + 0.5) / 2_000)


def share(comparisons: list[Comparison], outcome: Outcome) -> float:
    """Share of verdicts that say `outcome`."""
    return float(np.mean([c.outcome == outcome for c in comparisons]))


def mean_detectable(comparisons: list[Comparison]) -> float:
    """Mean of the differences that the comparisons say they would find."""
    return float(np.mean([1.0 if c.detectable is None else c.detectable for c in comparisons]))


def compare_all(trials: Trials, count: int, *, seed: int, gap: float = 0.0) -> list[Comparison]:
    """Overall verdicts of `count` pairs of arms."""
    return [compare(*pair, CONFIDENCE) for pair in trials.draw(count, seed=seed, gap=gap)]


def quiet_families(trials: Trials, count: int, *, seed: int) -> float:
    """Share of pairs of arms for which no class says anything but "no evidence"."""
    quiet = [
        all(
            verdict.outcome == "no evidence"
            for verdict in compare_classes(*pair, trials.labels, CLASS_NAMES, CONFIDENCE).values()
        )
        for pair in trials.draw(count, seed=seed)
    ]
    return float(np.mean(quiet))


def main() -> None:
    """Print a row for every kind of comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=1_000)
    count = parser.parse_args().comparisons
    print("| S | N | seed spread | image spread | overall | classes | detectable | found |")
    print("|---|---|---|---|---|---|---|---|")
    for num_seeds, num_images, spread, image_spread in product(
        (3, 5, 10), (1_000, 10_000), (0.002, 0.005, 0.01), (0.0, 1.0)
    ):
        trials = Trials(num_seeds, num_images, spread, image_spread=image_spread)
        alike = compare_all(trials, count, seed=hash_seed(repr(trials), "alike"))
        gap = mean_detectable(alike)
        apart = compare_all(trials, count, seed=hash_seed(repr(trials), "apart"), gap=gap)
        quiet = quiet_families(trials, count, seed=hash_seed(repr(trials), "classes"))
        print(
            f"| {num_seeds} | {num_images:,} | {spread} | {image_spread:g} "
            f"| {share(alike, 'no evidence'):.3f} | {quiet:.3f} "
            f"| {gap:.4f} | {share(apart, 'helps'):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
