"""A dataset in memory: images of one size, labels, class names, and its content's digest.

N images, H height, W width, C channels, K classes.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.sources.trained_on import place_in_words


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
    trained_on: dict[str, Any] | None = None
    """Of a synthetic source: the real data that its generator had seen, as the generator's
    model_index.json says it; None of a real source, and where it is not known."""
    skipped: tuple[str, ...] = ()
    """Names of the corrupt images that were left out when it was opened."""
    num_marked: int = 0
    """Images whose metadata say that a model has drawn them, of all that it was opened with."""
    first_marked: str | None = None
    """Name of the first of them."""

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
    def place(self) -> str:
        """Where the images lie, in words."""
        return place_in_words(self.name, self.split)

    @property
    def seen(self) -> dict[str, Any]:
        """What a model that was trained on these images says of them."""
        return {
            "name": self.name,
            "split": self.split,
            "num_images": len(self),
            "digest": self.digest,
        }

    @property
    def class_counts(self) -> dict[str, int]:
        """Images of each class, in label order."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def take(self, indices: NDArray[np.int64]) -> "Source":
        """The images at `indices`, in that order, as a source of the same classes."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])
