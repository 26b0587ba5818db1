"""A dataset that takes part, real or synthetic: where it lies, and which part of it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory.spec.read import Frozen, check_once

Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class LongTail(Frozen):
    """Class i of K keeps N_i factor^(i / (K - 1)) of its N_i images (basu2022, Eq. 1)."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """lambda of the paper: the share of its images that the last class keeps."""
    rounding: Literal["round", "truncate"] = "round"
    """What becomes of a fraction of an image; the paper does not say. Halves go to even."""


class SourceSpec(Frozen):
    """A labelled dataset, real or synthetic, and the part of it that is used.

    Applied in this order: `image_size` and `channels`, `half`, `num_images`, `long_tail`.
    """

    path: str = "fashion_mnist_small"
    """An embedded source's name, a Parquet file, a folder or glob of Parquet files or of
    WebDataset tars, an image folder (one subfolder a class), a root that the factory made (a
    folder or URL), or `hub:org/name` for a dataset on the Hugging Face Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    split: str = "train"
    """Split of a Hub dataset or of an embedded source; subfolder of an image folder."""
    image_column: str = "image"
    label_column: str = "label"
    class_names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names in label order, for files that hold none (WebDataset); None: those of the files."""
    image_size: int | None = Field(default=None, ge=1)
    """Side in px that every image is resized to, its shorter side first, then the centre cut;
    None: all images must have one size."""
    resample: Resample = "lanczos"
    """Filter of the resizing, by Pillow's name."""
    channels: Literal[1, 3] | None = None
    """Convert every image to grey (1, ITU-R 601 luma) or to RGB (3); None: all must agree."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, and count them, instead of refusing the source."""
    half: Literal["first", "second"] | None = None
    """One of two disjoint halves, cut class by class with `seed` (lundberg2022)."""
    num_images: int | None = Field(default=None, gt=0)
    """Keep a class-balanced part of this many images, drawn with `seed`; None: all."""
    long_tail: LongTail | None = None
    """Thin the classes out with `seed`, ever more from the first to the last."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_shape(self) -> "SourceSpec":
        check_once("class_names", self.class_names or ())
        return self
