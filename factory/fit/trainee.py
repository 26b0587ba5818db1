"""What the training loop asks of a kind of model, and the batches that it gives in return.

C channels, H height, W width, K classes, B images in one step.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch


class Batch(NamedTuple):
    """What one optimizer step, or one worker's part of it, sees."""

    images: torch.Tensor
    """float32 [B, C, H, W] in [-1, 1]."""
    labels: torch.Tensor
    """int64 [B]; K, the null class, where the label is hidden."""
    draws: tuple[torch.Tensor, ...]
    """What `Trainee.draw` gave, e.g. noise levels [B] and noise [B, C, H, W]."""

    def part(self, part: slice) -> "Batch":
        """The images at `part`, with their labels and draws."""
        return Batch(self.images[part], self.labels[part], tuple(d[part] for d in self.draws))

    def chunks(self, count: int) -> Iterator["Batch"]:
        """The batch in `count` parts."""
        size = -(-len(self.images) // count)
        return (self.part(slice(i, i + size)) for i in range(0, len(self.images), size))

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`; the copies may still be under way."""
        images, labels, *draws = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.images, self.labels, *self.draws)
        )
        return Batch(images, labels, tuple(draws))


class Trainee(Protocol):
    """A kind of model in training: all that an objective supplies.

    It is built on its device, with its weights (random from the fit's seed, or those of the model
    to go on from). Everything else of a run is `Trainer`'s and the worker's: batches, steps,
    accumulation, precision, moving average, resume, several workers, history, validation, judge.
    """

    network: torch.nn.Module
    """What is trained: all of its parameters get gradients, and are averaged. What stays frozen
    lies outside of it."""

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """The random numbers of `size` images beyond their order, flips and hidden labels.

        Args:
            size: B, of a whole batch.
            generator: on the CPU; nothing else may be drawn from.

        Returns:
            Tensors [B, ...] on the CPU; each worker gets its rows of them.
        """
        ...

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean loss of the batch's images, a scalar with gradients.

        Args:
            network: `self.network`, as accelerate wrapped it.
            batch: on the device.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write a pipeline folder that others load, with the network's weights of this moment."""
        ...


def read_trained_on(folder: Path) -> dict[str, Any]:
    """What the pixel model in `folder` had seen; its name alone where that is not known."""
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    return index["trained_on"] or {"name": f"model {index['name']}"}
