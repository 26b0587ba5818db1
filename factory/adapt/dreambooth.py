"""DreamBooth (Ruiz et al. 2022): the U-Net, or low-rank updates of it, learns what a word means.

B prompts, L tokens a prompt, D width of the text encoder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from factory.spec import DreamBooth, Lora

_UNET_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_UNET_ALL = (
    *_UNET_ATTENTION,
    "ff.net.0.proj",
    "ff.net.2",
    "proj_in",
    "proj_out",
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
)
_TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_TEXT_ALL = (*_TEXT_ATTENTION, "fc1", "fc2")


class _Prompts:
    """Encodes prompts; where the text encoder is not trained, each only once."""

    def __init__(self, pipeline: StableDiffusionPipeline, *, is_trained: bool) -> None:
        self._pipeline = pipeline
        self._is_trained = is_trained
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> torch.Tensor:
        """[B, L, D]."""
        if self._is_trained:
            return self._encode(list(prompts))
        for prompt in prompts:
            if prompt not in self._known:
                with torch.no_grad():
                    self._known[prompt] = self._encode([prompt])[0]
        return torch.stack([self._known[prompt] for prompt in prompts])

    def _encode(self, prompts: list[str]) -> torch.Tensor:
        pipeline = self._pipeline
        return pipeline.encode_prompt(prompts, pipeline.text_encoder.device, 1, False)[0]


class LoraWeights:
    """A pipeline with low-rank updates that can be trained."""

    def __init__(self, pipeline: StableDiffusionPipeline, method: DreamBooth, lora: Lora) -> None:
        """Add updates to `pipeline`; their weights come from torch's global generator.

        They start as zero: one factor is drawn, the other is zero.
        """
        pipeline.unet.requires_grad_(False)
        pipeline.text_encoder.requires_grad_(False)
        is_all = lora.target == "all"
        self._networks: dict[str, Any] = {"unet": pipeline.unet}
        pipeline.unet.add_adapter(_config(lora, _UNET_ALL if is_all else _UNET_ATTENTION))
        if method.train_text_encoder:
            self._networks["text_encoder"] = pipeline.text_encoder
            config = _config(lora, _TEXT_ALL if is_all else _TEXT_ATTENTION)
            pipeline.text_encoder.add_adapter(config)
        self.parameters = [
            weight
            for network in self._networks.values()
            for weight in network.parameters()
            if weight.requires_grad
        ]
        self.encode = _Prompts(pipeline, is_trained=method.train_text_encoder)

    def save(self, folder: Path) -> None:
        """Write what `load_lora_weights` takes."""
        layers: dict[str, Any] = {}
        for name, network in self._networks.items():
            # By peft's own names: diffusers would rename those of attention layers alone, and loads
            # such a mixture without them, with no more than a warning.
            layers[f"{name}_lora_layers"] = get_peft_model_state_dict(network)
            layers[f"{name}_lora_adapter_metadata"] = _metadata(network)
        StableDiffusionPipeline.save_lora_weights(folder, **layers)


class WholeModel:
    """A pipeline whose U-Net is trained, and its text encoder where that is asked."""

    def __init__(self, pipeline: StableDiffusionPipeline, method: DreamBooth) -> None:
        """Have `pipeline` trained in place."""
        self._pipeline = pipeline
        pipeline.unet.requires_grad_(True)
        pipeline.text_encoder.requires_grad_(method.train_text_encoder)
        trained = [pipeline.unet, *([pipeline.text_encoder] if method.train_text_encoder else [])]
        self.parameters = [weight for network in trained for weight in network.parameters()]
        self.encode = _Prompts(pipeline, is_trained=method.train_text_encoder)

    def save(self, folder: Path) -> None:
        """Write a whole pipeline folder."""
        self._pipeline.save_pretrained(folder)
        for path in sorted(folder.rglob("*.json")):
            _forget_origin(path)


def _config(lora: Lora, modules: tuple[str, ...]) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType] - divided by r, so no integer
        target_modules=list(modules),
        init_lora_weights="gaussian",
    )


def _metadata(network: Any) -> dict[str, Any]:
    # Not all of the configuration: it names the folder that the model came from, and its sets
    # change their order from process to process.
    config = network.peft_config["default"]
    return {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "target_modules": sorted(config.target_modules),
    }


def _forget_origin(path: Path) -> None:
    """Take the folder that a model came from out of its configuration: it changes no image."""
    tree = json.loads(path.read_bytes())
    if isinstance(tree, dict) and tree.keys() & {"_name_or_path", "name_or_path"}:
        kept = {k: v for k, v in tree.items() if k not in ("_name_or_path", "name_or_path")}
        path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
