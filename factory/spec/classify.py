"""Classifiers to train on mixes of real and synthetic images, and to compare."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from factory.spec.mix import Mix, MultiplierMix, RatioMix, RealMix
from factory.spec.read import Fraction, Frozen, MixedPrecision
from factory.spec.resources import Resources
from factory.spec.source import SourceSpec

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _+.%-]*$", max_length=60)]
Augmentation = Literal["none", "flip", "crop", "flip_crop", "randaugment", "trivialaugment"]
Match = Literal["steps", "images"]


class Classifier(Frozen):
    """The network, and where its weights come from."""

    network: Literal[
        "resnet18", "resnet34", "resnet50", "resnet_attention", "efficientnet_lite0", "pretrained"
    ] = "resnet18"
    """`resnet_attention`: residual blocks with attention layers (lundberg2022);
    `efficientnet_lite0`: ImageNet weights from a package; `pretrained`: that of `weights`."""
    stem: Literal["small", "imagenet"] = "small"
    """`small`: one 3x3 convolution at full size; `imagenet`: 7x7 with stride 2, then pooling."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of a ResNet: over the batch, or over at most 8 groups of channels of each
    image, which makes an image's gradient independent of the others in its batch."""
    width: int = Field(default=64, ge=1)
    """Channels of a ResNet's first stage; each of the next three has twice as many."""
    weights: str | None = None
    """Folder or Hub id of an image classifier in transformers' format, for `pretrained`."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    regime: Literal["scratch", "fine_tune", "frozen"] = "scratch"
    """Random weights; given weights, all trained; given weights, only the last layer trained."""
    image_size: int | None = Field(default=None, ge=8)
    """Side in px that the network sees (bicubic, on the device); None: the images' own."""

    @model_validator(mode="after")
    def _weights_fit(self) -> "Classifier":
        has_weights = self.network in ("efficientnet_lite0", "pretrained")
        if has_weights == (self.regime == "scratch"):
            raise ValueError(
                f"regime is {self.regime}, but {self.network} "
                + ("brings weights; give fine_tune or frozen" if has_weights else "has none to "
                   "start from; give scratch, or network efficientnet_lite0 or pretrained")
            )  # fmt: skip
        if (self.network == "pretrained") != (self.weights is not None):
            raise ValueError(
                f"network is {self.network} and weights is {self.weights}; pretrained needs the "
                "folder or Hub id of its weights, and no other network takes any"
            )
        return self


class Validation(Frozen):
    """Images held out of an arm, to watch its training by."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    of: Literal["mix", "real"] = "mix"
    """Cut from the arm's mix (namburi2022), or from the real source before mixing, the same
    images for every arm (lundberg2022)."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a lower validation loss, and go back to the best."""


class ClassifierTraining(Frozen):
    """How long and how a classifier is trained."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the arm's images (in paired batches, over the larger part)."""
    num_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps, instead of epochs."""
    batch_size: int = Field(default=128, ge=2)
    """Images a step; in paired batches so many real and so many synthetic ones."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "one_cycle"
    step_epochs: int = Field(default=30, ge=1)
    """Epochs between two falls of the `step` schedule."""
    step_factor: float = Field(default=0.1, gt=0, lt=1)
    label_smoothing: Fraction = 0.0
    augmentation: Augmentation = "none"
    mixed_precision: MixedPrecision = "auto"
    validation: Validation | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "ClassifierTraining":
        if (self.epochs is None) == (self.num_steps is None):
            raise ValueError(
                f"epochs is {self.epochs} and num_steps is {self.num_steps}; give one of the two"
            )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is true and momentum 0; give momentum above 0")
        return self


class Arm(Frozen):
    """One way to make a training set; trained with every seed."""

    mix: Mix = RealMix()
    synthetic: str | None = None
    """Which of the spec's synthetic sources; None: the only one."""
    batches: Literal["joint", "paired"] = "joint"
    """Real and synthetic images shuffled together, or a batch of each in every step."""
    synthetic_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """In paired batches: every step takes one batch, of which this share is synthetic, however
    many images there are of each; None: a whole batch of each."""
    match: Match | None = None
    """Train for as many steps, or images, as the baseline; None: as `training` says."""
    augmentation: Augmentation | None = None
    """None: as `training` says."""

    @model_validator(mode="after")
    def _ratio_is_of_pairs(self) -> "Arm":
        if self.synthetic_ratio is not None and self.batches != "paired":
            raise ValueError(
                f"synthetic_ratio is {self.synthetic_ratio} and batches {self.batches}; give "
                "batches: paired, or a mix of kind ratio"
            )
        return self


class ZeroShot(Frozen):
    """A CLIP model that classifies by class names alone, as one more row of the results."""

    model: str
    """Folder or Hub id in transformers' format."""
    revision: str | None = None
    prompt: str = "a photo of a {}"
    """`{}` becomes the class name."""

    @model_validator(mode="after")
    def _has_place(self) -> "ZeroShot":
        if "{}" not in self.prompt:
            raise ValueError(f"prompt is {self.prompt!r}; write {{}} where the class name belongs")
        return self


_TRAINING = ClassifierTraining(epochs=20, learning_rate=0.1)


class ClassifySpec(Frozen):
    """Arms to train and compare: do the synthetic images help?"""

    name: str = Field(default="classify", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    real: SourceSpec = SourceSpec(num_images=1_000)
    test: SourceSpec = SourceSpec(split="test")
    synthetic: dict[str, SourceSpec] = Field(default={"synthetic": SourceSpec(path="out")})
    """Synthetic sources by name."""
    arms: dict[ArmName, Arm] = Field(
        default={
            "real": Arm(),
            "synthetic": Arm(mix=RatioMix(synthetic_ratio=1.0)),
            "real+synthetic": Arm(mix=MultiplierMix(multiplier=1.0), match="steps"),
        },
        min_length=1,
    )
    baseline: str | None = None
    """The arm that all others are compared with; None: the first."""
    controls: tuple[Match, ...] = ()
    """Add to every arm that takes another number of steps, or images, than the baseline a copy
    that takes as many."""
    classifier: Classifier = Classifier(width=16)
    training: ClassifierTraining = _TRAINING
    zero_shot: ZeroShot | None = None
    seed: int = Field(default=0, ge=0)
    num_seeds: int = Field(default=3, ge=1)
    """Trainings of each arm; their seeds hash `seed` and 0, 1, ..."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of intervals; a verdict errs with at most the rest."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one training. Fixed, since they change the last bits on a CPU."""
    num_workers: int = Field(default=1, ge=1)
    """Ray Train workers of one training; each takes its share of every batch."""
    save_classifiers: bool = False
    """Keep the weights of every training in the root."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _names_exist(self) -> "ClassifySpec":
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline is {self.baseline!r}; the arms are {list(self.arms)}")
        if self.training.batch_size % self.num_workers:
            raise ValueError(
                f"training.batch_size is {self.training.batch_size} and num_workers "
                f"{self.num_workers}; give a multiple of it"
            )
        for name, arm in self.arms.items():
            if arm.synthetic is not None and arm.synthetic not in self.synthetic:
                raise ValueError(
                    f"arms.{name}.synthetic is {arm.synthetic!r}; the synthetic sources are "
                    f"{list(self.synthetic)}"
                )
            if arm.synthetic is None and len(self.synthetic) != 1 and arm.mix.kind not in _REAL:
                raise ValueError(
                    f"arms.{name}.synthetic is left out, but there are {len(self.synthetic)} "
                    f"synthetic sources; name one of {list(self.synthetic)}"
                )
            if arm.batches == "paired" and arm.mix.kind in _REAL:
                raise ValueError(
                    f"arms.{name}.batches is paired, but a {arm.mix.kind} mix has no synthetic "
                    "images to pair with; give joint"
                )
            self._check_share(name, arm)
        return self

    def _check_share(self, name: str, arm: Arm) -> None:
        if arm.synthetic_ratio is None:
            return
        size = self.training.batch_size
        synthetic = round(arm.synthetic_ratio * size)
        if synthetic in (0, size) or synthetic % self.num_workers:
            raise ValueError(
                f"arms.{name}.synthetic_ratio is {arm.synthetic_ratio}, which is {synthetic} "
                f"images of a batch of {size}; give a share of at least one image, and less than "
                f"all, that {self.num_workers} workers can divide evenly"
            )


_REAL = ("real", "keep", "oversample")
"""Kinds of mixes without synthetic images."""
