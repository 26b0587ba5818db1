"""What one task of an evaluation does: train the small classifier, look at a block of images."""

import io
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from factory.evaluate.prepare import BLOCK, Prepared
from factory.records import ASKED_NAME
from factory.store import Store
from factory.vision.extractors import load_extractor
from factory.vision.labeller import load_labeller
from factory.vision.small_cnn import SmallCnn, train_small_cnn


class _Network(Protocol):
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 [N, H, W, C] -> what the network sees in each, float32 [N, D]."""
        ...


class Worker:
    """Computes what the driver asks for, and leaves it in the root.

    A network is loaded at its first block, and kept for the next ones.
    """

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        """Compute on `device`.

        Raises:
            SpecError: if this machine does not see the driver's root.
        """
        self._prepared = prepared
        self._device = device
        self._store = Store(prepared.root)
        self._store.check_seen(ASKED_NAME)
        self._network = cache(self._load)

    def train(self) -> None:
        """Train the small classifier on the real images."""
        prepared = self._prepared
        network = train_small_cnn(
            prepared.sources["real"],
            num_images=prepared.num_seen,
            seed=prepared.spec.seed,
            device=self._device,
        )
        data = io.BytesIO()
        network.save(data)
        self._store.put(small_name(prepared), data.getvalue())

    def look(self, look: int, dataset: str, start: int, name: str) -> None:
        """Put what network number `look` sees in a block of `dataset` into the file `name`."""
        images = self._prepared.sources[dataset].images[start : start + BLOCK]
        data = io.BytesIO()
        np.save(data, self._network(look)(images))
        self._store.put(name, data.getvalue())

    def _load(self, look: int) -> _Network:
        prepared = self._prepared
        if look < len(prepared.extractors):
            return load_extractor(prepared.extractors[look], self._device)
        if prepared.classifier is None:
            data = io.BytesIO(self._store.get(small_name(prepared)))
            return SmallCnn.load(data).to(self._device).probabilities
        labeller = load_labeller(prepared.classifier.local(), self._device, field="classifier")
        # The real images' classes first, so that a column is a label.
        names = prepared.sources["real"].class_names
        known = labeller.class_names
        order = [known.index(name) for name in names]
        order += [column for column, name in enumerate(known) if name not in names]
        return lambda images: labeller.probabilities(images)[:, order]


def small_name(prepared: Prepared) -> str:
    """File of the small classifier in the root."""
    return f"classifier/{prepared.classifier_digest}.pt"


def read_look(prepared: Prepared, look: str, dataset: str) -> NDArray[np.float32]:
    """What a network saw in all images of a dataset, float32 [N, D]."""
    names = [block.name for block in prepared.blocks_of(dataset, look)]
    files = Store(prepared.root).get_many(set(names))
    return np.concatenate([np.load(io.BytesIO(files[name])) for name in names])
