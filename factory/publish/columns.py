"""What the columns of a published dataset mean, in the words of its card."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from factory.publish.markdown import code

MEANINGS: Mapping[str, str] = {
    "image": "the image",
    "png": "the image",
    "label": "number of its class",
    "cls": "number of its class",
    "class_name": "name of its class",
    "key": "its name, which no other image of the dataset has",
    "__key__": "its name, which no other image of the dataset has",
    "__url__": "the tar that it lies in",
    "is_synthetic": "whether a model has drawn it",
    "source": "the dataset that it was first part of",
    "candidate": "its number among all images drawn for its shard, kept or rejected",
    "shard": "number of the file that it was drawn for",
    "seed": "what its random noise was drawn from",
    "model_id": "the model that drew it",
    "model_revision": "that model's content: sha256 over its files, or its commit on the Hub",
    "scheduler": "the sampler that took the model from noise to the image",
    "num_inference_steps": "steps that the sampler took",
    "guidance_scale": "how strongly the model was held to the class or prompt; 1 is not at all",
    "fine_class": "the model's own class that it was drawn of",
    "prompt": "what the model was told to draw",
    "negative_prompt": "what the model was told not to draw",
    "adapter": "content of the adapter that the model wore",
    "t_re": "step of noise that a real image was taken to before it was drawn again",
    "strength": "how far a real image was noised before it was drawn again, from 0 to 1",
    "source_image": "the real image that it is or was drawn from: digest of its dataset, and place",
    "source_pass": "how often that real image was used before",
    "labeller": "content of the classifier that gave the label",
    "confidence": "how sure that classifier was, from 0 to 1",
    "width": "in pixels",
    "height": "in pixels",
    "pixel_sha256": "digest of its pixels",
}
"""Column of a shard, or field of a tar's JSON -> what it says of an image."""


def column_rows(features: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    """Column and its meaning; fields of a tar's JSON stand as json.NAME."""
    return [(code(place), MEANINGS[name]) for place, name in _columns(features)]


def _columns(features: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, feature in features.items():
        if "_type" in feature:
            yield name, name
        else:
            yield from ((f"{name}.{field}", field) for field in feature)
