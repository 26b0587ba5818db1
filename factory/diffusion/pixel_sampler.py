"""Draw batches with a model in pixel space: streams, labels and source images around a solver.

N samples, C channels, H height, W width, S steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from numpy.typing import NDArray

from factory.diffusion.device import describe
from factory.diffusion.pixel import PixelPipeline, Raw, RawNetwork
from factory.diffusion.reconstruct import Originals
from factory.diffusion.sampler import Drawn
from factory.images import to_float, to_uint8
from factory.plan import Candidate
from factory.seeds import stream
from factory.sources.open import open_source
from factory.spec import DdpmGenerator, EdmGenerator, Reconstruction


class Batch(NamedTuple):
    """What a solver starts from; tensors of images are on its device."""

    noise: torch.Tensor
    """Standard normal, float32 [N, C, H, W]."""
    originals: torch.Tensor
    """Real images to reconstruct, float32 [N, C, H, W] in [-1, 1]; 0 where there are none."""
    t_re: torch.Tensor
    """int64 [N] on the CPU: steps from the clean end at which each image starts; S: pure noise."""
    labels: torch.Tensor | None
    """int64 [N]; None of an unconditional model."""
    streams: Sequence[torch.Generator]
    """One an image, on the CPU, for the noise between steps."""

    def rows(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels [S + 1], falling -> [N, S + 1]: those of each image, resting at its first one."""
        last = len(levels) - 1
        return levels[torch.arange(last + 1).clamp(min=(last - self.t_re).unsqueeze(1))]

    def start(self, signal: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Each image at its first level: float32 [N, C, H, W].

        Args:
            signal: what is left of the original, [N].
            sigma: standard deviation of the noise, [N].
        """
        left, added = (values.to(self.noise).view(-1, 1, 1, 1) for values in (signal, sigma))
        return left * self.originals + added * self.noise


class PixelSampler(ABC):
    """A loaded pixel model that draws batches of images; a subclass takes the noise away."""

    def __init__(
        self,
        pipeline: PixelPipeline,
        generator: EdmGenerator | DdpmGenerator,
        device: torch.device,
        *,
        num_steps: int,
        reconstruct: Reconstruction | None,
    ) -> None:
        """Place the model on `device`, and open the source of a reconstruction.

        Raises:
            SpecError: if the source cannot be read.
        """
        names = pipeline.config["id2label"]
        self.class_names = tuple(names[str(label)] for label in range(len(names)))
        size, patch_size = pipeline.config["image_size"], pipeline.config["patch_size"]
        channels = pipeline.unet.config["in_channels"] // patch_size**2
        self.device = describe(device)
        self._device = device
        self._shape = (channels, size, size)
        self._num_steps = num_steps
        self._is_bfloat16 = generator.dtype == "bfloat16"
        self._network = _place(pipeline, device, is_compiled=generator.compile)
        self._originals = None
        if reconstruct is not None:
            assert reconstruct.t_re is not None, "the spec sees to it for a pixel model"
            self._originals = Originals(open_source(reconstruct.source), reconstruct.t_re)

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """Draw one image for each candidate, or reconstruct its class's next source image.

        Raises:
            ValueError: if the network gave NaN or infinity.
        """
        names = [candidate.class_name for candidate in batch]
        kept = (None,) * len(batch)
        if self._originals is None:
            images = self.draw(names, [candidate.seed for candidate in batch])
            return Drawn(images, ({},) * len(batch), kept)
        streams = [stream(candidate.seed) for candidate in batch]
        # t_re comes from an image's stream before its noise.
        chosen = [self._originals.original(*own) for own in zip(batch, streams, strict=True)]
        images = self._draw(
            names,
            streams,
            originals=to_float(np.stack([one.image for one in chosen])),
            t_re=torch.tensor([one.t_re for one in chosen]),
        )
        return Drawn(images, tuple(one.facts for one in chosen), kept)

    def draw(self, class_names: Sequence[str | None], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Draw one image for each class name and seed, from noise.

        Each image's noise comes from a stream of its own, drawn on the CPU.

        Args:
            class_names: N names that the model knows; an unconditional model looks at none.
            seeds: N seeds.

        Returns:
            uint8 [N, H, W, C].

        Raises:
            ValueError: if the network gave NaN or infinity.
        """
        return self._draw(
            class_names,
            [stream(seed) for seed in seeds],
            originals=torch.zeros((len(seeds), *self._shape)),
            t_re=torch.full((len(seeds),), self._num_steps),
        )

    @abstractmethod
    def _solve(self, batch: Batch) -> torch.Tensor:
        """Images, float32 [N, C, H, W], about [-1, 1]."""

    @torch.inference_mode()
    def _draw(
        self,
        class_names: Sequence[str | None],
        streams: Sequence[torch.Generator],
        *,
        originals: torch.Tensor,
        t_re: torch.Tensor,
    ) -> NDArray[np.uint8]:
        noise = torch.stack([torch.randn(self._shape, generator=own) for own in streams])
        batch = Batch(
            noise.to(self._device),
            originals.to(self._device),
            t_re,
            self._labels(class_names),
            streams,
        )
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_bfloat16):
            return to_uint8(self._solve(batch))

    def _labels(self, class_names: Sequence[str | None]) -> torch.Tensor | None:
        if not self.class_names:
            return None
        known: dict[str | None, int] = {name: i for i, name in enumerate(self.class_names)}
        return torch.tensor([known[name] for name in class_names], device=self._device)


def load_pipeline(kind: type[PixelPipeline], folder: str) -> PixelPipeline:
    """A pixel model from a folder in diffusers' format, in float32, without a progress bar."""
    disable_progress_bar()
    return kind.from_pretrained(folder, dtype=torch.float32)


def _place(pipeline: PixelPipeline, device: torch.device, *, is_compiled: bool) -> Raw:
    network = RawNetwork(pipeline.unet.eval(), pipeline.config["patch_size"])
    network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return _compile(network) if is_compiled else network


def _compile(network: RawNetwork) -> Raw:
    """The network as one graph for each size that it is shown: a batch and, guided, two of them.

    On a GPU each becomes a CUDA graph: networks of 32 px images are hundreds of kernels that take
    less time than their launch. Kernels are never picked by timing them where that changes bits
    (as "max-autotune" does), since two actors could then draw other bytes. What this brings has
    not been measured on a GPU.
    """
    compiled = torch.compile(
        network,
        fullgraph=True,
        dynamic=False,
        options={"triton.cudagraphs": True, "deterministic": True},
    )

    def compute(x: torch.Tensor, level: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        # A CUDA graph writes each result over the last one, which a solver may still hold.
        return compiled(x, level, labels).clone()

    return compute
