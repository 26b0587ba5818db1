"""A synthetic dataset: what to draw, how many, and in which files."""

from typing import Literal

from pydantic import Field, model_validator

from factory.spec.generators import EdmGenerator, Generator
from factory.spec.read import Count, Counts, Frozen, check_once
from factory.spec.resources import Resources
from factory.spec.selection import Filter, Labeller, Reconstruction
from factory.spec.source import Resample


class ShardFormat(Frozen):
    """How accepted samples become bytes."""

    format: Literal["parquet", "webdataset"] = "parquet"
    compress_level: int = Field(default=6, ge=0, le=9)
    """zlib level of the PNG encoder; any level is lossless."""
    image_size: int | None = Field(default=None, ge=1)
    """Side in px that drawn images are resized to before filters look at them; None: as drawn."""
    resample: Resample = "lanczos"
    """Filter of the resizing, by Pillow's name."""


class GenerateSpec(Frozen):
    """A synthetic dataset: what to draw, how many, and in which files."""

    name: str = Field(default="synthetic", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    """Name of the dataset; part of every image's seed."""
    generator: Generator = EdmGenerator()
    reconstruct: Reconstruction | None = None
    """Start from real images; the counts are then those of its source, times `passes`."""
    class_names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Classes in label order; None: all classes of the model (of the labeller, the source or the
    mapping, where one decides on them), in its order."""
    num_images: Count | None = None
    """Images in all, shared evenly over the classes (the first ones take the remainder)."""
    images_per_class: Counts | None = None
    """Exact count of each class: one number, or a table (classes left out get none)."""
    labels: Literal["given", "as_found", "quota"] = "given"
    """`given`: drawn for a class. Of an unconditional model a labeller says what came: `as_found`
    keeps the total and whatever classes come, `quota` the exact count of each class."""
    labeller: Labeller | None = None
    """Who says what came, for `as_found` and `quota`."""
    filters: tuple[Filter, ...] = ()
    """Which candidates are rejected, asked in this order; others are drawn in their place."""
    max_candidates_per_image: int = Field(default=20, ge=1)
    """A shard that would need more candidates than this for each image that it takes is given
    up, and its yield said."""
    seed: int = Field(default=0, ge=0)
    layout: Literal["interleaved", "by_class"] | None = None
    """Classes in turn within a shard, or one class a shard; None: `by_class` for a table of
    counts, filters, adapters and reconstructions, else `interleaved`."""
    shard_size: int = Field(default=250, ge=1, le=100_000)
    """Images in a full shard; the unit of work, of retry and of commit."""
    batch_size: int = Field(default=50, ge=1, le=100_000)
    """Images drawn at once. Fixed, since a network's last bits depend on it; where the device has
    no memory for so many, the run says how many fit."""
    threads: int = Field(default=2, ge=1)
    """CPU threads of an actor. Fixed, since they change the last bits on a CPU."""
    output: ShardFormat = ShardFormat()
    resources: Resources = Resources()
    recheck: bool = False
    """Hash every recorded shard before planning, and make broken ones again."""
    preview: bool = False
    """With --dry-run: draw the first batch, save it as a picture, and time it."""

    @model_validator(mode="after")
    def _counts(self) -> "GenerateSpec":
        if self.num_images is not None and self.images_per_class is not None:
            raise ValueError(
                f"num_images is {self.num_images} and images_per_class is "
                f"{self.images_per_class}; give one of the two"
            )
        check_once("class_names", self.class_names or ())
        if self.layout == "interleaved" and isinstance(self.images_per_class, dict):
            raise ValueError(
                "layout is interleaved and images_per_class is a table; "
                "a table needs layout by_class"
            )
        return self

    @model_validator(mode="after")
    def _labels(self) -> "GenerateSpec":
        if self.labels != "given" and self.labeller is None:
            raise ValueError(
                f"labels is {self.labels}, and no labeller says them; give labeller.model=FOLDER, "
                "e.g. a classifier of jobs/classify.py save_classifiers=true"
            )
        if self.labels == "given" and self.labeller is not None:
            raise ValueError(
                f"labeller.model is {self.labeller.model} and labels is given; give "
                "labels=as_found or labels=quota, or leave the labeller out"
            )
        if self.labels == "as_found" and self.images_per_class is not None:
            raise ValueError(
                f"labels is as_found and images_per_class is {self.images_per_class}; "
                "give num_images, or labels: quota"
            )
        return self

    @model_validator(mode="after")
    def _reconstruction(self) -> "GenerateSpec":
        start = self.reconstruct
        if start is None:
            return self
        if self.labels != "given":
            raise ValueError(
                f"labels is {self.labels}, but a reconstruction has its image's label; "
                "leave labels out, and use a filter of kind agreement to have a classifier look"
            )
        if self.num_images is not None or self.images_per_class is not None:
            raise ValueError(
                "reconstruct takes its counts from its source; give reconstruct.passes and "
                "neither num_images nor images_per_class"
            )
        wanted = {"edm": "t_re", "ddpm": "t_re", "text_to_image": "strength"}
        field = wanted.get(self.generator.kind)
        given = [name for name in ("t_re", "strength") if getattr(start, name) is not None]
        if field is None or given != [field]:
            raise ValueError(
                f"reconstruct has {given or 'no level'} and the generator is of kind "
                f"{self.generator.kind}; give t_re to edm and ddpm, strength to text_to_image"
            )
        return self
