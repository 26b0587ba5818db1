"""Text-to-image models in training, and the autoencoders that they draw with.

N images, C channels, H height, W width, L latent channels, h and w sides of the latents,
B images in one step.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler

from factory.captions import caption_words, describe, draw_caption
from factory.diffusion.text_model import (
    Autoencoding,
    Noised,
    TextDenoiser,
    autoencoder_loss,
    denoising_loss,
    encode,
    join_pipeline,
    new_autoencoder,
    new_text_pipeline,
    new_tokenizer,
    standardize_latents,
    tokenize,
)
from factory.fit.trainee import Batch
from factory.images import to_float, to_uint8
from factory.models import TRAINED_ON
from factory.records import chain_trained_on
from factory.seeds import hash_seed, seeded
from factory.sources.source import Source
from factory.spec import FitSpec
from factory.spec.text_fit import AutoencoderObjective, TextToImageObjective

_SCALE_IMAGES = 1_000
"""Training images that standardize an autoencoder's latents."""


class AutoencoderTrainee:
    """An autoencoder on its device; see `Trainee`."""

    network: torch.nn.Module

    def __init__(
        self,
        spec: FitSpec,
        objective: AutoencoderObjective,
        source: Source,
        device: torch.device,
    ) -> None:
        """An autoencoder of the shape of `spec`, for the images of `source`."""
        _, size, _, channels = source.images.shape
        with seeded(hash_seed(spec.seed, "weights")):
            self._vae = new_autoencoder(
                spec.shape,
                channels=channels,
                latent_channels=objective.latent_channels,
                image_size=size,
            )
        network = Autoencoding(self._vae).train()
        self.network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        side = size // 2 ** (len(spec.shape.block_out_channels) - 1)
        self._latent_shape = (objective.latent_channels, side, side)
        self._kl_weight = objective.kl_weight
        self._images = source.images[:_SCALE_IMAGES]
        self._trained_on = chain_trained_on(source.seen, source.trained_on)

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Standard normal noise of the latents [B, L, h, w]."""
        return (torch.randn((size, *self._latent_shape), generator=generator),)

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean absolute error, and a little of the latents' divergence; see `autoencoder_loss`."""
        (noise,) = batch.draws
        return autoencoder_loss(
            batch.images,
            network(batch.images, noise),
            latent_size=noise[0].numel(),
            kl_weight=self._kl_weight,
        )

    def save(self, folder: Path) -> None:
        """Write the autoencoder's folder, in float16, its latents standardized."""
        vae = copy.deepcopy(self._vae).eval()
        standardize_latents(vae, to_float(self._images).to(vae.device))
        vae.register_to_config(**{TRAINED_ON: self._trained_on})
        vae.half().save_pretrained(folder)


class TextTrainee:
    """A text encoder and a U-Net on their device, beside a frozen autoencoder; see `Trainee`."""

    network: torch.nn.Module

    def __init__(
        self,
        spec: FitSpec,
        objective: TextToImageObjective,
        source: Source,
        device: torch.device,
        autoencoder: Path,
    ) -> None:
        """A model of the shape of `spec` over the autoencoder in the folder `autoencoder`."""
        vae = AutoencoderKL.from_pretrained(autoencoder, dtype=torch.float32)
        self._captions, self._class_names = objective.captions, source.class_names
        self._tokenizer = new_tokenizer(
            caption_words(objective.captions, source.class_names), max_tokens=objective.max_tokens
        )
        side = source.images.shape[1] // 2 ** (len(vae.config["block_out_channels"]) - 1)
        with seeded(hash_seed(spec.seed, "weights")):
            self._pipeline = new_text_pipeline(
                spec.shape,
                vae.eval().requires_grad_(False),
                self._tokenizer,
                latent_side=side,
                text_width=objective.text_width,
                text_layers=objective.text_layers,
            )
        self._pipeline.to(device)
        chain = DDPMScheduler.from_config(self._pipeline.scheduler.config)
        assert isinstance(chain, DDPMScheduler)
        self._chain = chain
        self.network = TextDenoiser(self._pipeline.text_encoder, self._pipeline.unet).train()
        self._latent_shape = (vae.config["latent_channels"], side, side)
        self._trained_on = chain_trained_on(
            source.seen, read_trained_on(autoencoder), source.trained_on
        )

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Steps t [B], noise of the encoding and of the chain [B, L, h, w], seeds of captions [B].

        In this order; the noise is standard normal.
        """
        t = torch.randint(self._chain.config["num_train_timesteps"], (size,), generator=generator)
        around = torch.randn((size, *self._latent_shape), generator=generator)
        noise = torch.randn((size, *self._latent_shape), generator=generator)
        return t, around, noise, torch.randint(2**62, (size,), generator=generator)

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean squared error of the velocity of noised latents; see `denoising_loss`."""
        t, around, noise, seeds = batch.draws
        latents = self._encode(batch.images, around)
        noised = Noised(latents, t, noise, self._tokens(batch, seeds))
        return denoising_loss(network, self._chain, noised)

    def save(self, folder: Path) -> None:
        """Write the pipeline folder, in float16; its index says what the model has seen."""
        parts: dict[str, Any] = {**self._pipeline.components}
        for name in ("vae", "text_encoder", "unet"):
            parts[name] = copy.deepcopy(parts[name]).half()
        pipeline = join_pipeline(parts)
        pipeline.register_to_config(**{TRAINED_ON: self._trained_on})
        pipeline.save_pretrained(folder)

    def _encode(self, images: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        with torch.no_grad():
            encoded = encode(vae, images)
        return (encoded.mean + encoded.std * around).float() * vae.config["scaling_factor"]

    def _tokens(self, batch: Batch, seeds: torch.Tensor) -> torch.Tensor:
        attributes = describe(to_uint8(batch.images))
        captions = [
            self._caption(*told)
            for told in zip(batch.labels.tolist(), attributes, seeds.tolist(), strict=True)
        ]
        return tokenize(self._tokenizer, captions).to(batch.images.device)

    def _caption(self, label: int, attributes: Sequence[str], seed: int) -> str:
        if label == len(self._class_names):
            return ""
        return draw_caption(self._captions, self._class_names[label], attributes, seed=seed)


def read_trained_on(autoencoder: Path) -> dict[str, Any]:
    """What an autoencoder has seen, as its folder says it."""
    config = json.loads((autoencoder / "config.json").read_text("utf-8"))
    return config.get(TRAINED_ON) or {"name": f"autoencoder {autoencoder.name}"}
