"""A diffusion model to train on a real source."""

from typing import Literal

from pydantic import Field

from factory.spec.read import Fraction, Frozen
from factory.spec.resources import Resources
from factory.spec.source import SourceSpec


class DenoiserShape(Frozen):
    """The U-Net of a pixel model."""

    block_out_channels: tuple[int, ...] = Field(default=(64, 128), min_length=1)
    layers_per_block: int = Field(default=2, ge=1)
    attention_levels: tuple[int, ...] = ()
    """Indices of the levels with self-attention (the middle always has it)."""
    patch_size: int = Field(default=2, ge=1)
    """The network sees patch_size x patch_size pixels as channels of one position."""
    dropout: Fraction = 0.0


class Training(Frozen):
    """How long and how a model is trained."""

    num_images: int = Field(default=1_000_000, gt=0)
    """Training images seen, all epochs together; the length of the run."""
    batch_size: int = Field(default=128, ge=1)
    """Images in one optimizer step, all workers together."""
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup_fraction: Fraction = 0.02
    decay_fraction: Fraction = 0.4
    """Last part of the run, in which the learning rate falls linearly to zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    ema_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Half-life of the moving average of the weights, as a fraction of the images seen."""
    label_dropout: Fraction = 0.1
    """Share of labels hidden in training; 0 makes a model that takes no guidance."""
    horizontal_flip: bool = False
    mixed_precision: Literal["no", "bf16"] = "bf16"
    gradient_accumulation_steps: int = Field(default=1, ge=1)


class SampleMetric(Frozen):
    """How checkpoints are judged: Frechet distance in a small classifier's features."""

    every_images: int = Field(default=100_000, gt=0)
    """Training images between two checkpoints, each of which is judged and gets a grid."""
    num_samples: int = Field(default=1_000, ge=100)
    num_inference_steps: int = Field(default=9, ge=1)
    classifier_images: int = Field(default=300_000, gt=0)
    """Training images seen by the judging classifier."""


class FitSpec(Frozen):
    """A diffusion model to train on a real source."""

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    source: SourceSpec = SourceSpec()
    held_out: SourceSpec | None = None
    """Real images for the sample metric; None: a tenth of the source is held out."""
    start_from: str | None = None
    """An embedded model's name, a folder or a Hub id: go on from its averaged weights, with a new
    optimizer; its shape, classes and image size must be this fit's. None: random weights."""
    shape: DenoiserShape = DenoiserShape()
    training: Training = Training()
    metric: SampleMetric = SampleMetric()
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)
    num_workers: int = Field(default=1, ge=1)
    """Ray Train workers; each takes its share of every batch."""
    resources: Resources = Resources()
    licence: str | None = None
    """Licence of the trained model, for its card (SPDX name)."""
