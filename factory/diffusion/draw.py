"""Draw a batch of candidates with an EDM model: labels and seeds in, uint8 images out.

N samples, C channels, H height, W width.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from diffusers.utils.logging import disable_progress_bar
from huggingface_hub import snapshot_download
from numpy.typing import NDArray

from factory.diffusion.device import describe, pick_device
from factory.diffusion.edm import SIGMA_DATA, EdmPipeline, Raw, RawNetwork, denoise
from factory.diffusion.samplers import euler, heun, karras_sigmas
from factory.images import to_uint8
from factory.records import Device
from factory.resolve import ModelFolder, Resolved
from factory.seeds import stream
from factory.spec import EdmGenerator


class Sampler(Protocol):
    """A loaded model on its device."""

    device: Device

    def __call__(self, class_names: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """N class names and N seeds -> N images, uint8 [N, H, W, C]."""
        ...


class GuidedNetwork:
    """A raw network with classifier-free guidance: F_null + scale (F_class - F_null).

    Since D is linear in F at a given x and sigma, guiding F is guiding D. Images outside the
    interval keep F_class; where no image is inside, the null class costs no evaluation.
    """

    def __init__(
        self,
        network: Raw,
        *,
        null_label: int,
        scale: float,
        interval: tuple[float, float] | None,
    ) -> None:
        """Guide `network`; scale 1 is no guidance, `interval` bounds sigma (None: at all)."""
        self._network = network
        self._null_label = null_label
        self._scale = scale
        self._interval = interval

    def __call__(
        self, x: torch.Tensor, c_noise: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """As `RawNetwork.forward`."""
        guided = self._guided((4 * c_noise).exp())
        if not bool(guided.any()):
            return self._network(x, c_noise, labels)
        null = torch.full_like(labels, self._null_label)
        both = self._network(
            torch.cat([x, x]), torch.cat([c_noise, c_noise]), torch.cat([labels, null])
        )
        with_class, without = both.chunk(2)
        moved = without + self._scale * (with_class - without)
        return torch.where(guided.view(-1, 1, 1, 1), moved, with_class)

    def _guided(self, sigma: torch.Tensor) -> torch.Tensor:
        if self._scale == 1:
            return torch.zeros_like(sigma, dtype=torch.bool)
        if self._interval is None:
            return torch.ones_like(sigma, dtype=torch.bool)
        # sigma comes back through a float32 logarithm: a bound that names a level must hold it.
        low, high = self._interval
        return (sigma >= low * (1 - 1e-5)) & (sigma <= high * (1 + 1e-5))


class EdmSampler:
    """A loaded EDM model that draws batches of images."""

    def __init__(self, folder: str, generator: EdmGenerator, device: torch.device) -> None:
        """Load the model from `folder` (diffusers' format) and place it on `device`."""
        disable_progress_bar()
        pipeline = EdmPipeline.from_pretrained(folder, dtype=torch.float32)
        self.class_names = tuple(
            pipeline.config["id2label"][str(i)] for i in range(len(pipeline.config["id2label"]))
        )
        patch_size = pipeline.config["patch_size"]
        channels = pipeline.unet.config["in_channels"] // patch_size**2
        self._shape = (channels, *(2 * [pipeline.config["image_size"]]))
        network: torch.nn.Module = RawNetwork(pipeline.unet.eval(), patch_size)
        network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if generator.compile:
            network = torch.compile(network)  # pyright: ignore[reportAssignmentType]
        self.device = describe(device)
        self._generator = generator
        self._device = device
        self._network = GuidedNetwork(
            network,
            null_label=len(self.class_names),
            scale=generator.guidance_scale,
            interval=generator.guidance_interval,
        )

    @torch.inference_mode()
    def __call__(self, class_names: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Draw one image for each class name and seed.

        Each image's noise comes from a stream of its own, drawn on the CPU.

        Args:
            class_names: N names that the model knows.
            seeds: N seeds.

        Returns:
            uint8 [N, H, W, C].

        Raises:
            ValueError: if the network gave NaN or infinity.
        """
        labels = torch.tensor([self.class_names.index(name) for name in class_names])
        streams = [stream(seed) for seed in seeds]
        noise = torch.stack([torch.randn(self._shape, generator=s) for s in streams])
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._generator.dtype == "bfloat16"
        ):
            x = self._sample(noise.to(self._device), labels.to(self._device), streams)
        return to_uint8(x)

    def _sample(
        self, noise: torch.Tensor, labels: torch.Tensor, streams: list[torch.Generator]
    ) -> torch.Tensor:
        match self._generator.scheduler:
            case "heun" | "euler" as name:
                loop = heun if name == "heun" else euler
                sigmas = self._sigmas().to(self._device).expand(len(noise), -1)
                x = noise * float(sigmas[0, 0])
                return loop(lambda x, s: denoise(self._network, x, s, labels), x, sigmas)
            case "edm_euler":
                return self._run(EDMEulerScheduler, noise, labels, streams)
            case "edm_dpm_solver_multistep":
                return self._run(EDMDPMSolverMultistepScheduler, noise, labels, streams)

    def _sigmas(self) -> torch.Tensor:
        spec = self._generator
        return karras_sigmas(
            spec.num_inference_steps,
            sigma_min=spec.sigma_min,
            sigma_max=spec.sigma_max,
            rho=spec.rho,
        )

    def _run(
        self,
        kind: type[EDMEulerScheduler] | type[EDMDPMSolverMultistepScheduler],
        noise: torch.Tensor,
        labels: torch.Tensor,
        streams: list[torch.Generator],
    ) -> torch.Tensor:
        spec = self._generator
        # A scheduler counts its steps: each batch gets a new one.
        scheduler = kind(
            sigma_min=spec.sigma_min,
            sigma_max=spec.sigma_max,
            sigma_data=SIGMA_DATA,
            rho=spec.rho,
        )
        scheduler.set_timesteps(spec.num_inference_steps, device=self._device)
        x = noise * scheduler.init_noise_sigma
        for c_noise in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, c_noise)
            raw = self._network(scaled, c_noise.expand(len(x)), labels)
            # A list of generators is accepted, one an image, though the signature names one.
            x = scheduler.step(raw.float(), c_noise, x, generator=streams, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
        return x


def load_sampler(resolved: Resolved) -> EdmSampler:
    """The sampler of a resolved spec on this process's device, with its number of CPU threads.

    Raises:
        OSError: if the model cannot be read here.
    """
    torch.set_num_threads(resolved.spec.threads)
    return EdmSampler(_local_folder(resolved.model), resolved.spec.generator, pick_device())


def _local_folder(model: ModelFolder) -> str:
    if model.revision is None:
        return model.path
    return snapshot_download(model.path, revision=model.revision)
