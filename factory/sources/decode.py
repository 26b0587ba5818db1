"""From encoded images and labels to a `Source`, refusing what no model could be trained on."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from factory.images import decode_image
from factory.sources.source import Source
from factory.spec import SpecError


def source_from_images(
    encoded: Iterable[tuple[str, bytes]],
    labels: Sequence[int],
    *,
    name: str,
    split: str,
    class_names: tuple[str, ...],
    licence: str | None = None,
) -> Source:
    """Decode all images.

    Args:
        encoded: name of each image for error messages, and its bytes.
        labels: label of each image, from 0 to K - 1.
        name: what reports call the source.
        split: its split.
        class_names: K names in label order.
        licence: its licence, where it is known.

    Raises:
        SpecError: naming the first image that is corrupt or of another size than the first, or
            every label that has no class.
    """
    if not labels:
        raise SpecError(f"{name}: holds no images; look at its path and split")
    known = range(len(class_names))
    strange = sorted({label for label in labels if label not in known})
    if strange:
        raise SpecError(
            f"{name}: holds labels {strange}, but {len(class_names)} classes have the labels 0 to "
            f"{len(class_names) - 1}; mend the labels or the class names"
        )
    pictures: list[NDArray[np.uint8]] = []
    first = ""
    for image_name, data in encoded:
        try:
            pixels = decode_image(data)
        except ValueError as error:
            raise SpecError(f"{name}: {image_name}: {error}; replace or remove it") from None
        first = first or image_name
        pictures.append(pixels)
        if pixels.shape != pictures[0].shape:
            raise SpecError(
                f"{name}: {image_name} is {_size(pixels)}, but {first} is {_size(pictures[0])}; "
                "all images need one size and one number of channels, so convert them before"
            )
    return Source(
        name=name,
        split=split,
        images=np.stack(pictures),
        labels=np.array(labels, dtype=np.int64),
        class_names=class_names,
        licence=licence,
    )


def _size(pixels: NDArray[np.uint8]) -> str:
    height, width, channels = pixels.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
