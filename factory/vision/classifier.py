"""A classifier of images with all that it needs to be used: weights, class names, normalisation.

N images, C channels, H height, W width, K classes, D features.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from factory.images import to_float
from factory.seeds import seeded
from factory.spec import Classifier, Frozen, SpecError
from factory.vision.pretrained import (
    LITE0_NORMALISATION,
    EfficientNetLite0,
    Normalisation,
    TransformersTrunk,
    load_lite0,
    load_transformers,
    untrained_transformers,
)
from factory.vision.resnet import ResNet, ResNetName

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_LOOK_BATCH = 500

Trunk = ResNet | EfficientNetLite0 | TransformersTrunk


class ClassifierConfig(Frozen):
    """What `config.json` holds: enough to build the network anew, without its weights."""

    spec: Classifier
    channels: int
    """C of the images that it takes."""
    class_names: tuple[str, ...]
    normalisation: Normalisation | None
    """None: the network takes images in [-1, 1]."""
    architecture: dict[str, Any] | None
    """The configuration of a network of transformers."""
    trained_on: dict[str, Any] | None = None
    """As in a model's model_index.json: `name`, `split`, `num_images` and `digest` of the images
    that it was trained on, and `before`, what was seen before them; None: not known."""


class ImageClassifier(nn.Module):
    """A trunk, which turns images into features, and a linear layer, which names their classes.

    Where the spec says `frozen`, only the last layer has gradients, and the trunk stays in
    evaluation mode, so that its batch norms keep their statistics.
    """

    def __init__(self, config: ClassifierConfig, trunk: Trunk) -> None:
        """Put a new last layer on `trunk`; its weights come from torch's global generator."""
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.head = nn.Linear(trunk.num_features, len(config.class_names))
        known = config.normalisation or Normalisation(mean=(0.0,), std=(1.0,))
        for name, values in (("mean", known.mean), ("std", known.std)):
            buffer = torch.tensor(values).view(1, -1, 1, 1)
            self.register_buffer(name, buffer, persistent=False)
        if config.spec.regime == "frozen":
            trunk.requires_grad_(False)

    def train(self, mode: bool = True) -> "ImageClassifier":
        """Set training mode, but never for a frozen trunk."""
        super().train(mode)
        if self.config.spec.regime == "frozen":
            self.trunk.eval()
        return self

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, C, H, W] in [-1, 1] -> what the trunk takes.

        Resized to a square of `image_size` (bicubic, antialiased), grey repeated as RGB where the
        network knows only that, normalised.
        """
        if x.shape[1] != self.config.channels:
            raise ValueError(f"images have {x.shape[1]} channels, expected {self.config.channels}")
        size = self.config.spec.image_size
        if size is not None and x.shape[2:] != (size, size):
            x = F.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
        if x.shape[1] != self.trunk.channels:
            x = x.expand(-1, self.trunk.channels, -1, -1)
        if self.config.normalisation is not None:
            x = (x - self.get_buffer("mean")) / self.get_buffer("std")
        return x.contiguous(memory_format=torch.channels_last)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, C, H, W] in [-1, 1] -> features [N, D], what the last layer takes."""
        return self.trunk(self.prepare(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, C, H, W] in [-1, 1] -> logits [N, K]."""
        return self.head(self.features(x))

    @torch.inference_mode()
    def look(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features float32 [N, D] and most likely labels int64 [N] of images uint8 [N, H, W, C].

        In float32 and batches of 500; leaves the network in evaluation mode.
        """
        features, logits = self._look(images)
        return features.numpy(), logits.argmax(dim=1).numpy()

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 [N, K] of images uint8 [N, H, W, C]; each row sums to 1.

        In float32 and batches of 500; leaves the network in evaluation mode.
        """
        return self._look(images)[1].softmax(dim=1).numpy()

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / _WEIGHTS)
        text = self.config.model_dump_json(indent=2) + "\n"
        (folder / _CONFIG).write_text(text, encoding="utf-8")

    def _look(self, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        self.eval()
        features, logits = [], []
        for start in range(0, len(images), _LOOK_BATCH):
            x = to_float(images[start : start + _LOOK_BATCH]).to(self.head.weight.device)
            seen = self.features(x)
            features.append(seen.cpu())
            logits.append(self.head(seen).cpu())
        return torch.cat(features), torch.cat(logits)


def build_classifier(
    spec: Classifier, *, channels: int, class_names: tuple[str, ...], seed: int
) -> ImageClassifier:
    """A classifier to train, on the CPU and channels-last, with the weights that `spec` asks for.

    Args:
        spec: the network.
        channels: C, 1 or 3.
        class_names: in the order of their labels.
        seed: of all weights that are not given, at least the last layer's.

    Raises:
        SpecError: if weights cannot be had, or are for images of more channels.
    """
    with seeded(seed):
        trunk, normalisation = _trunk(spec, channels)
        if trunk.channels not in (channels, 3):
            raise SpecError(
                f"classifier.weights: {spec.weights} takes images of {trunk.channels} channels, "
                f"the dataset's have {channels}; give other weights"
            )
        config = ClassifierConfig(
            spec=spec,
            channels=channels,
            class_names=class_names,
            normalisation=normalisation,
            architecture=_architecture(trunk),
        )
        classifier = ImageClassifier(config, trunk)
    return classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def load_classifier(folder: Path) -> ImageClassifier:
    """Read what `save` wrote; on the CPU, in evaluation mode.

    Raises:
        SpecError: if `folder` holds no such classifier.
    """
    try:
        config = ClassifierConfig.model_validate_json((folder / _CONFIG).read_bytes())
        weights = load_file(folder / _WEIGHTS)
        with seeded(0):
            classifier = ImageClassifier(config, _untrained_trunk(config))
        classifier.load_state_dict(weights)
    except (OSError, ValidationError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).splitlines()[:3])
        raise SpecError(
            f"{folder}: holds no classifier of the factory ({reason}); give a folder with "
            f"{_CONFIG} and {_WEIGHTS} as jobs/classify.py saves them"
        ) from None
    classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return classifier.eval()


def _trunk(spec: Classifier, channels: int) -> tuple[Trunk, Normalisation | None]:
    match spec.network:
        case "efficientnet_lite0":
            return load_lite0(), LITE0_NORMALISATION
        case "pretrained":
            return load_transformers(spec)
        case network:
            return _resnet(network, spec, channels), None


def _untrained_trunk(config: ClassifierConfig) -> Trunk:
    spec = config.spec
    match spec.network:
        case "efficientnet_lite0":
            return EfficientNetLite0()
        case "pretrained":
            assert spec.weights is not None
            assert config.architecture is not None
            return untrained_transformers(config.architecture, name=spec.weights)
        case network:
            return _resnet(network, spec, config.channels)


def _resnet(network: ResNetName, spec: Classifier, channels: int) -> ResNet:
    return ResNet(network, stem=spec.stem, width=spec.width, channels=channels, norm=spec.norm)


def _architecture(trunk: Trunk) -> dict[str, Any] | None:
    return trunk.architecture if isinstance(trunk, TransformersTrunk) else None
