"""Pixel models in training: what EDM and DDPM share, and their losses.

N images, C channels, H height, W width, K classes, B images in one step.
"""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel

from factory.diffusion import ddpm, edm
from factory.diffusion.edm import SIGMA_DATA, denoise
from factory.diffusion.pixel import Facts, PixelPipeline, RawNetwork
from factory.fit.trainee import Batch, read_trained_on
from factory.records import chain_trained_on
from factory.seeds import hash_seed, seeded
from factory.sources.source import Source
from factory.spec import FitSpec
from factory.spec.fit import DdpmObjective

P_MEAN, P_STD = -1.2, 1.2
"""ln sigma of EDM's training noise is normal with these (Table 1 of Karras et al. 2022)."""


class _PixelTrainee:
    """A pixel model on its device."""

    def __init__(self, pipeline: PixelPipeline, device: torch.device, start: Path | None) -> None:
        """Train the network of `pipeline`, with the weights of the model in `start` if given."""
        if start is not None:
            weights = UNet2DModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
            pipeline.unet.load_state_dict(weights.state_dict())
        self.pipeline = pipeline
        network = RawNetwork(pipeline.unet, pipeline.config["patch_size"]).train()
        self.network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        size = pipeline.config["image_size"]
        channels = pipeline.unet.config["in_channels"] // pipeline.config["patch_size"] ** 2
        self._shape = (channels, size, size)

    def save(self, folder: Path) -> None:
        """Write the pipeline folder, in float16."""
        unet, pipeline = copy.deepcopy(self.pipeline.unet).half(), self.pipeline
        names = ("id2label", "image_size", "name", "patch_size", "label_dropout", "trained_on")
        config = {name: pipeline.config[name] for name in names}
        type(pipeline)(unet, pipeline.scheduler, **config).save_pretrained(folder)

    def _labels(self, batch: Batch) -> torch.Tensor | None:
        return batch.labels if self.pipeline.config["id2label"] else None


class EdmTrainee(_PixelTrainee):
    """A model that denoises at levels sigma; symbols follow Karras et al. 2022."""

    def __init__(
        self, spec: FitSpec, source: Source, device: torch.device, start: Path | None
    ) -> None:
        """A model of the shape of `spec`; see `Trainee`."""
        with seeded(hash_seed(spec.seed, "weights")):
            pipeline = edm.new_pipeline(spec.shape, **_facts(spec, source, start))
        super().__init__(pipeline, device, start)

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Noise levels sigma [B] and standard normal noise [B, C, H, W], in this order."""
        sigma = torch.randn(size, generator=generator).mul(P_STD).add(P_MEAN).exp()
        return sigma, torch.randn((size, *self._shape), generator=generator)

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean of lambda(sigma) |D(y + n; sigma) - y|^2, a pixel (Eq. 2 of the paper).

        lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 makes every noise level
        weigh about 1 for an untrained network.
        """
        sigma, noise = batch.draws
        level = sigma.view(-1, 1, 1, 1)
        weight = (level**2 + SIGMA_DATA**2) / (level * SIGMA_DATA) ** 2
        denoised = denoise(network, batch.images + level * noise, sigma, self._labels(batch))
        return (weight * (denoised - batch.images) ** 2).mean()


class DdpmTrainee(_PixelTrainee):
    """A model that predicts the noise of step t; symbols follow Ho et al. 2020."""

    def __init__(
        self,
        spec: FitSpec,
        objective: DdpmObjective,
        source: Source,
        device: torch.device,
        start: Path | None,
    ) -> None:
        """A model of the shape of `spec` and the chain of `objective`; see `Trainee`."""
        chain = ddpm.new_chain(
            objective.num_train_timesteps,
            objective.beta_schedule,
            beta_start=objective.beta_start,
            beta_end=objective.beta_end,
        )
        with seeded(hash_seed(spec.seed, "weights")):
            pipeline = ddpm.new_pipeline(spec.shape, chain, **_facts(spec, source, start))
        super().__init__(pipeline, device, start)

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Steps t [B], uniform from 0 to T - 1, and standard normal noise [B, C, H, W]."""
        num_steps = self.pipeline.scheduler.config["num_train_timesteps"]
        t = torch.randint(num_steps, (size,), generator=generator)
        return t, torch.randn((size, *self._shape), generator=generator)

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean of |epsilon - epsilon_theta(x_t, t)|^2, a pixel (lundberg2022, Eq. 7).

        x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) epsilon.
        """
        t, noise = batch.draws
        noisy = self.pipeline.scheduler.add_noise(batch.images, noise, t)
        return F.mse_loss(network(noisy, t, self._labels(batch)).float(), noise)


def _facts(spec: FitSpec, source: Source, start: Path | None) -> Facts:
    before = None if start is None else read_trained_on(start)
    return {
        "name": spec.name,
        "class_names": source.class_names if spec.conditional else (),
        "image_size": source.images.shape[1],
        "channels": source.images.shape[3],
        "label_dropout": spec.label_dropout,
        "trained_on": chain_trained_on(source.seen, before, source.trained_on),
    }
