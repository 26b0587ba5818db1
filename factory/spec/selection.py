"""Which candidates become samples: labels that are found, and filters."""

from typing import Annotated, Literal

from pydantic import Field

from factory.spec.read import Fraction, Frozen
from factory.spec.source import SourceSpec


class Labeller(Frozen):
    """A classifier that looks at candidates."""

    model: str
    """A folder: one that jobs/classify.py saved, or an image classifier in transformers' format;
    or `org/name` on the Hugging Face Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    min_confidence: Fraction = 0.0
    """A candidate's probability for its class must be at least this."""


class AgreementFilter(Labeller):
    """Reject what a classifier sees as another class, or as the right one with too low a
    confidence."""

    kind: Literal["agreement"]


class DuplicateFilter(Frozen):
    """Reject what the shard holds already, exactly or nearly."""

    kind: Literal["duplicate"]
    max_distance: int | None = Field(default=None, ge=0, le=64)
    """Differing bits of the 64 of a perceptual hash (dHash) up to which two images are one; None:
    only images of equal pixels are. The hash is coarse below some 64 px."""


class NearRealFilter(Frozen):
    """Reject what lies too near to a real training image, in the features of a network."""

    kind: Literal["near_real"]
    real: SourceSpec
    """What the generator was trained on."""
    held_out: SourceSpec
    """Real images that it has not seen: how near to `real` unseen images lie."""
    features: str = "pixels"
    """`pixels`, or a classifier as `labeller.model` names one: its features before the last
    layer."""
    quantile: Fraction = 0.01
    """A candidate is rejected if it is at most as far from a training image as this share of the
    held-out images are."""


class ContrastFilter(Frozen):
    """Reject blank images."""

    kind: Literal["contrast"]
    min_deviation: float = Field(default=8.0, ge=0, le=127.5)
    """Least standard deviation of an image's grey values (0 to 255)."""


Filter = Annotated[
    AgreementFilter | DuplicateFilter | NearRealFilter | ContrastFilter,
    Field(discriminator="kind"),
]


class Reconstruction(Frozen):
    """Draw from noised real images instead of from noise (yamaguchi2024, Algorithm 1)."""

    source: SourceSpec
    passes: int = Field(default=1, ge=1)
    """Images made of each source image."""
    t_re: int | tuple[int, int] | None = Field(default=None)
    """Of a pixel model: index of the noise level to start from, 0 (the source itself) to
    num_inference_steps (pure noise); a pair is drawn from evenly, both ends included."""
    strength: float | tuple[float, float] | None = None
    """Of a text-to-image model: share of the steps that are taken, as diffusers' image-to-image
    pipelines have it; a pair is drawn from evenly."""
