"""A search for the mix, and for the settings of its images, that serve a classifier best."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from factory.spec.classify import Arm, Classifier, ClassifierTraining
from factory.spec.generate import GenerateSpec
from factory.spec.mix import MultiplierMix
from factory.spec.read import Fraction, Frozen
from factory.spec.resources import Resources
from factory.spec.source import SourceSpec

_SECTIONS = ("generate", "arm", "training", "classifier")
_NUMBERS = ("generate.num_images", "generate.images_per_class", "generate.reconstruct.passes")
_NOT_SEARCHED = {
    **dict.fromkeys(_NUMBERS, "but the mix decides how many images there are"),
    "generate.shard_size": "which a larger dataset must share with a smaller one",
    **dict.fromkeys(
        ("generate.resources", "generate.preview", "generate.recheck"), "which changes no image"
    ),
}
"""Path -> why it is not searched."""
_TAGS = ("<list>", "<range>")


class Range(Frozen):
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    step: float | None = Field(default=None, gt=0)
    """Take `low` and what lies whole steps above it alone; None: any number between."""
    log: bool = False
    """Draw the logarithm evenly, rather than the number."""

    @model_validator(mode="before")
    @classmethod
    def _has_bounds(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.keys() & cls.model_fields.keys():
            raise ValueError(
                f"holds {given}, which is no list of values and no range (low, high); where a path "
                "is meant it is one key, e.g. 'space={generate.generator.guidance_scale: [1, 2]}'"
            )
        return given

    @model_validator(mode="after")
    def _not_empty(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; give a higher high")
        if self.step is not None and self.step > (self.high - self.low) * (1 + 1e-9):
            raise ValueError(
                f"step is {self.step:g}, more than lies between low and high; give a smaller one"
            )
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                f"log is true, low {self.low:g} and step {self.step}; give a low above 0 and no "
                "step"
            )
        return self


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there more than once; give each value once")
    return values


Parameter = Annotated[
    Annotated[
        Annotated[tuple[Any, ...], Field(min_length=1), AfterValidator(_each_once)],
        Tag(_TAGS[0]),
    ]
    | Annotated[Range, Tag(_TAGS[1])],
    Discriminator(lambda value: _TAGS[isinstance(value, dict | Range)]),
]
"""A list of values, or a range of numbers."""


class Search(Frozen):
    """Which configurations are tried, and for how long."""

    searcher: Literal["grid", "random", "optuna"] = "grid"
    num_trials: int | None = Field(default=None, ge=1)
    """Configurations to try; None: all of a grid."""
    num_seeds: int = Field(default=1, ge=1)
    """Trainings of each configuration."""
    scheduler: Literal["none", "asha"] = "none"
    """`asha`: stop trainings that are behind others after the same share of their steps (Li et al.
    2020). It looks at the end of the epoch in which a training gets there, and where epochs differ
    in length, so do the shares."""
    grace: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of a training before which `asha` stops none."""
    reduction_factor: float = Field(default=3, gt=1)
    """`asha` lets one in so many go on at each of its looks."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Trials under way at once, those that wait for images included; None: two more than can
    train at once, so that images are drawn ahead. `resources.max_actors` bounds it too."""

    @model_validator(mode="after")
    def _fits(self) -> "Search":
        if (self.searcher == "grid") != (self.num_trials is None):
            raise ValueError(
                f"searcher is {self.searcher} and num_trials {self.num_trials}; a grid tries all "
                "and takes none, the others need a number"
            )
        if self.scheduler == "asha" and self.num_seeds > 1:
            raise ValueError(
                f"scheduler is asha and num_seeds {self.num_seeds}; it looks at one training of "
                "each configuration: give 1, and more seeds in confirm"
            )
        return self


class Confirm(Frozen):
    """The best of the search, trained again with seeds that the search has not seen."""

    top: int = Field(default=3, ge=1)
    num_seeds: int = Field(default=3, ge=1)


_TRAINING = ClassifierTraining(num_steps=600, learning_rate=0.1)
_SPACE: dict[str, Any] = {
    "arm.synthetic_ratio": (0.25, 0.5, 0.75),
    "generate.generator.guidance_scale": (1.0, 2.0),
    "arm.mix.multiplier": (1.0, 3.0),
}


class TuneSpec(Frozen):
    """How much synthetic data, made how, is best for a classifier, and what does it cost?"""

    name: str = Field(default="tune", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    real: SourceSpec = SourceSpec()
    validation: SourceSpec | None = None
    """Other real images, which the search chooses by; None: a share of `real`."""
    validation_fraction: Fraction = 0.25
    """Share of each class of `real` that the search chooses by, where `validation` names no
    source. The final trainings have all of `real`."""
    test: SourceSpec = SourceSpec(split="test")
    """Looked at once, after everything is chosen."""
    generate: GenerateSpec = GenerateSpec(threads=1)
    """What draws the images; how many follows from the mix."""
    arm: Arm = Arm(
        mix=MultiplierMix(kind="multiplier", multiplier=1.0), batches="paired", synthetic_ratio=0.5
    )
    """The default mix: where the space names none of its fields, that of every trial."""
    classifier: Classifier = Classifier(width=16)
    training: ClassifierTraining = _TRAINING
    space: dict[str, Parameter] = Field(default=_SPACE, min_length=1)
    """Path of a field in `generate`, `arm`, `training` or `classifier` -> what to try."""
    search: Search = Search()
    confirm: Confirm = Confirm()
    num_seeds: int = Field(default=3, ge=1)
    """Trainings of the chosen mix, and of what it is compared with, that are tested."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of intervals and verdicts."""
    max_images: int | None = Field(default=None, ge=1)
    """Refuse a search that could draw more images than this in all; None: no bound."""
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    """CPU threads of one training. Fixed, since they change the last bits on a CPU."""
    num_workers: int = Field(default=1, ge=1)
    """Ray Train workers of one training."""
    resources: Resources = Resources()
    """Of a training. Those of drawing are `generate.resources`."""

    @model_validator(mode="after")
    def _has_validation(self) -> "TuneSpec":
        if self.validation is None and not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation is left out and validation_fraction {self.validation_fraction:g}; a "
                "search that chose by the test images would tell nothing about new ones: give "
                "a fraction between 0 and 1, or a source of other real images"
            )
        if self.training.validation is not None:
            raise ValueError(
                "training.validation is given, but every training is watched on the images that "
                "the search chooses by; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _mix_decides(self) -> "TuneSpec":
        generate, arm = self.generate, self.arm
        if generate.num_images is not None or generate.images_per_class is not None:
            raise ValueError(
                "generate.num_images or generate.images_per_class is given, but the mix decides "
                "how many images there are; leave both out"
            )
        if generate.labels == "as_found":
            raise ValueError(
                "generate.labels is as_found, which promises no count of any class; give quota"
            )
        if arm.synthetic is not None or arm.match is not None:
            raise ValueError(
                f"arm.synthetic is {arm.synthetic} and arm.match {arm.match}, but a trial has one "
                "synthetic source and no other arm; leave both out, and give training.num_steps "
                "for equal lengths"
            )
        return self

    @model_validator(mode="after")
    def _prices(self) -> "TuneSpec":
        training, drawing = self.resources.price_per_hour, self.generate.resources.price_per_hour
        if (training is None) != (drawing is None):
            raise ValueError(
                f"resources.price_per_hour is {training} and generate.resources.price_per_hour "
                f"{drawing}, but a search both trains and draws; give both, 0 for what is free, or "
                "neither"
            )
        return self

    @model_validator(mode="after")
    def _paths(self) -> "TuneSpec":
        for path in self.space:
            if path.partition(".")[0] not in _SECTIONS or "." not in path:
                raise ValueError(
                    f"space holds {path!r}; a path begins with one of {', '.join(_SECTIONS)} and "
                    "names a field in it, e.g. generate.generator.guidance_scale"
                )
            for prefix, reason in _NOT_SEARCHED.items():
                if path.startswith(prefix):
                    raise ValueError(
                        f"space holds {path}, {reason}; leave it out, and search the mix for other "
                        "numbers of images, e.g. arm.mix.multiplier"
                    )
            inner = [other for other in self.space if other.startswith(f"{path}.")]
            if inner:
                raise ValueError(f"space holds {path} and {inner} within it; give one of the two")
        return self
