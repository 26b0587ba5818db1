"""Batches of a training run, each a function of its number; and those that validate a model."""

from collections.abc import Iterator

import torch

from factory.fit.trainee import Batch, Trainee
from factory.images import to_float
from factory.seeds import hash_seed, stream
from factory.sources.source import Source
from factory.spec import FitSpec

_VALIDATION_BATCH = 250


class BatchStream:
    """The batches of a training run: each a function of the source, the seed and its number."""

    def __init__(self, source: Source, spec: FitSpec, trainee: Trainee) -> None:
        """Draw from `source` as `spec` says, and what `trainee` needs beside."""
        self._images = torch.from_numpy(source.images)
        self._labels = torch.from_numpy(source.labels)
        self._null_label = len(source.class_names)
        self._spec = spec
        self._trainee = trainee
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int, *, part: slice = slice(None)) -> Batch:
        """Batch `step`, or the part of it that one worker sees.

        Numbers are drawn for the whole batch, so that they do not depend on the number of
        workers. The order of the draws is part of a run's identity: the trainee's, hidden labels,
        flips. All on the CPU, while a GPU still works on the step before.
        """
        generator = stream(hash_seed(self._spec.seed, "step", step))
        indices = self._indices(step)
        size = len(indices)
        draws = self._trainee.draw(size, generator)
        hidden = torch.rand(size, generator=generator) < self._spec.label_dropout
        flipped = torch.rand(size, generator=generator) < 0.5
        labels = self._labels[indices].masked_fill(hidden, self._null_label)
        images = to_float(self._images[indices[part]].numpy())
        if self._spec.training.horizontal_flip:
            images = torch.where(flipped[part].view(-1, 1, 1, 1), images.flip(3), images)
        return Batch(images, labels[part], tuple(draw[part] for draw in draws))

    def _indices(self, step: int) -> torch.Tensor:
        size = self._spec.training.batch_size
        places = range(step * size, (step + 1) * size)
        return torch.stack([self._index(place) for place in places])

    def _index(self, place: int) -> torch.Tensor:
        # Every epoch goes through all images once, in an order of its own.
        epoch, position = divmod(place, len(self._images))
        if epoch != self._epoch:
            generator = stream(hash_seed(self._spec.seed, "epoch", epoch))
            self._epoch, self._order = (
                epoch,
                torch.randperm(len(self._images), generator=generator),
            )
        return self._order[position]


def validation_batches(held_out: Source, seed: int, trainee: Trainee) -> Iterator[Batch]:
    """Every held-out image once, with the same labels and draws at each checkpoint of a run."""
    for start in range(0, len(held_out), _VALIDATION_BATCH):
        images = to_float(held_out.images[start : start + _VALIDATION_BATCH])
        labels = torch.from_numpy(held_out.labels[start : start + _VALIDATION_BATCH])
        generator = stream(hash_seed(seed, "validation", start))
        yield Batch(images, labels, trainee.draw(len(images), generator))
