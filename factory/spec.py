"""What is asked: frozen specs, read from YAML with overrides, refused with exact paths."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

Count = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
_TAGS = ("<number>", "<table>")
Counts = Annotated[
    Annotated[Count, Tag(_TAGS[0])] | Annotated[dict[str, Count], Tag(_TAGS[1])],
    Discriminator(lambda value: _TAGS[isinstance(value, dict)]),
]
"""One count for each class, or a table of counts by class name."""


class SpecError(ValueError):
    """Something asked for cannot be done; the message names it, what was got and what to do."""


class Frozen(BaseModel):
    """Base of specs, plans and records: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(Frozen):
    """Where the work runs. Never changes a byte, so it is no part of the fingerprint."""

    min_actors: int = Field(default=1, ge=1)
    max_actors: int | None = Field(default=None, ge=1)
    """Upper bound of the pool; None: as many as the cluster holds."""
    num_cpus: float | None = Field(default=None, gt=0)
    """CPUs reserved by one actor; None: the spec's `threads`, or 1 beside a GPU."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs reserved by one actor; None: 1 where the cluster has GPUs, else 0."""
    accelerator_type: str | None = None
    """Ray's name of the wanted accelerator, e.g. "H100"; None: any."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of one actor's share of a machine for one hour, in your currency, for estimates."""


class RealSource(Frozen):
    """A real dataset."""

    path: str = "fashion_mnist_small"
    """An embedded source's name, a Parquet file, a folder or glob of Parquet files, an image
    folder (one subfolder a class), or `hub:org/name` for a dataset on the Hugging Face Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    split: str = "train"
    """Split of a Hub dataset or of an embedded source; subfolder of an image folder."""
    image_column: str = "image"
    label_column: str = "label"
    num_images: int | None = Field(default=None, gt=0)
    """Keep a class-balanced part of this many images, drawn with `seed`; None: all."""
    seed: int = Field(default=0, ge=0)


Scheduler = Literal["heun", "euler", "edm_euler", "edm_dpm_solver_multistep"]


class EdmGenerator(Frozen):
    """A class-conditional pixel model with EDM preconditioning (Karras et al. 2022)."""

    kind: Literal["edm"] = "edm"
    model: str = "fashion_mnist"
    """An embedded model's name, a folder, or `org/name` on the Hugging Face Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    scheduler: Scheduler = "heun"
    """`heun` and `euler` are the factory's loops; `edm_*` are diffusers' schedulers."""
    num_inference_steps: int = Field(default=9, ge=1, le=1000)
    """Noise levels. Heun evaluates the network 2 n - 1 times, the others n times."""
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, ge=1)
    guidance_scale: float = Field(default=1.0, ge=0)
    """diffusers' convention: D = D_null + scale (D_class - D_null); 1 is no guidance."""
    guidance_interval: tuple[float, float] | None = None
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
    source: RealSource = RealSource()
    held_out: RealSource | None = None
    """Real images for the sample metric; None: a tenth of the source is held out."""
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


class VerifySpec(Frozen):
    """What to check of a finished dataset."""

    replay: Fraction = 0.0
    """Share of the images to make again and compare."""
    only: str | None = None
    """Key of one image to make again as a file; nothing else is checked."""
    output: str = "."
    """Folder for the file that `only` makes."""
    model: str | None = None
    """Where the dataset's model lies now, for `replay` and `only`; None: where it lay then."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _one_task(self) -> "VerifySpec":
        if self.only is not None and self.replay:
            raise ValueError(
                f"only is {self.only} and replay {self.replay}, but `only` checks nothing else; "
                "give one of the two"
            )
        return self


SpecT = TypeVar("SpecT", bound=Frozen)


def load_spec(cls: type[SpecT], path: str | Path | None, overrides: Sequence[str] = ()) -> SpecT:
    """Read a YAML spec, apply `key.path=value` overrides, validate once.

    Args:
        cls: the spec's model.
        path: YAML file; None starts from the defaults.
        overrides: each `a.b=value`, the value read as YAML.

    Raises:
        SpecError: naming every wrong field by its path, what was got, and the nearest valid key.
    """
    tree = {} if path is None else _read_yaml(Path(path))
    for override in overrides:
        _apply(tree, override)
    return validate(cls, tree, str(path or "defaults"))


def validate(cls: type[SpecT], tree: object, subject: str) -> SpecT:
    """`cls.model_validate`, with every offending field named in one `SpecError`."""
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(cls, item) for item in error.errors(include_url=False)]
        raise SpecError(f"{subject}: " + "; ".join(lines)) from None


def fingerprint(identity: object) -> str:
    """First 12 hex digits of the sha256 of `identity` as canonical JSON."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: object, new: object, path: str = "") -> list[str]:
    """Every place where two JSON trees differ, as `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: is no YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SpecError(f"{path}: holds a {type(tree).__name__}, expected `key: value` lines")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError(f"{override!r}: is no override; write key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SpecError(f"{override!r}: the value is no YAML; quote it") from None
    *parents, leaf = path.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise SpecError(f"{override!r}: {parent} is {child!r}, not a section with keys")
        tree = child
    tree[leaf] = value


def _explain(cls: type[BaseModel], item: Any) -> str:
    location = [str(part) for part in item["loc"] if part not in _TAGS]
    path = ".".join(location) or cls.__name__
    if item["type"] == "extra_forbidden":
        owner = _model_at(cls, location[:-1])
        names = list(owner.model_fields)
        near = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
        return f"{path}: is no key of {owner.__name__}; {hint}"
    if not location:
        return item["msg"].removeprefix("Value error, ")
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: got {item['input']!r}, {message[0].lower()}{message[1:]}"


def _model_at(cls: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    for name in location:
        annotation = cls.model_fields[name].annotation
        options = [annotation, *get_args(annotation)]
        cls = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return cls
