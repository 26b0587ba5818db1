"""From encoded images and labels to a `Source`: converted as asked, refused where they differ.

N images, H height, W width, C channels, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from factory.images import MARKS, decode_with_mark, resize
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError

_NAMED = 5
"""Offenders of one kind that an error names; the rest is counted."""


class EncodedImage(NamedTuple):
    """An image as it lies in its file."""

    name: str
    """What error messages, `Source.skipped` and `Source.first_marked` call
    it."""
    data: bytes
    label: int | None


class _Decoded(NamedTuple):
    pixels: NDArray[np.uint8]
    """[kept, H, W, C]"""
    labels: NDArray[np.int64]
    """[N], those of corrupt images too; -1 where there is none."""
    is_kept: NDArray[np.bool_]
    """[N]"""
    corrupt: list[tuple[str, str]]
    """Name and reason of each image that cannot be decoded."""
    unlabelled: list[str]
    marked: list[str]
    """Those kept that say in their metadata that a model has drawn them."""


def source_from_images(
    images: Iterable[EncodedImage],
    num_images: int,
    spec: SourceSpec,
    *,
    name: str,
    class_names: tuple[str, ...] | None,
    licence: str | None = None,
) -> Source:
    """Decode and convert all images, one at a time, into one array.

    Args:
        images: in the order of the source.
        num_images: how many they are.
        spec: how to convert them, what to do with corrupt ones, and the class names of files that
            declare none.
        name: what reports call the source.
        class_names: in label order, as the files declare them; None: they declare none.
        licence: its licence, where it is known.

    Raises:
        SpecError: naming the images without a label, the labels without a class, the corrupt
            images, the classes of which nothing else is there, or the first image that is of
            another size than those before.
    """
    if not num_images:
        raise SpecError(f"{name}: holds no images; look at its path and split")
    decoded = _decode(images, num_images, spec, name)
    if decoded.unlabelled:
        raise SpecError(
            f"{name}: {len(decoded.unlabelled)} of {num_images} images have no label: "
            f"{name_some(decoded.unlabelled)}; label or remove them"
        )
    class_names = _choose_names(decoded.labels, class_names, spec, name)
    _check_labels(decoded.labels, class_names, name)
    _check_corrupt(decoded, class_names, spec, name)
    return Source(
        name=name,
        split=spec.split,
        images=decoded.pixels,
        labels=decoded.labels[decoded.is_kept],
        class_names=class_names,
        licence=licence,
        skipped=tuple(image for image, _ in decoded.corrupt),
        num_marked=len(decoded.marked),
        first_marked=next(iter(decoded.marked), None),
    )


def name_some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _decode(
    images: Iterable[EncodedImage], num_images: int, spec: SourceSpec, name: str
) -> _Decoded:
    pixels = np.empty((0, 0, 0, 0), dtype=np.uint8)
    labels = np.full(num_images, -1, dtype=np.int64)
    is_kept = np.zeros(num_images, dtype=bool)
    corrupt, unlabelled, marked = [], [], []
    first, kept = "", 0
    for index, image in enumerate(images):
        if image.label is None:
            unlabelled.append(image.name)
        else:
            labels[index] = image.label
        try:
            decoded, mark = decode_with_mark(image.data)
            picture = _convert(decoded, spec)
        except ValueError as error:
            corrupt.append((image.name, str(error)))
            continue
        if kept == 0:
            first, pixels = image.name, np.empty((num_images, *picture.shape), dtype=np.uint8)
        if picture.shape != pixels.shape[1:]:
            raise _odd_one(name, image.name, picture.shape, first, pixels.shape[1:])
        pixels[kept] = picture
        kept += 1
        is_kept[index] = True
        if mark in MARKS:
            marked.append(image.name)
    return _Decoded(pixels[:kept], labels, is_kept, corrupt, unlabelled, marked)


def _convert(pixels: NDArray[np.uint8], spec: SourceSpec) -> NDArray[np.uint8]:
    if spec.channels is not None:
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        converted = np.asarray(picture.convert("L" if spec.channels == 1 else "RGB"))
        pixels = converted[:, :, None] if converted.ndim == 2 else converted
    if spec.image_size is not None:
        pixels = resize(pixels, spec.image_size, resample=spec.resample)
    return pixels


def _odd_one(
    name: str, image: str, shape: tuple[int, ...], first: str, expected: tuple[int, ...]
) -> SpecError:
    fields = []
    if shape[:2] != expected[:2]:
        fields.append("image_size, to resize all images to one size")
    if shape[2] != expected[2]:
        fields.append("channels, to make all grey (1) or RGB (3)")
    return SpecError(
        f"{name}: {image} is {size_in_words(shape)}, but {first} is {size_in_words(expected)}; "
        f"set {' and '.join(fields)}"
    )


def size_in_words(shape: tuple[int, ...]) -> str:
    """Height, width, channels -> e.g. "28x28 grey"."""
    height, width, channels = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def _choose_names(
    labels: NDArray[np.int64], declared: tuple[str, ...] | None, spec: SourceSpec, name: str
) -> tuple[str, ...]:
    if declared is None:
        return spec.class_names or tuple(str(label) for label in range(labels.max() + 1))
    if spec.class_names not in (None, declared):
        raise SpecError(
            f"{name}: class_names is {list(spec.class_names)}, but the files themselves name "
            f"{list(declared)} in label order; leave class_names out"
        )
    twice = sorted({class_name for class_name in declared if declared.count(class_name) > 1})
    if twice:
        raise SpecError(f"{name}: more than one class is called {twice}; name each class once")
    return declared


def _check_labels(labels: NDArray[np.int64], class_names: tuple[str, ...], name: str) -> None:
    strange = [label for label in np.unique(labels).tolist() if not 0 <= label < len(class_names)]
    if strange:
        raise SpecError(
            f"{name}: holds labels {strange}, but {len(class_names)} classes have the labels 0 to "
            f"{len(class_names) - 1}; mend the labels or the class names"
        )


def _check_corrupt(
    decoded: _Decoded, class_names: tuple[str, ...], spec: SourceSpec, name: str
) -> None:
    if not decoded.corrupt:
        return
    named = name_some([f"{image} ({reason})" for image, reason in decoded.corrupt])
    found = f"{name}: {len(decoded.corrupt)} of {len(decoded.labels)} images are corrupt: {named}"
    if not spec.skip_corrupt:
        raise SpecError(
            f"{found}; replace or remove them, or set skip_corrupt=true to leave them out"
        )
    gone = np.setdiff1d(decoded.labels, decoded.labels[decoded.is_kept])
    if gone.size:
        raise SpecError(
            f"{found}; without them nothing is left of {[class_names[label] for label in gone]}, "
            "so skip_corrupt cannot help; replace them"
        )
