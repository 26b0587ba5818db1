"""Pictures to judge concepts by: their real images beside images drawn before and after."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from factory.adapt.images import square
from factory.adapt.prepare import Concept
from factory.images import contact_sheet
from factory.seeds import hash_seed, stream
from factory.spec import AdaptSpec

_LARGEST_PX = 128
"""Side that larger images are shown with."""
_SMALLEST_PX = 64
"""Side that smaller ones are at least shown with."""


@torch.inference_mode()
def draw(
    pipeline: StableDiffusionPipeline, spec: AdaptSpec, concept: Concept, words: str, side: int
) -> NDArray[np.uint8]:
    """Images of the first instance prompt with `words` for the concept, uint8 [N, side, side, 3].

    Each from a stream of its own, the same one before and after.
    """
    prompt = spec.method.instance_prompts[0].format(concept=words)
    count = spec.pictures.num_images
    pipe: Any = pipeline  # its call returns a tuple or an object, which no type can tell
    images = pipe(
        [prompt] * count,
        height=side,
        width=side,
        num_inference_steps=spec.pictures.num_inference_steps,
        guidance_scale=spec.pictures.guidance_scale,
        generator=[
            stream(hash_seed(spec.seed, concept.class_name, "picture", index))
            for index in range(count)
        ],
        output_type="np",
    ).images
    return (images * 255).round().astype(np.uint8)


def concept_picture(concept: Concept, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bytes:
    """PNG with a row of real images, one of `before` and one of `after`, [N, R, R, 3] each."""
    columns = len(before)
    blank = np.full_like(before, 255)
    real = np.concatenate([concept.images[:columns], blank])[:columns]
    tiles = np.concatenate([real, before, after])
    side = tiles.shape[1]
    if side > _LARGEST_PX:
        tiles = np.stack([square(tile, _LARGEST_PX) for tile in tiles])
    return contact_sheet(
        tiles,
        columns=columns,
        scale=max(1, _SMALLEST_PX // side),
        row_names=[f"{concept.class_name}: real", "before", "after"],
    )


def stack(pictures: Sequence[bytes]) -> bytes:
    """PNG with the pictures one below the other, their right sides in line."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width = max(picture.width for picture in opened)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in opened)), "white")
    top = 0
    for picture in opened:
        sheet.paste(picture, (width - picture.width, top))
        top += picture.height
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue()
