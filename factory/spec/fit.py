"""A diffusion model to train on a real source."""

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from factory.spec.read import Fraction, Frozen, MixedPrecision, kind_or
from factory.spec.resources import Resources
from factory.spec.source import SourceSpec
from factory.spec.text_fit import AutoencoderObjective, TextToImageObjective


class EdmObjective(Frozen):
    """Denoise at continuous noise levels, with EDM's preconditioning (Karras et al. 2022)."""

    kind: Literal["edm"] = "edm"


class DdpmObjective(Frozen):
    """Predict the noise of a discrete chain (Ho et al. 2020; lundberg2022, Eq. 7)."""

    kind: Literal["ddpm"]
    num_train_timesteps: int = Field(default=1000, ge=2)
    """T, steps of the chain (lundberg2022: 400). With the default betas 400 steps leave 1.7 % of an
    image's variance; 100 steps leave 36 %, too much to start drawing from pure noise."""
    beta_schedule: Literal["linear", "cosine"] = "linear"
    """Variance that each step adds; `cosine` is that of improved DDPM (basu2022)."""
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    """First beta of the linear schedule."""
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    """Last beta of the linear schedule."""

    @model_validator(mode="after")
    def _rising(self) -> "DdpmObjective":
        if self.beta_start > self.beta_end:
            raise ValueError(
                f"beta_start is {self.beta_start} and beta_end {self.beta_end}; "
                "give beta_start <= beta_end"
            )
        return self


Objective = Annotated[
    Annotated[EdmObjective, Tag("<edm>")]
    | Annotated[DdpmObjective, Tag("<ddpm>")]
    | Annotated[AutoencoderObjective, Tag("<autoencoder>")]
    | Annotated[TextToImageObjective, Tag("<text_to_image>")],
    kind_or("edm"),
]
"""What a model learns; a section without `kind` is of kind edm."""


class DenoiserShape(Frozen):
    """The network: the U-Net of a pixel model or of latents, or an autoencoder."""

    block_out_channels: tuple[int, ...] = Field(default=(64, 128), min_length=1)
    layers_per_block: int = Field(default=2, ge=1)
    attention_levels: tuple[int, ...] = ()
    """Indices of the levels with self-attention (the middle always has it)."""
    patch_size: int = Field(default=2, ge=1)
    """The network of a pixel model sees patch_size x patch_size pixels as channels of one position;
    of no effect on others."""
    dropout: Fraction = 0.0


class Training(Frozen):
    """How long and how a model is trained."""

    num_images: int | None = Field(default=None, gt=0)
    """Training images seen, all epochs together; the length of the run. None, and `epochs` None:
    1,000,000."""
    epochs: int | None = Field(default=None, gt=0)
    """The length in passes over the training images, instead of `num_images`."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """End after this many checkpoints in a row without a lower validation loss; None: never."""
    batch_size: int = Field(default=128, ge=1)
    """Images in one optimizer step, all workers together."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    adam_betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """Shares of the gradient's running mean and mean square that a step keeps."""
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup_fraction: Fraction = 0.02
    decay_fraction: Fraction = 0.4
    """Last part of the run, in which the learning rate falls linearly to zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    ema_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Half-life of the moving average of the weights, as a fraction of the images seen; 0: the
    weights themselves are judged and kept."""
    label_dropout: Fraction | None = None
    """Share of labels hidden in training; 0 makes a model that takes no guidance. None: 0.1, and 0
    of an unconditional model."""
    horizontal_flip: bool = False
    mixed_precision: MixedPrecision = "auto"
    gradient_accumulation_steps: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_length(self) -> "Training":
        if self.num_images is not None and self.epochs is not None:
            raise ValueError(
                f"num_images is {self.num_images} and epochs {self.epochs}; give one of the two"
            )
        return self


class SampleMetric(Frozen):
    """How checkpoints are judged: Fréchet distance in a small classifier's features."""

    every_images: int | None = Field(default=None, gt=0)
    """Training images between two checkpoints, each of which is judged and gets a grid. None, and
    `every_epochs` None: 100,000."""
    every_epochs: int | None = Field(default=None, gt=0)
    """The same in passes over the training images, instead of `every_images`."""
    keep: Literal["best_sample", "lowest_loss", "last"] = "best_sample"
    """Which checkpoint becomes the model: the one with the lowest Fréchet distance, the one with
    the lowest validation loss (lundberg2022 finds that it need not draw best), or the last."""
    num_samples: int = Field(default=1_000, ge=100)
    num_inference_steps: int = Field(default=12, ge=1)
    """Network evaluations of an image, with the few-step sampler of the model's kind."""
    classifier_images: int = Field(default=300_000, gt=0)
    """Training images seen by the judging classifier."""

    @model_validator(mode="after")
    def _one_interval(self) -> "SampleMetric":
        if self.every_images is not None and self.every_epochs is not None:
            raise ValueError(
                f"every_images is {self.every_images} and every_epochs {self.every_epochs}; "
                "give one of the two"
            )
        return self


class FitSpec(Frozen):
    """A diffusion model to train on a real source."""

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    source: SourceSpec = SourceSpec()
    held_out: SourceSpec | None = None
    """Real images for validation loss and sample metric; None: a part of the source."""
    leave_out: tuple[str, ...] = ()
    """Classes that the model, and all that judges it, must not see."""
    validation_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of the source that is held out, as many images of each class, instead of `held_out`.
    None, and `held_out` None: 0.1."""
    start_from: str | None = None
    """An embedded model's name, a folder or a Hub id: go on from its averaged weights, with a new
    optimizer; its kind, shape, classes and image size must be this fit's. None: random weights."""
    objective: Objective = EdmObjective()
    conditional: bool = True
    """Whether the model learns classes; false: it draws images of any class, without labels."""
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

    @property
    def label_dropout(self) -> float:
        """Share of labels hidden in training."""
        given = self.training.label_dropout
        return (0.1 if self.conditional else 0.0) if given is None else given

    @model_validator(mode="after")
    def _agrees(self) -> "FitSpec":
        if not self.conditional and self.label_dropout:
            raise ValueError(
                f"training.label_dropout is {self.label_dropout}, but conditional is false and an "
                "unconditional model has no labels to hide; leave it out"
            )
        if isinstance(self.objective, AutoencoderObjective | TextToImageObjective):
            self._refuse_pixel_fields(self.objective.kind)
        if self.held_out is not None and self.validation_fraction is not None:
            raise ValueError(
                f"held_out is {self.held_out.path} and validation_fraction "
                f"{self.validation_fraction}; give one of the two"
            )
        return self

    def _refuse_pixel_fields(self, kind: str) -> None:
        given = {
            "start_from": self.start_from is not None,
            "conditional": not self.conditional,
        }
        wrong = [name for name, is_given in given.items() if is_given]
        if wrong:
            raise ValueError(f"objective {kind} takes no {', '.join(wrong)}; leave it out")
