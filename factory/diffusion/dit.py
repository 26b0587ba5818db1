"""Draw images of a class-conditional latent transformer (DiT) with a label mapping.

The loop of diffusers' DiTPipeline takes 1,000 classes for granted, drops a learned variance, and
gives the noise between the steps no stream of its own.
N samples, C channels of the latents, H height, W width, K classes of the model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
)
from diffusers.utils.logging import disable_progress_bar

from factory.diffusion.device import describe
from factory.diffusion.sampler import Drawn
from factory.images import to_uint8
from factory.mapping import fine_label
from factory.plan import Candidate
from factory.resolve import Resolved
from factory.seeds import stream
from factory.spec import DitGenerator

Network = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy latents [N, C, H, W], timesteps int64 [N], labels int64 [N], K the null class) -> the
noise [N, C, H, W], or the noise and a learned variance [N, 2 C, H, W]."""

Scheduler = DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler


def guide(network: Network, *, null_label: int, scale: float) -> Network:
    """Classifier-free guidance of the noise: null + scale (class - null).

    A learned variance stays that of the class, as in DiTPipeline. At scale 1 the null class costs
    no evaluation.
    """
    if scale == 1:
        return network

    def guided(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        null = torch.full_like(labels, null_label)
        both = network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([labels, null]))
        with_class, without = both.chunk(2)
        noise, variance = with_class.tensor_split([x.shape[1]], dim=1)
        null_noise = without[:, : x.shape[1]]
        return torch.cat([null_noise + scale * (noise - null_noise), variance], dim=1)

    return guided


def sample_latents(
    network: Network,
    scheduler: Scheduler,
    noise: torch.Tensor,
    labels: torch.Tensor,
    streams: list[torch.Generator],
) -> torch.Tensor:
    """Walk down the timesteps of `scheduler`.

    A learned variance is used by a DDPMScheduler of variance type `learned_range` and dropped for
    every other scheduler.

    Args:
        network: see `Network`; guided or not.
        scheduler: its timesteps set, and no step taken yet, for it counts them.
        noise: of unit variance, float32 [N, C, H, W].
        labels: int64 [N].
        streams: N, for the noise between the steps.

    Returns:
        float32 [N, C, H, W].
    """
    x = noise * scheduler.init_noise_sigma
    takes_variance = scheduler.config.get("variance_type") == "learned_range"
    # Timesteps stay on the CPU, where the scheduler looks them up without waiting for a GPU.
    for t in scheduler.timesteps:
        output = network(x, torch.full((len(x),), int(t), device=x.device), labels)
        if not takes_variance:
            output = output[:, : x.shape[1]]
        # A list of generators is accepted, one an image, though the signature names one.
        x = scheduler.step(output, t, x, generator=streams, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
    return x


class DitSampler:
    """A loaded DiT that draws the candidates of coarse classes from its own, fine ones."""

    def __init__(self, resolved: Resolved, device: torch.device) -> None:
        """Load the model that `resolved` names and place it on `device`."""
        assert isinstance(resolved.spec.generator, DitGenerator)
        assert resolved.mapping is not None
        self._generator, self._mapping = resolved.spec.generator, resolved.mapping
        self.device = describe(device)
        self._device = device
        self._dtype = getattr(torch, self._generator.dtype)
        disable_progress_bar()
        pipeline = DiTPipeline.from_pretrained(resolved.model.local(), dtype=self._dtype)
        pipeline = pipeline.to(device)
        self._vae = pipeline.vae
        self._scheduler_config = pipeline.scheduler.config
        self._transformer = pipeline.transformer
        shape = self._transformer.config
        self._shape = (shape["in_channels"], shape["sample_size"], shape["sample_size"])
        self._learns_variance = shape["out_channels"] == 2 * shape["in_channels"]
        self._network = guide(
            self._compute,
            null_label=shape["num_embeds_ada_norm"],
            scale=self._generator.guidance_scale,
        )
        if self._generator.compile:
            self._transformer = torch.compile(self._transformer)

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """Draw one image for each candidate, of the fine class whose turn it is.

        Raises:
            ValueError: if the network gave NaN or infinity.
        """
        fine = []
        for candidate in batch:
            assert candidate.class_name is not None
            fine.append(fine_label(self._mapping, candidate.class_name, candidate.turn))
        x = self.draw([item.label for item in fine], [candidate.seed for candidate in batch])
        return Drawn(
            images=to_uint8(x),
            facts=tuple({"fine_class": item.name} for item in fine),
            rejected=(None,) * len(fine),
        )

    @torch.inference_mode()
    def draw(self, labels: Sequence[int], seeds: Sequence[int]) -> torch.Tensor:
        """Images of the model's own classes.

        Each image's noise comes from a stream of its own, drawn on the CPU: first the latents,
        then what the scheduler adds between the steps.

        Args:
            labels: N, each from 0 to K, the null class.
            seeds: N.

        Returns:
            [N, 3, H, W] in the dtype of the model, about [-1, 1].
        """
        streams = [stream(seed) for seed in seeds]
        noise = torch.stack([torch.randn(self._shape, generator=s) for s in streams])
        scheduler = self._new_scheduler()
        scheduler.set_timesteps(self._generator.num_inference_steps)
        x = sample_latents(
            self._network,
            scheduler,
            noise.to(self._device),
            torch.tensor(labels, device=self._device),
            streams,
        )
        x = x / self._vae.config["scaling_factor"]
        return self._vae.decode(x.to(self._dtype), return_dict=False)[0]

    def _compute(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Only the network computes in the dtype of the spec; the steps are added up in float32.
        return self._transformer(x.to(self._dtype), t, labels, return_dict=False)[0].float()

    def _new_scheduler(self) -> Scheduler:
        config = self._scheduler_config
        # Latents have no range to clip to, yet a scheduler that the model was not saved with would.
        clips = config.get("clip_sample", False)
        own: dict[str, Any]
        match self._generator.scheduler:
            case "ddim":
                kind, own = DDIMScheduler, {"clip_sample": clips}
            case "ddpm":
                variance = "learned_range" if self._learns_variance else "fixed_small"
                kind, own = DDPMScheduler, {"clip_sample": clips, "variance_type": variance}
            case "dpm_solver_multistep":
                # Told of a learned variance it would cut the latents to three channels.
                kind, own = DPMSolverMultistepScheduler, {"variance_type": None}
        # A tuple comes back only where one is asked for.
        return kind.from_config(config, **own)  # pyright: ignore[reportReturnType]
