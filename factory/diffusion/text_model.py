"""A small text-to-image model: autoencoder, tokenizer, text encoder and U-Net, and their losses.

The parts are diffusers' and transformers' own, and together a `StableDiffusionPipeline`.
N samples, C channels, H height, W width, L latent channels, h and w sides of the latents, T tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from factory.spec import DenoiserShape

_HEAD_WIDTH = 32
_NORM_GROUPS = 8
_WORD_END = "</w>"
_BOUNDS = ("<|startoftext|>", "<|endoftext|>")


def new_autoencoder(
    shape: DenoiserShape, *, channels: int, latent_channels: int, image_size: int
) -> AutoencoderKL:
    """An untrained autoencoder; its weights come from torch's global generator (see `seeded`).

    Its latents' sides are `image_size` / 2 for each level but the first.
    """
    levels = len(shape.block_out_channels)
    config: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": latent_channels,
        "sample_size": image_size,
        "block_out_channels": shape.block_out_channels,
        "layers_per_block": shape.layers_per_block,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "norm_num_groups": _NORM_GROUPS,
        "mid_block_add_attention": False,
    }
    return AutoencoderKL(**config)


def encode(vae: AutoencoderKL, images: torch.Tensor) -> DiagonalGaussianDistribution:
    """What the latents [N, L, h, w] of images [N, C, H, W] in [-1, 1] are drawn from."""
    return vae.encode(images, return_dict=False)[0]


def decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Latents [N, L, h, w] -> images float32 [N, C, H, W], about [-1, 1]."""
    tensor: Any = latents
    return vae.decode(tensor, return_dict=False)[0].float()


class Encoded(NamedTuple):
    """What an autoencoder makes of N images."""

    reconstruction: torch.Tensor
    """float32 [N, C, H, W]."""
    divergence: torch.Tensor
    """Of the latents from a standard normal, in nats, float32 [N]."""


class Autoencoding(torch.nn.Module):
    """An autoencoder, run from image to image, with the latents' noise as an argument."""

    def __init__(self, vae: AutoencoderKL) -> None:
        """Wrap `vae`."""
        super().__init__()
        self.vae = vae

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> Encoded:
        """Images float32 [N, C, H, W] in [-1, 1], standard normal noise [N, L, h, w]."""
        latents = encode(self.vae, images)
        decoded = decode(self.vae, latents.mean + latents.std * noise)
        return Encoded(decoded, latents.kl().float())


def autoencoder_loss(
    images: torch.Tensor, encoded: Encoded, *, latent_size: int, kl_weight: float
) -> torch.Tensor:
    """Mean absolute error a pixel, plus `kl_weight` times the divergence a latent number."""
    error = (encoded.reconstruction - images).abs().mean()
    return error + kl_weight * encoded.divergence.mean() / latent_size


@torch.no_grad()
def standardize_latents(vae: AutoencoderKL, images: torch.Tensor) -> None:
    """Change `vae` in place so that each channel of its latents has mean 0 and deviation 1.

    The first and last thing that happens to latents is a convolution of one pixel, which takes
    the change up and leaves the reconstructions as they are; `scaling_factor` becomes 1. A
    channel of small deviation would drown in the noise of all steps but the last.

    Args:
        vae: the autoencoder.
        images: what it encodes to such latents, float32 [N, C, H, W] in [-1, 1], on its device.
    """
    encoded = encode(vae, images)
    mean = encoded.mean.mean(dim=(0, 2, 3))
    # Of a latent that is drawn: between images, and around what an image is encoded to.
    variance = encoded.mean.var(dim=(0, 2, 3)) + encoded.var.mean(dim=(0, 2, 3))
    deviation = variance.sqrt()
    entry, leave = vae.quant_conv, vae.post_quant_conv
    assert entry is not None
    assert entry.bias is not None
    assert leave is not None
    assert leave.bias is not None
    channels = len(mean)
    # The entry gives means, then log variances.
    entry.bias[:channels] -= mean
    entry.bias[channels:] -= 2 * deviation.log()
    entry.bias[:channels] /= deviation
    entry.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    leave.bias += leave.weight[:, :, 0, 0] @ mean
    leave.weight *= deviation.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def new_tokenizer(words: Sequence[str], *, max_tokens: int) -> CLIPTokenizer:
    """CLIP's way of reading text, with a vocabulary of its own.

    Each of `words` is one token; any other text is spelled in what they are made of, in the end
    in single bytes.

    Args:
        words: in lower case.
        max_tokens: longest text, its start and end included.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        left = ""
        for piece in _tokenizer(merges, max_tokens).tokenize(word):
            if left:
                merges.append((left, piece))
            # A word of several parts, as t-shirt, becomes a token for each part.
            left = "" if piece.endswith(_WORD_END) else left + piece
    return _tokenizer(merges, max_tokens)


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Texts -> int64 [N, T], padded to, and cut off at, the tokenizer's longest text."""
    return tokenizer(
        list(texts), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids


def new_text_pipeline(
    shape: DenoiserShape,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    *,
    latent_side: int,
    text_width: int,
    text_layers: int,
) -> StableDiffusionPipeline:
    """A text-to-image model whose text encoder and U-Net are untrained.

    Their weights come from torch's global generator (see `seeded`). The chain is Stable
    Diffusion's, and what is predicted is the velocity (Salimans and Ho 2022).

    Args:
        shape: of the U-Net; cross-attention is where it has attention, and in the middle.
        vae: the autoencoder.
        tokenizer: as `new_tokenizer` makes it.
        latent_side: h and w.
        text_width: numbers that stand for a token; a multiple of 32.
        text_layers: of the text encoder.
    """
    channels = vae.config["latent_channels"]
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": _new_text_encoder(tokenizer, width=text_width, layers=text_layers),
        "tokenizer": tokenizer,
        "unet": _new_unet(shape, channels=channels, side=latent_side, text_width=text_width),
        "scheduler": DPMSolverMultistepScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            steps_offset=1,
        ),
    }
    return join_pipeline(parts)


def join_pipeline(parts: dict[str, Any]) -> StableDiffusionPipeline:
    """The pipeline of `parts` by name, without a safety checker."""
    all_parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, **parts}
    return StableDiffusionPipeline(**all_parts, requires_safety_checker=False)


class TextDenoiser(torch.nn.Module):
    """What is trained of a text-to-image model: its text encoder and its U-Net, as one network."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        """Wrap both."""
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet

    def forward(self, latents: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Noisy latents [N, L, h, w], steps t [N] from 0, tokens int64 [N, T] -> [N, L, h, w]."""
        states = self.text_encoder(tokens)[0]
        return self.unet(latents, t, states).sample.float()


class Noised(NamedTuple):
    """Latents on their way into noise, and what they are told to show."""

    latents: torch.Tensor
    """Clean, with a deviation of about 1, float32 [N, L, h, w]."""
    t: torch.Tensor
    """Steps of the chain, from 0, int64 [N]."""
    noise: torch.Tensor
    """Standard normal, float32 [N, L, h, w]."""
    tokens: torch.Tensor
    """int64 [N, T]."""


def denoising_loss(network: torch.nn.Module, chain: DDPMScheduler, noised: Noised) -> torch.Tensor:
    """Mean of |v - v_theta(z_t, t, tokens)|^2, a latent number.

    z_t = sqrt(abar_t) z + sqrt(1 - abar_t) epsilon, and v = sqrt(abar_t) epsilon -
    sqrt(1 - abar_t) z, the velocity of Salimans and Ho, "Progressive Distillation" (2022).

    Args:
        network: a `TextDenoiser`, perhaps as a training library wrapped it.
        chain: made from the pipeline's scheduler.
        noised: the batch.
    """
    latents, t, noise, tokens = noised
    predicted = network(chain.add_noise(latents, noise, t), t, tokens)  # pyright: ignore[reportArgumentType]
    return F.mse_loss(predicted, chain.get_velocity(latents, noise, t))  # pyright: ignore[reportArgumentType]


def _tokenizer(merges: Sequence[tuple[str, str]], max_tokens: int) -> CLIPTokenizer:
    alphabet = sorted(ByteLevel.alphabet())
    merged = [left + right for left, right in merges]
    tokens = [*alphabet, *(symbol + _WORD_END for symbol in alphabet), *merged, *_BOUNDS]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    pairs: Any = list(merges)
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=max_tokens)


def _new_text_encoder(tokenizer: CLIPTokenizer, *, width: int, layers: int) -> CLIPTextModel:
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // _HEAD_WIDTH,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextModel(CLIPTextConfig(**config))


def _new_unet(
    shape: DenoiserShape, *, channels: int, side: int, text_width: int
) -> UNet2DConditionModel:
    levels = range(len(shape.block_out_channels))
    attends = [level in shape.attention_levels for level in levels]
    down = ["CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in attends]
    up = ["CrossAttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)]
    config: dict[str, Any] = {
        "sample_size": side,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": shape.block_out_channels,
        "layers_per_block": shape.layers_per_block,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "cross_attention_dim": text_width,
        # diffusers' name for the number of heads.
        "attention_head_dim": tuple(max(1, w // _HEAD_WIDTH) for w in shape.block_out_channels),
        "norm_num_groups": _NORM_GROUPS,
        "dropout": shape.dropout,
    }
    return UNet2DConditionModel(**config)
