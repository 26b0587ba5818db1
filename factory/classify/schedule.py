"""How long a training is, and its learning rate at each step: plain arithmetic."""

import math
from collections.abc import Sequence

from factory.spec import Arm, ClassifierTraining

_WARM_UP = 0.3
_START_DIVISOR = 25.0
_END_DIVISOR = 1e4
"""One cycle (Smith and Topin 2018): rises over 30 % of the steps from a 25th of the highest rate,
then falls to a 10,000th of that start; both along half a cosine."""


def num_steps(training: ClassifierTraining, *, epoch_steps: float) -> int:
    """Optimizer steps of epochs that are `epoch_steps` long; at least 1."""
    if training.num_steps is not None:
        return training.num_steps
    assert training.epochs is not None
    return max(1, round(training.epochs * epoch_steps))


def step_sizes(training: ClassifierTraining, arm: Arm) -> tuple[int, ...]:
    """Images that one step takes of each part: of the mix, or of its real and synthetic images."""
    size = training.batch_size
    if arm.batches == "joint":
        return (size,)
    if arm.synthetic_ratio is None:
        return (size, size)
    synthetic = round(arm.synthetic_ratio * size)
    return (size - synthetic, synthetic)


def epoch_steps(part_sizes: Sequence[int], sizes: Sequence[int]) -> float:
    """Steps in which the part that takes longest has been seen once.

    Args:
        part_sizes: images of each part.
        sizes: images that a step takes of each.
    """
    return max(part / size for part, size in zip(part_sizes, sizes, strict=True))


def images_per_step(training: ClassifierTraining, arm: Arm) -> int:
    """Images that one step of `arm` sees."""
    return sum(step_sizes(training, arm))


def learning_rate(
    training: ClassifierTraining, step: int, *, num_steps: int, num_epochs: float
) -> float:
    """The rate of `step` (from 0) of `num_steps`.

    A step-matched arm follows the baseline's schedule: `num_epochs` are those of the spec, however
    often the arm's own images go round in `num_steps`.
    """
    highest, done = training.learning_rate, step / num_steps
    match training.schedule:
        case "constant":
            return highest
        case "step":
            return highest * training.step_factor ** int(done * num_epochs / training.step_epochs)
        case "cosine":
            return highest * _half_cosine(done)
        case "one_cycle":
            return highest * _one_cycle(done)


def _one_cycle(done: float) -> float:
    start, end = 1 / _START_DIVISOR, 1 / _START_DIVISOR / _END_DIVISOR
    if done < _WARM_UP:
        return 1 - (1 - start) * _half_cosine(done / _WARM_UP)
    return end + (1 - end) * _half_cosine((done - _WARM_UP) / (1 - _WARM_UP))


def _half_cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * done))
