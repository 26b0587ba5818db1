"""A synthetic dataset: what to draw, how many, and in which files."""

from typing import Literal

from pydantic import Field, model_validator

from factory.spec.read import Count, Counts, Frozen
from factory.spec.resources import Resources

Scheduler = Literal["heun", "euler", "edm_euler", "edm_dpm_solver_multistep"]


class EdmGenerator(Frozen):
    """A class-conditional pixel model with EDM preconditioning (Karras et al. 2022)."""

    kind: Literal["edm"] = "edm"
    model: str = "fashion_mnist"
    """An embedded model's name, a folder, or `org/name` on the Hugging Face Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    scheduler: Scheduler = "edm_dpm_solver_multistep"
    """`heun` and `euler` are the factory's loops; `edm_*` are diffusers' schedulers."""
    num_inference_steps: int = Field(default=12, ge=1, le=1000)
    """Noise levels. Heun evaluates the network 2 n - 1 times, the others n times."""
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, ge=1)
    guidance_scale: float = Field(default=1.5, ge=0)
    """diffusers' convention: D = D_null + scale (D_class - D_null); 1 is no guidance."""
    guidance_interval: tuple[float, float] | None = (0.1, 5.0)
    """Guide only at noise levels sigma within [low, high]; None: at all."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    """Run the network through torch.compile."""

    @model_validator(mode="after")
    def _ranges(self) -> "EdmGenerator":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min is {self.sigma_min} and sigma_max {self.sigma_max}; "
                "give sigma_min < sigma_max"
            )
        low_high = self.guidance_interval
        if low_high is not None and not 0 <= low_high[0] < low_high[1]:
            raise ValueError(f"guidance_interval is {list(low_high)}; give 0 <= low < high")
        return self


class ShardFormat(Frozen):
    """How accepted samples become bytes."""

    format: Literal["parquet", "webdataset"] = "parquet"
    compress_level: int = Field(default=6, ge=0, le=9)
    """zlib level of the PNG encoder; any level is lossless."""


class GenerateSpec(Frozen):
    """A synthetic dataset: what to draw, how many, and in which files."""

    name: str = Field(default="synthetic", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    """Name of the dataset; part of every image's seed."""
    generator: EdmGenerator = EdmGenerator()
    class_names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Classes in label order; None: all classes of the model, in its order."""
    num_images: Count | None = None
    """Images in all, shared evenly over the classes (the first ones take the remainder)."""
    images_per_class: Counts | None = None
    """Exact count of each class: one number, or a table (classes left out get none)."""
    seed: int = Field(default=0, ge=0)
    layout: Literal["interleaved", "by_class"] | None = None
    """Classes in turn within a shard, or one class a shard; None: `by_class` for a table of
    counts, else `interleaved`."""
    shard_size: int = Field(default=250, ge=1, le=100_000)
    """Images in a full shard; the unit of work, of retry and of commit."""
    batch_size: int = Field(default=50, ge=1, le=100_000)
    """Images drawn at once. Fixed, since a network's last bits depend on it."""
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
        names = self.class_names
        if names is not None and len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(f"class_names holds {twice} more than once; name each class once")
        if self.layout == "interleaved" and isinstance(self.images_per_class, dict):
            raise ValueError(
                "layout is interleaved and images_per_class is a table; "
                "a table needs layout by_class"
            )
        return self
