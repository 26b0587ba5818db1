"""A text-to-image model to train: its autoencoder, its captions, and its text encoder."""

from typing import Literal

from pydantic import Field, model_validator

from factory.spec.prompts import CLASS_FIELD, readable_fields
from factory.spec.read import Frozen

ATTRIBUTES_FIELD = "attributes"
"""What stands for the words of an image in a caption's template, in braces."""


class Captions(Frozen):
    """How an image is told in words; another caption is drawn each time that it is seen."""

    templates: tuple[str, ...] = Field(
        default=(
            "a photo of a {attributes} {class_name}",
            "a picture of a {attributes} {class_name}",
            "a {attributes} {class_name}",
            "{attributes} {class_name}",
        ),
        min_length=1,
    )
    """Each holds {class_name}, and may hold {attributes}, where words that are true of the image
    come in: dark or bright, narrow or wide, plain or patterned, and so on."""
    class_words: dict[str, tuple[str, ...]] = Field(default={})
    """Class -> what stands for it in a caption, e.g. {Sneaker: [sneaker, shoe]}; one is drawn.
    Classes left out stand for themselves."""
    max_attributes: int = Field(default=3, ge=0)
    """From none to this many words of an image are told at once."""

    @model_validator(mode="after")
    def _readable(self) -> "Captions":
        wrong = [template for template in self.templates if not _is_template(template)]
        if wrong:
            raise ValueError(
                f"templates {wrong} are none of a caption; each names {{{CLASS_FIELD}}}, may name "
                f"{{{ATTRIBUTES_FIELD}}}, and has no other braces"
            )
        empty = sorted(
            name for name, words in self.class_words.items() if not words or not all(words)
        )
        if empty:
            raise ValueError(f"class_words gives no words, or an empty one, for {empty}")
        return self


def _is_template(template: str) -> bool:
    fields = readable_fields(template)
    return CLASS_FIELD in fields and fields <= {CLASS_FIELD, ATTRIBUTES_FIELD}


class AutoencoderObjective(Frozen):
    """Encode images to small latents and decode them again (`AutoencoderKL` of diffusers).

    Each level of `shape` but the first halves the sides.
    """

    kind: Literal["autoencoder"]
    latent_channels: int = Field(default=4, ge=1)
    kl_weight: float = Field(default=1e-3, ge=0)
    """Of the latents' divergence from a standard normal, a latent number, against the mean
    absolute error, a pixel."""


class TextToImageObjective(Frozen):
    """Predict the velocity of noised latents from a caption (`StableDiffusionPipeline`).

    `shape` is the U-Net's, which sees latents; cross-attention is where self-attention is.
    """

    kind: Literal["text_to_image"]
    autoencoder: str = Field(min_length=1)
    """A folder, or `org/name` on the Hugging Face Hub, with an `AutoencoderKL`: the model of a fit
    of kind autoencoder, or any other. It is not trained further."""
    autoencoder_revision: str | None = None
    """Commit, tag or branch on the Hub."""
    captions: Captions = Captions()
    max_tokens: int = Field(default=24, ge=8)
    """Longest caption, its start and end included."""
    text_width: int = Field(default=96, ge=32, multiple_of=32)
    """Numbers that stand for a token."""
    text_layers: int = Field(default=2, ge=1)
