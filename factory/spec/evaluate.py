"""Synthetic datasets to compare with a real one: how alike do they look?"""

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory.spec.read import Frozen
from factory.spec.resources import Resources
from factory.spec.source import SourceSpec

HELD_OUT = "held-out real"
"""What the real images that no generator has seen are called beside the synthetic datasets."""
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _+.%-]*$", max_length=60)]


class Extractor(Frozen):
    """A network whose features images are compared in."""

    kind: Literal["efficientnet_lite0", "inception", "dinov2", "clip", "classifier"] = (
        "efficientnet_lite0"
    )
    """`efficientnet_lite0`: ImageNet weights from a package; `inception`: the network behind
    published FIDs; `dinov2`, `clip`: of transformers; `classifier`: a trained classifier of
    images, its features before the last layer."""
    model: str | None = None
    """Of inception: the TorchScript file of its published weights, or that file's URL; of dinov2
    and clip a folder or Hub id in transformers' format; of classifier a folder that
    jobs/classify.py saved, or an image classifier in transformers' format."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""

    @model_validator(mode="after")
    def _names_its_model(self) -> "Extractor":
        has_weights = self.kind == "efficientnet_lite0"
        if has_weights != (self.model is None):
            raise ValueError(
                f"kind is {self.kind} and model is {self.model}; "
                + ("its weights come with a package, leave model out" if has_weights else
                   "give the file, folder or Hub id of its weights")
            )  # fmt: skip
        return self


class Detection(Frozen):
    """Can a linear classifier tell synthetic images from real ones (Frank et al. 2020)?"""

    domains: tuple[Literal["pixel", "dct"], ...] = Field(default=("pixel", "dct"), min_length=1)
    """What it sees: the pixels, or the logarithms of their discrete cosine transform."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the images of either side that its accuracy is measured on."""


class Memorisation(Frozen):
    """Are synthetic images copies of those that the generator has seen?"""

    seen: SourceSpec | None = None
    """All that it has seen; None: `real` is that. Where it is not, nothing is said."""
    quantile: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of held-out real images that lie as near to a training image as what counts as a
    copy: the rate of false accusations."""


class Series(Frozen):
    """Synthetic datasets that differ in one number, for curves."""

    parameter: str = Field(min_length=1, max_length=40)
    """What the number is, e.g. `t_re`."""
    values: dict[DatasetName, float] = Field(min_length=2)
    """Synthetic dataset -> its number, each another one."""

    @model_validator(mode="after")
    def _numbers_differ(self) -> "Series":
        shared = [n for n, times in Counter(self.values.values()).items() if times > 1]
        if shared:
            names = [name for name, number in self.values.items() if number in shared]
            raise ValueError(
                f"values gives {names} numbers that they share ({shared}), and a curve has one "
                "dataset at each; give each its own number, or leave all but one of them out"
            )
        return self


class EvaluateSpec(Frozen):
    """Synthetic datasets, measured against real images."""

    name: str = Field(default="evaluate", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    real: SourceSpec = SourceSpec()
    """What synthetic images should look like."""
    held_out: SourceSpec | None = SourceSpec(split="test")
    """Real images that no generator has seen: measured as if they were synthetic they show what
    perfect images would reach, and they say how near to `real` unseen images lie."""
    synthetic: dict[DatasetName, SourceSpec] = Field(
        default={"synthetic": SourceSpec(path="out")}, min_length=1
    )
    """Datasets to measure, side by side."""
    per_class: bool = True
    """Measure each class too. All sources must then have the same class names; else labels are not
    looked at, and whatever needs them is left out."""
    series: Series | None = None
    extractors: tuple[Extractor, ...] = Field(default=(Extractor(),), min_length=1)
    """The first one measures precision and recall, and classes too."""
    neighbours: int = Field(default=3, ge=1)
    """k of precision and recall (Kynkaanniemi et al. 2019)."""
    classifier: str | None = None
    """A classifier of real images, as `extractor.model` of kind classifier names one, that says
    what synthetic ones show; None: a small one is trained on `real`."""
    classifier_revision: str | None = None
    """Commit, tag or branch on the Hub."""
    grad_cam: dict[DatasetName, str] = Field(default={}, max_length=8)
    """Classifiers that jobs/classify.py saved, to show what on held-out images they look at."""
    detection: Detection | None = Detection()
    memorisation: Memorisation | None = Memorisation()
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of intervals."""
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    """CPU threads of one actor. Fixed, since they change the last bits on a CPU."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _names_exist(self) -> "EvaluateSpec":
        taken = [name for name in self.synthetic if name in ("real", HELD_OUT)]
        if taken:
            raise ValueError(f"synthetic names {taken}, as real images are called; rename them")
        if self.series is not None:
            unknown = [name for name in self.series.values if name not in self.synthetic]
            if unknown:
                raise ValueError(
                    f"series.values names {unknown}; the synthetic datasets are "
                    f"{list(self.synthetic)}"
                )
        if self.classifier is not None and not self.per_class:
            raise ValueError(
                "classifier is given, but per_class is false, so that no label is looked at; "
                "leave one of them out"
            )
        return self
