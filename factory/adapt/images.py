"""The images that concepts are learned from: of a real source, of folders, and of a root.

N images, R side in px that the model sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from factory.images import decode_image
from factory.sources.decode import name_some
from factory.sources.folder import IMAGE_SUFFIXES
from factory.sources.open import open_source
from factory.sources.parts import balanced_part
from factory.sources.root import open_root
from factory.sources.source import Source
from factory.spec import Concepts, PriorPreservation, SourceSpec, SpecError
from factory.store import Store


def open_concepts(concepts: Concepts, resolution: int) -> dict[str, Source]:
    """Of each class a source of its images alone, uint8 [N, R, R, 3], in the order of the spec.

    Raises:
        SpecError: naming the classes that are unknown or hold too few images, and the images that
            cannot be decoded.
    """
    if concepts.source is None:
        return _open_folders(concepts, resolution)
    source = open_source(concepts.source)
    names = concepts.classes or source.class_names
    unknown = [name for name in names if name not in source.class_names]
    if unknown:
        raise SpecError(
            f"concepts.classes: {unknown} are no classes of {source.name}; its classes are "
            f"{list(source.class_names)}"
        )
    counts = source.class_counts
    _check_counts({name: counts[name] for name in names}, concepts.num_images, source.name)
    return {
        name: _squares(
            balanced_part(_only(source, name), concepts.num_images, seed=concepts.seed), resolution
        )
        for name in names
    }


def open_prior(
    prior: PriorPreservation, class_names: Sequence[str], resolution: int
) -> dict[str, Source]:
    """The images by class that keep the model's idea of it, uint8 [N, R, R, 3].

    Raises:
        SpecError: if there is no dataset, or it holds too few images of a class.
    """
    url = prior.images if "://" in prior.images else str(Path(prior.images).expanduser().resolve())
    wanted = dict.fromkeys(class_names, prior.num_images)
    source = open_root(SourceSpec(path=prior.images), Store(url), images_per_class=wanted)
    counts = source.class_counts
    _check_counts({name: counts[name] for name in class_names}, prior.num_images, f"root {url}")
    return {name: _squares(_only(source, name), resolution) for name in class_names}


def square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 1 or 3] -> [side, side, 3]: the square around its centre, resized (Lanczos)."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
    return np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS))


def _open_folders(concepts: Concepts, resolution: int) -> dict[str, Source]:
    folders = {name: Path(path).expanduser() for name, path in concepts.folders.items()}
    absent = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if absent:
        raise SpecError(f"concepts.folders: {absent} are no folders; give folders of images")
    files = {
        name: sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        for name, folder in folders.items()
    }
    counts = {name: len(found) for name, found in files.items()}
    _check_counts(counts, concepts.num_images, "concepts.folders")
    pixels = _decode(
        {name: found[: concepts.num_images] for name, found in files.items()}, resolution
    )
    return {
        name: Source(
            name=folders[name].resolve().name,
            split="train",
            images=np.stack(images),
            labels=np.zeros(len(images), dtype=np.int64),
            class_names=(name,),
        )
        for name, images in pixels.items()
    }


def _decode(
    files: Mapping[str, Sequence[Path]], resolution: int
) -> dict[str, list[NDArray[np.uint8]]]:
    pixels: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in files}
    corrupt = []
    for name, found in files.items():
        for file in found:
            try:
                pixels[name].append(square(decode_image(file.read_bytes()), resolution))
            except ValueError as error:
                corrupt.append(f"{file} ({error})")
    if corrupt:
        raise SpecError(
            f"concepts.folders: {len(corrupt)} images cannot be decoded: {name_some(corrupt)}; "
            "replace or remove them"
        )
    return pixels


def _check_counts(counts: Mapping[str, int], wanted: int, place: str) -> None:
    short = {name: count for name, count in counts.items() if count < wanted}
    if short:
        there = ", ".join(f"{count} of {name!r}" for name, count in short.items())
        raise SpecError(
            f"{place}: {wanted} images of each class are asked for, but there are {there}; lower "
            "num_images or add images"
        )


def _only(source: Source, name: str) -> Source:
    """The images of one class, as a source of that class alone."""
    part = source.take(np.flatnonzero(source.labels == source.class_names.index(name)))
    return replace(part, labels=np.zeros_like(part.labels), class_names=(name,))


def _squares(source: Source, resolution: int) -> Source:
    return replace(source, images=np.stack([square(i, resolution) for i in source.images]))
