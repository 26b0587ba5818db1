"""A real dataset in memory: images of one size, labels, class names, and its content's digest.

N images, H height, W width, C channels, K classes.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from factory.seeds import hash_seed
from factory.spec import SpecError


@dataclass(frozen=True)
class Source:
    """Labelled images; each label counts from 0 in the order of `class_names`."""

    name: str
    """What reports and cards call it; no path."""
    split: str
    images: NDArray[np.uint8]
    """[N, H, W, C], C 1 (grey) or 3 (RGB)."""
    labels: NDArray[np.int64]
    """[N], each from 0 to K - 1."""
    class_names: tuple[str, ...]
    licence: str | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """Sha256 over class names, shape, and every label and pixel in order.

        However the images were packed into files and encoded, the same content has one digest.
        """
        total = hashlib.sha256(repr(self.class_names).encode())
        total.update(repr(self.images.shape).encode())
        total.update(self.labels.astype("<i8").tobytes())
        total.update(np.ascontiguousarray(self.images).data)
        return total.hexdigest()

    @property
    def class_counts(self) -> dict[str, int]:
        """Images of each class, in label order."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def take(self, indices: NDArray[np.int64]) -> "Source":
        """The images at `indices`, in that order, as a source of the same classes."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


def balanced_part(source: Source, num_images: int, *, seed: int) -> Source:
    """The images at `balanced_indices`."""
    return source.take(balanced_indices(source, num_images, seed=seed))


def balanced_indices(source: Source, num_images: int, *, seed: int) -> NDArray[np.int64]:
    """As many images of each class, drawn with `seed`, in the order of `source`.

    A smaller part drawn with the same seed lies within a larger one, class by class. Where
    `num_images` is no multiple of K, the first classes take one more.

    Raises:
        SpecError: naming every class that holds too few, with its count.
    """
    wanted = _shares(num_images, len(source.class_names))
    return np.sort(_draw(source, wanted, seed=seed))


def hold_out(source: Source, fraction: float, *, seed: int) -> tuple[Source, Source]:
    """Split into (the rest, a class-balanced `fraction`), both in the order of `source`.

    Raises:
        SpecError: if a class would hold nothing on one side.
    """
    num_classes = len(source.class_names)
    smallest = min(source.class_counts.values())
    each = round(fraction * len(source) / num_classes)
    if not 0 < each < smallest:
        raise SpecError(
            f"{source.name}: holding out {fraction:g} of {len(source)} images takes {each} of each "
            f"class, and the smallest class has {smallest}; give held_out a source of its own"
        )
    held = np.zeros(len(source), dtype=bool)
    held[_draw(source, [each] * num_classes, seed=seed)] = True
    return source.take(np.flatnonzero(~held)), source.take(np.flatnonzero(held))


def _shares(total: int, parts: int) -> list[int]:
    each, more = divmod(total, parts)
    return [each + (part < more) for part in range(parts)]


def _draw(source: Source, wanted: list[int], *, seed: int) -> NDArray[np.int64]:
    counts = source.class_counts
    short = {n: counts[n] for n, w in zip(source.class_names, wanted, strict=True) if w > counts[n]}
    if short:
        raise SpecError(
            f"{source.name}: {sum(wanted)} images need {max(wanted)} of each class, but there are "
            + ", ".join(f"{count} of {name}" for name, count in short.items())
            + "; ask for fewer images"
        )
    drawn = []
    for label, (class_name, count) in enumerate(zip(source.class_names, wanted, strict=True)):
        # A stream for each class, named by it: other classes do not move this one's draw.
        generator = np.random.default_rng(hash_seed(seed, "part", class_name))
        drawn.append(generator.permutation(np.flatnonzero(source.labels == label))[:count])
    return np.concatenate(drawn)
