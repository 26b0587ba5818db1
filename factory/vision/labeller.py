"""A trained classifier that says what images show: labels, confidences, probabilities, features.

N images, H height, W width, C channels (1 grey, 3 RGB), K classes, F features.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from factory.images import to_float
from factory.vision.channels import to_channels
from factory.vision.classifier import load_classifier
from factory.vision.labeller_config import read_labeller_config
from factory.vision.pretrained import TransformersTrunk, load_with_processor

BATCH_SIZE = 64
"""Images that a labeller's network sees at once, whatever it is given."""


class Found(NamedTuple):
    """What a labeller sees in N images."""

    labels: NDArray[np.int64]
    """[N], the likeliest class of each, as an index into the labeller's class names."""
    confidences: NDArray[np.float32]
    """[N], the softmax probability of that class."""


class _Network(NamedTuple):
    """A classifier of either format, cut before its last layer."""

    channels: Literal[1, 3]
    """C that it takes."""
    prepare: Callable[[NDArray[np.uint8]], torch.Tensor]
    """Images uint8 [N, H, W, channels] -> what `trunk` takes, on the CPU."""
    trunk: Callable[[torch.Tensor], torch.Tensor]
    """That -> features [N, F]."""
    head: nn.Linear
    """Features -> logits [N, K]."""


class LabellerNetwork:
    """A classifier on its device.

    It computes in float32 and always in batches of `BATCH_SIZE`, the last one filled up with black
    images: a network's last bits depend on the size of its batch, so what is said of an image
    would otherwise depend on how many came with it. With one CPU thread an image gets the same bits
    in any company and at any place; where several divide a batch, its place may change the last.

    Images of any H and W are taken. Grey ones are repeated as RGB, or RGB ones turned into ITU-R
    601 luma, where the network knows only the other. The factory's classifiers see an image at
    their spec's `image_size` (bicubic) or, without one, as large as it is; transformers' see what
    their own image processor makes of it.
    """

    def __init__(
        self, network: _Network, class_names: tuple[str, ...], device: torch.device
    ) -> None:
        """Use `network`, which lies on `device`; made by `load_labeller`."""
        self.class_names = class_names
        """K names, in the order of the labels."""
        self.num_features = network.head.in_features
        """F."""
        self._network = network
        self._device = device

    def __call__(self, images: NDArray[np.uint8]) -> Found:
        """The likeliest class of each image of uint8 [N, H, W, C]."""
        probabilities = self.probabilities(images)
        labels = probabilities.argmax(axis=1)
        return Found(labels, np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0])

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 [N, H, W, C] -> softmax probabilities float32 [N, K]; rows sum to 1.

        Raises:
            ValueError: if C is neither 1 nor 3, or the network gives NaN or infinity.
        """
        return self._look(images, lambda x: self._network.head(x).softmax(dim=1))

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 [N, H, W, C] -> what the last layer takes, float32 [N, F].

        Raises:
            ValueError: as `probabilities`.
        """
        return self._look(images, lambda x: x)

    @torch.inference_mode()
    def _look(
        self, images: NDArray[np.uint8], finish: Callable[[torch.Tensor], torch.Tensor]
    ) -> NDArray[np.float32]:
        images = to_channels(images, self._network.channels)
        # At least one batch, so that no images give an array of the right width.
        num_batches = max(1, -(-len(images) // BATCH_SIZE))
        seen = []
        for number in range(num_batches):
            batch = images[number * BATCH_SIZE : (number + 1) * BATCH_SIZE]
            full = np.zeros((BATCH_SIZE, *images.shape[1:]), dtype=np.uint8)
            full[: len(batch)] = batch
            x = self._network.prepare(full).to(self._device)
            seen.append(finish(self._network.trunk(x))[: len(batch)].cpu())
        found = torch.cat(seen).numpy()
        broken = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(broken):
            raise ValueError(
                f"labeller: gives NaN or infinity for images {broken.tolist()} of {len(images)}; "
                "look at its weights"
            )
        return found


def load_labeller(
    folder: str | Path, device: torch.device, *, field: str = "labeller.model"
) -> LabellerNetwork:
    """Load a classifier and place it on `device`.

    Args:
        folder: as jobs/classify.py saved it, or an image classifier in transformers' format with
            its preprocessor_config.json.
        device: where it computes.
        field: where the spec names it, for errors.

    Raises:
        SpecError: if the folder holds neither, lacks weights, or is of a network that does not end
            in one linear layer.
    """
    config = read_labeller_config(folder, field=field)
    match config.format:
        case "factory":
            network = _of_factory(Path(folder), device)
        case "transformers":
            network = _of_transformers(str(folder), device, field)
    return LabellerNetwork(network, config.class_names, device)


def _of_factory(folder: Path, device: torch.device) -> _Network:
    classifier = load_classifier(folder).to(device)
    channels: Any = classifier.config.channels
    return _Network(channels, to_float, classifier.features, classifier.head)


def _of_transformers(folder: str, device: torch.device, field: str) -> _Network:
    from transformers import AutoModelForImageClassification

    classifier, prepare = load_with_processor(AutoModelForImageClassification, folder, field=field)
    layers = dict(classifier.named_modules())
    trunk = TransformersTrunk(classifier, name=folder).eval().to(device)
    head = layers[trunk.last_layer].to(device)
    channels: Any = trunk.channels
    return _Network(channels, prepare, trunk, head)
