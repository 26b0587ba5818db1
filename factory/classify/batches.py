"""The batches of a training: each a pure function of the mix, the seed and the step's number.

B images in one step, C channels, H height, W width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from factory.classify.arms import Part
from factory.images import tensor_to_float
from factory.seeds import hash_seed


class Order:
    """Endless epochs over N places: each goes through all of them once, in an order of its own."""

    def __init__(self, num_images: int, *, seed: int) -> None:
        """Epoch e's order depends on `seed` and e alone."""
        self._num_images = num_images
        self._seed = seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Places of the images `start` to `start + count` of the endless row, int64 [count]."""
        taken = []
        while count > 0:
            epoch, position = divmod(start, self._num_images)
            if epoch != self._epoch:
                generator = np.random.default_rng(hash_seed(self._seed, "epoch", epoch))
                self._epoch, self._order = epoch, generator.permutation(self._num_images)
            piece = self._order[position : position + count]
            taken.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(taken)


class BatchStream:
    """Batches of one part (joint), or with images of each of two parts (paired)."""

    def __init__(
        self, parts: list[Part], *, sizes: Sequence[int], seed: int, device: torch.device
    ) -> None:
        """Put the images where the network is.

        Args:
            parts: what is shuffled apart.
            sizes: images that every step takes of each part.
            seed: of the order.
            device: where batches are wanted.
        """
        self._sizes = tuple(sizes)
        self._images = [torch.from_numpy(part.images).to(device) for part in parts]
        self._labels = [torch.from_numpy(part.labels).to(device) for part in parts]
        self._orders = [
            Order(len(part.labels), seed=hash_seed(seed, "part", number))
            for number, part in enumerate(parts)
        ]
        self._device = device

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch `step`: images float32 [B, C, H, W] in [-1, 1], channels last, labels int64 [B]."""
        images, labels = [], []
        for part_images, part_labels, order, size in zip(
            self._images, self._labels, self._orders, self._sizes, strict=True
        ):
            places = order.take(step * size, size)
            index = torch.from_numpy(places).to(self._device)
            images.append(part_images[index])
            labels.append(part_labels[index])
        return tensor_to_float(torch.cat(images)), torch.cat(labels)

    def share(self, rank: int, world: int) -> torch.Tensor:
        """Places in a batch, int64, that worker `rank` of `world` sees: its share of each part."""
        own, first = [], 0
        for size in self._sizes:
            share = torch.arange(rank * size // world, (rank + 1) * size // world)
            own.append(first + share)
            first += size
        return torch.cat(own).to(self._device)
