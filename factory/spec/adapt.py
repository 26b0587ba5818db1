"""Concepts to teach a text-to-image model, one a class, from a few real images of each."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from factory.spec.prompts import CLASS_FIELD, readable_fields
from factory.spec.read import Frozen, MixedPrecision, check_once, kind_or
from factory.spec.resources import Resources
from factory.spec.source import SourceSpec

CONCEPT_FIELD = "concept"
"""What stands in an instance prompt for the phrase that is learned."""

TEXTUAL_INVERSION_PROMPTS = (
    "a photo of a {concept}",
    "a rendering of a {concept}",
    "a cropped photo of the {concept}",
    "the photo of a {concept}",
    "a photo of a clean {concept}",
    "a photo of a dirty {concept}",
    "a dark photo of the {concept}",
    "a photo of my {concept}",
    "a photo of the cool {concept}",
    "a close-up photo of a {concept}",
    "a bright photo of the {concept}",
    "a cropped photo of a {concept}",
    "a photo of the {concept}",
    "a good photo of the {concept}",
    "a photo of one {concept}",
    "a close-up photo of the {concept}",
    "a rendition of the {concept}",
    "a photo of the clean {concept}",
    "a rendition of a {concept}",
    "a photo of a nice {concept}",
    "a good photo of a {concept}",
    "a photo of the nice {concept}",
    "a photo of the small {concept}",
    "a photo of the weird {concept}",
    "a photo of the large {concept}",
    "a photo of a cool {concept}",
    "a photo of a small {concept}",
)
"""The neutral contexts of Gal et al. 2022 (appendix), which are some of CLIP's for ImageNet."""

_TAGS = ("<word>", "<table>")
Words = Annotated[
    Annotated[str, Tag(_TAGS[0])] | Annotated[dict[str, str], Tag(_TAGS[1])],
    Discriminator(lambda value: _TAGS[isinstance(value, dict)]),
]
"""One word for every class, or a table of words by class name."""


class TextualInversion(Frozen):
    """Learn a new word: vectors of the text encoder's vocabulary; the model stays as it is."""

    kind: Literal["textual_inversion"] = "textual_inversion"
    num_vectors: int = Field(default=1, ge=1, le=75)
    """Vectors that the word stands for, side by side."""
    placeholder_token: Words | None = None
    """The new word; classes left out, or all for None, get their name in lower case and in angle
    brackets, e.g. <ankle-boot>."""
    initializer_token: Words | None = None
    """A word of one token, whose vector training starts from; classes left out, or all for None,
    start from their own name (or `class_words`)."""
    instance_prompts: tuple[str, ...] = Field(default=TEXTUAL_INVERSION_PROMPTS, min_length=1)
    """Each holds {concept}; one is drawn an image and step."""


class Lora(Frozen):
    """Low-rank updates of a network's layers (Hu et al. 2021), by peft."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=8.0, gt=0)
    """Updates are scaled by alpha / rank."""
    target: Literal["attention", "all"] = "attention"
    """Layers with updates: the projections of the attention layers, or all linear and convolution
    layers of the U-Net's blocks (of the text encoder: all linear ones)."""


class PriorPreservation(Frozen):
    """Keep the model's idea of the class by training on its own images of it too."""

    images: str
    """Root that jobs/generate.py made with the model, of classes by the same names."""
    num_images: int = Field(default=100, ge=1)
    """Images of each class: the first ones of the root."""
    class_prompt: str = "a photo of a {class_name}"
    """{class_name} becomes the class's name (or `class_words`)."""
    weight: float = Field(default=1.0, gt=0)
    """Of their loss, beside that of the concept's images."""


class DreamBooth(Frozen):
    """Fine-tune the model to a rare word (Ruiz et al. 2022)."""

    kind: Literal["dreambooth"]
    lora: Lora | None = Lora()
    """Null: the whole U-Net is trained, and a whole model saved for each class."""
    train_text_encoder: bool = False
    """Train the text encoder as well, in the same way."""
    identifier: str = Field(default="sks", min_length=1)
    """The rare word, put before the class's name (or `class_words`), e.g. "sks ankle boot"."""
    instance_prompts: tuple[str, ...] = Field(default=("a photo of a {concept}",), min_length=1)
    """Each holds {concept}; one is drawn an image and step."""
    prior_preservation: PriorPreservation | None = None


Method = Annotated[
    Annotated[TextualInversion, Tag("<textual_inversion>")]
    | Annotated[DreamBooth, Tag("<dreambooth>")],
    kind_or("textual_inversion"),
]
"""A section without `kind` is of kind textual_inversion."""


class Concepts(Frozen):
    """The images to learn from: of one real source, or of a folder for each class."""

    source: SourceSpec | None = None
    """A labelled source, of whose classes images are drawn."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Classes of the source to learn, one concept each; None: all."""
    folders: dict[str, str] = Field(default={})
    """Instead of a source: class -> folder of images of it."""
    num_images: int = Field(default=5, ge=1)
    """Images of each class: drawn from a source with `seed`, of a folder the first ones by name."""
    seed: int = Field(default=0, ge=0)
    """A smaller number drawn with the same seed lies within a larger one."""

    @model_validator(mode="after")
    def _one_place(self) -> "Concepts":
        if (self.source is None) == (not self.folders):
            raise ValueError(
                f"source is {'given' if self.source else 'left out'} and folders is "
                f"{self.folders or 'empty'}; give one of the two"
            )
        if self.folders and self.classes is not None:
            raise ValueError(
                f"classes is {list(self.classes)}, but folders names its classes itself; leave "
                "classes out"
            )
        check_once("classes", self.classes or ())
        return self


class AdaptTraining(Frozen):
    """How long and how a concept is trained."""

    num_steps: int = Field(default=1_000, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=4, ge=1)
    """Images of the concept in one optimizer step; with prior preservation as many of the class."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Parts that a step's images are gone through in, to save memory."""
    learning_rate: float | None = Field(default=None, gt=0)
    """None: 5e-3 for textual inversion, 1e-4 for LoRA, 5e-6 for a whole model."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Of the learning rate, after the warm-up: as it is, or down to zero."""
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    horizontal_flip: bool = False
    mixed_precision: MixedPrecision = "auto"
    checkpoint_steps: int = Field(default=200, ge=1)
    """Steps between two checkpoints, from which a concept that was killed goes on."""

    @model_validator(mode="after")
    def _parts(self) -> "AdaptTraining":
        if self.gradient_accumulation_steps > self.batch_size:
            raise ValueError(
                f"gradient_accumulation_steps is {self.gradient_accumulation_steps} and batch_size "
                f"{self.batch_size}; give at most as many parts as images"
            )
        return self


class AdaptPictures(Frozen):
    """What is drawn before and after, to look at; changes no adapter."""

    num_images: int = Field(default=4, ge=1)
    """Images drawn before, and as many after."""
    num_inference_steps: int = Field(default=25, ge=1)
    guidance_scale: float = Field(default=7.5, ge=0)
    """diffusers' convention; 0 and 1 are no guidance."""


class AdaptSpec(Frozen):
    """Concepts to teach a text-to-image model, one a class."""

    name: str = Field(default="adapters", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)
    model: str = "fashion_mnist_text"
    """Embedded model's name, folder, or `org/name` on the Hugging Face Hub, of a Stable Diffusion
    1 or 2 model in diffusers' format."""
    revision: str | None = None
    """Commit, tag or branch on the Hub."""
    method: Method = TextualInversion()
    concepts: Concepts = Concepts(source=SourceSpec(), classes=("Bag", "Ankle boot"), num_images=20)
    class_words: dict[str, str] = Field(default={})
    """Class -> what stands for it in a prompt; classes left out stand for themselves."""
    resolution: int | None = Field(default=None, ge=8)
    """Side in px that images are brought to, cut to a square around their centre; None: the
    model's own."""
    training: AdaptTraining = AdaptTraining()
    pictures: AdaptPictures = AdaptPictures()
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)
    """CPU threads of one training. Fixed, since they change the last bits on a CPU."""
    resources: Resources = Resources()

    @property
    def learning_rate(self) -> float:
        """That of the training, or else of the method."""
        if self.training.learning_rate is not None:
            return self.training.learning_rate
        if isinstance(self.method, TextualInversion):
            return 5e-3
        return 5e-6 if self.method.lora is None else 1e-4

    @model_validator(mode="after")
    def _prompts(self) -> "AdaptSpec":
        method = self.method
        wrong = [
            text for text in method.instance_prompts if readable_fields(text) != {CONCEPT_FIELD}
        ]
        if wrong:
            raise ValueError(
                f"method.instance_prompts holds {wrong}; a prompt needs {{{CONCEPT_FIELD}}} where "
                "the concept belongs, and no other braces"
            )
        prior = method.prior_preservation if isinstance(method, DreamBooth) else None
        if prior is not None and readable_fields(prior.class_prompt) != {CLASS_FIELD}:
            raise ValueError(
                f"method.prior_preservation.class_prompt is {prior.class_prompt!r}; it needs "
                "{class_name} where the class belongs, and no other braces"
            )
        return self
