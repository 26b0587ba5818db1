"""How long a run is, in images, and what of a step depends on how far it is."""

import math
from dataclasses import dataclass

from factory.spec import FitSpec, Training

_NUM_IMAGES = 1_000_000
_EVERY_IMAGES = 100_000
_EMA_RAMP = 0.1
"""Early on, the moving average's half-life is this share of the images seen so far."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The lengths of a run, epochs counted out."""

    training: Training
    num_images: int
    """Training images seen, all epochs together, unless the run is stopped early."""
    every_images: int
    """Training images between two checkpoints."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return math.ceil(self.num_images / self.training.batch_size)

    def learning_rate(self, images_seen: int) -> float:
        """Of the step after `images_seen`: linear warm-up, constant, linear fall to zero."""
        warm_up = self.training.warmup_fraction * self.num_images
        fall = self.training.decay_fraction * self.num_images
        risen = (images_seen + self.training.batch_size) / warm_up if warm_up else 1.0
        left = (self.num_images - images_seen) / fall if fall else 1.0
        return self.training.learning_rate * min(1.0, risen, max(0.0, left))

    def ema_decay(self, images_seen: int) -> float:
        """Share of the average that one step keeps, `images_seen` counting that step.

        The half-life is `ema_fraction` of the whole run, at first a tenth of the images seen so
        far, so that the untrained weights are soon forgotten.
        """
        if not self.training.ema_fraction:
            return 0.0
        half_life = min(self.training.ema_fraction * self.num_images, _EMA_RAMP * images_seen)
        return 0.5 ** (self.training.batch_size / half_life)


def make_schedule(spec: FitSpec, epoch: int) -> Schedule:
    """The schedule of `spec` on a source of `epoch` training images."""
    training, metric = spec.training, spec.metric
    return Schedule(
        training,
        num_images=_images(training.num_images, training.epochs, epoch, _NUM_IMAGES),
        every_images=_images(metric.every_images, metric.every_epochs, epoch, _EVERY_IMAGES),
    )


def _images(images: int | None, epochs: int | None, epoch: int, default: int) -> int:
    if epochs is not None:
        return epochs * epoch
    return default if images is None else images
