"""How the judge draws from text-to-image models and autoencoders.

N images, C channels, H height, W width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar
from numpy.typing import NDArray

from factory.diffusion.text_model import Autoencoding, decode, encode
from factory.images import to_float, to_uint8
from factory.seeds import stream
from factory.sources.source import Source
from factory.spec import TextToImageGenerator
from factory.spec.text_fit import Captions


class TextDrawer:
    """A saved pipeline that draws classes from plain captions."""

    def __init__(
        self,
        folder: Path,
        generator: TextToImageGenerator,
        captions: Captions,
        device: torch.device,
    ) -> None:
        """Load the pipeline in `folder`."""
        disable_progress_bar()
        pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device)
        self._captions = captions
        self._generator = generator

    def draw(self, class_names: Sequence[str | None], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """N class names and N seeds -> uint8 [N, H, W, C]."""
        output: Any = self._pipeline(
            [f"a photo of a {self._word(str(name))}" for name in class_names],
            num_inference_steps=self._generator.num_inference_steps,
            guidance_scale=self._generator.guidance_scale,
            generator=[stream(seed) for seed in seeds],
            output_type="pt",
        )
        return to_uint8(output.images.float() * 2 - 1)

    def _word(self, class_name: str) -> str:
        return self._captions.class_words.get(class_name, (class_name,))[0]


class AutoencoderDrawer:
    """A saved autoencoder, which draws a class by encoding and decoding held-out images of it."""

    def __init__(self, folder: Path, held_out: Source, device: torch.device) -> None:
        """Load the autoencoder in `folder`."""
        vae = AutoencoderKL.from_pretrained(folder, dtype=torch.float32)
        self._network = Autoencoding(vae).to(device).eval()
        self._held_out = held_out

    @torch.inference_mode()
    def draw(self, class_names: Sequence[str | None], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """N class names and N seeds, which choose among their images -> uint8 [N, H, W, C]."""
        chosen = [self._place(*wanted) for wanted in zip(class_names, seeds, strict=True)]
        vae = self._network.vae
        images = to_float(self._held_out.images[chosen]).to(vae.device)
        return to_uint8(decode(vae, encode(vae, images).mean))

    def _place(self, class_name: str | None, seed: int) -> int:
        source = self._held_out
        places = np.flatnonzero(source.labels == source.class_names.index(str(class_name)))
        return int(places[seed % len(places)])
