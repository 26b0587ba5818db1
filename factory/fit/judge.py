"""Judge a model folder: draw from it as `generate` would, and compare with held-out real images."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from factory.fit.history import Referee, Verdict
from factory.fit.kinds import Drawer, load_drawer
from factory.images import contact_sheet
from factory.metrics.frechet import frechet_distance, moments
from factory.seeds import hash_seed
from factory.sources.parts import balanced_part
from factory.sources.source import Source
from factory.spec import FitSpec
from factory.vision.small_cnn import SmallCnn

GRID_COLUMNS = 10
_BATCH = 100


class Judge:
    """A trained classifier, and what it makes of the held-out images."""

    def __init__(
        self, spec: FitSpec, source: Source, held_out: Source, classifier: SmallCnn
    ) -> None:
        """Look at the held-out images, and at as many training images as will be drawn."""
        self._spec = spec
        self._class_names = source.class_names
        self._classifier = classifier
        self._held_out = held_out
        features, labels = classifier.look(held_out.images)
        self._real = moments(features)
        most = len(source.class_names) * min(source.class_counts.values())
        # A seed of its own: two parts of one source drawn with one seed lie within each other.
        own = hash_seed(spec.seed, "judge", "real")
        part = balanced_part(source, min(spec.metric.num_samples, most), seed=own)
        self.referee = Referee(
            accuracy=float((labels == held_out.labels).mean()),
            real_distance=frechet_distance(moments(classifier.look(part.images)[0]), self._real),
            held_out=held_out.place,
            num_held_out=len(held_out),
        )

    def __call__(
        self, folder: Path, device: torch.device, *, images_seen: int, validation_loss: float
    ) -> tuple[Verdict, bytes]:
        """Draw from the model in `folder`; its verdict, and a picture with a row for each class.

        Every model of a run gets the same noise, so that the pictures show one thing changing.
        """
        drawer = load_drawer(self._spec, folder, self._held_out, device)
        wanted = self._wanted()
        started = time.monotonic()
        images = self._draw(drawer, wanted)
        seconds = time.monotonic() - started
        features, labels = self._classifier.look(images)
        verdict = Verdict(
            images=images_seen,
            validation_loss=validation_loss,
            frechet_distance=frechet_distance(moments(features), self._real),
            agreement=None if wanted is None else float((labels == wanted).mean()),
            num_samples=len(images),
            images_per_second=len(images) / seconds,
        )
        return verdict, self._grid(images)

    def _wanted(self) -> NDArray[np.int64] | None:
        """Labels to draw, going round; None of an unconditional model."""
        if not self._spec.conditional:
            return None
        return np.arange(self._spec.metric.num_samples) % len(self._class_names)

    def _draw(self, drawer: Drawer, wanted: NDArray[np.int64] | None) -> NDArray[np.uint8]:
        count, num_classes = self._spec.metric.num_samples, len(self._class_names)
        names: list[str | None] = [None] * count
        seeds = [hash_seed(self._spec.seed, "judge", index) for index in range(count)]
        if wanted is not None:
            names = [self._class_names[label] for label in wanted]
            seeds = [
                hash_seed(self._spec.seed, "judge", self._class_names[label], index // num_classes)
                for index, label in enumerate(wanted)
            ]
        images = [
            drawer.draw(names[start : start + _BATCH], seeds[start : start + _BATCH])
            for start in range(0, count, _BATCH)
        ]
        return np.concatenate(images)

    def _grid(self, images: NDArray[np.uint8]) -> bytes:
        if not self._spec.conditional:
            return contact_sheet(images[: GRID_COLUMNS**2], columns=GRID_COLUMNS, scale=2)
        # Classes go round: every K-th image is of one class, and becomes its row.
        names = self._class_names
        columns = min(GRID_COLUMNS, len(images) // len(names))
        rows = [images[label :: len(names)][:columns] for label in range(len(names))]
        return contact_sheet(np.concatenate(rows), columns=columns, scale=2, row_names=list(names))
