"""Mixes of a real and a synthetic source, all in one vocabulary."""

from typing import Annotated, Literal

from pydantic import Field

from factory.spec.read import Count, Counts, Fraction, Frozen


class RealMix(Frozen):
    """All real images, nothing else."""

    kind: Literal["real"] = "real"


class AddMix(Frozen):
    """All real images, and some synthetic ones a class (basu2022)."""

    kind: Literal["add"] = "add"
    images_per_class: Counts
    """Synthetic images added: one number for every class, or a table by class name."""


class FillMix(Frozen):
    """All real images, and synthetic ones until each class has as many as the largest."""

    kind: Literal["fill"] = "fill"
    images_per_class: Count | None = None
    """Images that each class shall have; None: as many as the largest class."""


class OversampleMix(Frozen):
    """All real images, repeated until each class has as many as the largest; none synthetic."""

    kind: Literal["oversample"] = "oversample"
    images_per_class: Count | None = None
    """Images that each class shall have; None: as many as the largest class."""


class ReplaceMix(Frozen):
    """As many images as the real source, some of each class synthetic (basu2022, namburi2022)."""

    kind: Literal["replace"] = "replace"
    fraction: Fraction
    """Share of each class's real images that synthetic ones take the place of."""


class KeepMix(Frozen):
    """The real part of `replace` with the same fraction, alone (namburi2022's only original)."""

    kind: Literal["keep"] = "keep"
    fraction: Fraction
    """Share of each class's real images that is left out."""


class RatioMix(Frozen):
    """A fixed number of images, of which a share is synthetic (lundberg2022)."""

    kind: Literal["ratio"] = "ratio"
    synthetic_ratio: Fraction
    num_images: int | None = Field(default=None, gt=0)
    """Images in all, shared over the classes as in the real source; None: as many as it has."""


class MultiplierMix(Frozen):
    """Synthetic images as a multiple of the real ones, with or without these (yamaguchi2024)."""

    kind: Literal["multiplier"] = "multiplier"
    multiplier: Annotated[float, Field(gt=0)]
    """Synthetic images of each class over its real images."""
    with_real: bool = True
    """False: the synthetic images alone."""


Mix = Annotated[
    RealMix | AddMix | FillMix | OversampleMix | ReplaceMix | KeepMix | RatioMix | MultiplierMix,
    Field(discriminator="kind"),
]
