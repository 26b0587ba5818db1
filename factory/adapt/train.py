"""The training of one concept, step by step; knows nothing of Ray.

N images, B images in one step, C channels of the latents, H and W their height and width, T noise
levels, L tokens a prompt, D width of the text encoder.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.optimization import get_scheduler
from numpy.typing import NDArray

from factory.adapt.prepare import Concept
from factory.images import to_float
from factory.seeds import hash_seed, stream
from factory.spec import AdaptSpec, DreamBooth

_ENCODED_AT_ONCE = 8


class Trainable(Protocol):
    """What a method makes of a pipeline."""

    parameters: list[torch.nn.Parameter]
    """What is trained; all else keeps its bits."""

    def encode(self, prompts: Sequence[str], /) -> torch.Tensor:
        """B prompts -> [B, L, D]."""
        ...

    def save(self, folder: Path) -> None:
        """Write the adapter."""
        ...


class Examples(NamedTuple):
    """Images to learn from, as latents, with the prompts that go with them."""

    moments: torch.Tensor
    """Mean and log variance of each image's latents, float32 [F, N, 2 C, H, W]; F 2 with a mirrored
    copy of each image, else 1."""
    prompts: tuple[str, ...]
    """One is drawn an image and step."""
    weight: float
    """Of their mean loss."""


class Batch(NamedTuple):
    """What one optimizer step sees, or a part of it."""

    latents: torch.Tensor
    """float32 [B, C, H, W]"""
    noise: torch.Tensor
    """Standard normal, float32 [B, C, H, W]."""
    levels: torch.Tensor
    """Noise levels, int64 [B], from 0 to T - 1."""
    weights: torch.Tensor
    """Of each image's loss, float32 [B]."""
    prompts: tuple[str, ...]


class Trainer:
    """A concept in training."""

    def __init__(
        self,
        spec: AdaptSpec,
        concept: Concept,
        pipeline: StableDiffusionPipeline,
        trainable: Trainable,
        accelerator: Accelerator,
    ) -> None:
        """Start a training; its pipeline lies on the accelerator's device.

        Args:
            spec: what is asked.
            concept: what is learned.
            pipeline: the model, as `trainable` has changed it.
            trainable: what is trained.
            accelerator: precision and accumulation.
        """
        self._training = spec.training
        self._accelerator = accelerator
        self._trainable = trainable
        self._unet = pipeline.unet
        self._chain: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
        self._scaling = pipeline.vae.config["scaling_factor"]
        self._examples = _examples(spec, concept, pipeline)
        self._seed = (spec.seed, concept.class_name)
        optimizer = torch.optim.AdamW(
            trainable.parameters, lr=spec.learning_rate, weight_decay=spec.training.weight_decay
        )
        kind = spec.training.schedule
        schedule = get_scheduler(
            # The one that is called "constant" knows no warm-up.
            "constant_with_warmup" if kind == "constant" else kind,
            optimizer,
            num_warmup_steps=spec.training.warmup_steps,
            num_training_steps=spec.training.num_steps,
        )
        self._optimizer, self._schedule = accelerator.prepare(optimizer, schedule)
        self.seconds = 0.0
        """Time spent in steps, all starts of the training together."""
        self._losses: list[float] = []

    @property
    def step(self) -> int:
        """Optimizer steps made so far."""
        return len(self._losses)

    @property
    def done(self) -> bool:
        """Whether all steps are made."""
        return self.step >= self._training.num_steps

    def advance(self) -> None:
        """Make one optimizer step.

        Raises:
            ValueError: if the loss is no finite number.
        """
        started = time.monotonic()
        batch = draw_batch(
            self._examples,
            size=self._training.batch_size,
            num_levels=self._chain.config["num_train_timesteps"],
            scaling=self._scaling,
            seed=hash_seed(*self._seed, "step", self.step),
        )
        parts = _split(batch, self._training.gradient_accumulation_steps)
        loss = sum(self._learn(part, len(parts)) for part in parts)
        if not np.isfinite(loss):
            raise ValueError(f"the loss of step {self.step} is {loss}; lower the learning rate")
        self._losses.append(loss)
        self.seconds += time.monotonic() - started

    def losses(self) -> tuple[float, ...]:
        """Mean loss of each tenth of the steps made so far."""
        tenths = np.array_split(np.array(self._losses), min(10, max(1, self.step)))
        return tuple(round(float(tenth.mean()), 6) for tenth in tenths if tenth.size)

    def state(self) -> dict[str, Any]:
        """What `load` takes: all that the rest of the training depends on."""
        return {
            "parameters": [weight.detach() for weight in self._trainable.parameters],
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "losses": self._losses,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; the following steps are those of one training."""
        with torch.no_grad():
            for weight, saved in zip(self._trainable.parameters, state["parameters"], strict=True):
                weight.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._losses = list(state["losses"])
        self.seconds = state["seconds"]

    def _learn(self, batch: Batch, num_parts: int) -> float:
        accelerator = self._accelerator
        with accelerator.accumulate():
            with accelerator.autocast():
                loss = self._loss(batch)
            # Accelerate divides by the number of parts; the weights sum up over all of them.
            accelerator.backward(loss * num_parts)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(
                    self._trainable.parameters, self._training.max_gradient_norm
                )
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> torch.Tensor:
        device = self._accelerator.device
        latents, noise, levels, weights = (tensor.to(device) for tensor in batch[:4])
        noisy = self._chain.add_noise(latents, noise, levels)
        found = self._unet(noisy, levels, self._trainable.encode(batch.prompts)).sample
        wanted = wanted_output(self._chain, latents, noise, levels)
        errors = (found.float() - wanted).square().flatten(1).mean(dim=1)
        return (weights * errors).sum()


def wanted_output(
    chain: DDPMScheduler, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """What the network is to say, [B, C, H, W], by the chain's kind of prediction."""
    match chain.config["prediction_type"]:
        case "epsilon":
            return noise
        case "v_prediction":
            return chain.get_velocity(latents, noise, levels)  # pyright: ignore[reportArgumentType] - any integers
        case _:
            return latents


def draw_batch(
    examples: Sequence[Examples], *, size: int, num_levels: int, scaling: float, seed: int
) -> Batch:
    """`size` images of each of `examples`, a function of its arguments alone.

    The order of the draws is part of a training's identity: for each of `examples` which images,
    which are mirrored, which prompts, their latents, noise and noise levels.
    """
    generator, batches = stream(seed), []
    for part in examples:
        flips, count = part.moments.shape[:2]
        chosen = torch.randint(count, (size,), generator=generator)
        mirrored = torch.randint(flips, (size,), generator=generator)
        prompts = torch.randint(len(part.prompts), (size,), generator=generator).tolist()
        posterior = DiagonalGaussianDistribution(part.moments[mirrored, chosen])
        latents = scaling * posterior.sample(generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        levels = torch.randint(num_levels, (size,), generator=generator)
        weights = torch.full((size,), part.weight / size)
        texts = tuple(part.prompts[index] for index in prompts)
        batches.append(Batch(latents, noise, levels, weights, texts))
    return _joined(batches)


def encode_images(pipeline: StableDiffusionPipeline, images: NDArray[np.uint8]) -> torch.Tensor:
    """Mean and log variance of the latents of uint8 [N, R, R, 3]: float32 [N, 2 C, H, W]."""
    pixels = to_float(images).split(_ENCODED_AT_ONCE)
    device = pipeline.vae.device
    with torch.no_grad():
        return torch.cat(
            [pipeline.vae.encode(some.to(device)).latent_dist.parameters.cpu() for some in pixels]
        )


def _examples(
    spec: AdaptSpec, concept: Concept, pipeline: StableDiffusionPipeline
) -> list[Examples]:
    method, wording = spec.method, concept.wording

    def latents(images: NDArray[np.uint8]) -> torch.Tensor:
        copies = [images, images[:, :, ::-1]] if spec.training.horizontal_flip else [images]
        return torch.stack([encode_images(pipeline, copy) for copy in copies])

    prompts = tuple(text.format(concept=wording.phrase) for text in method.instance_prompts)
    examples = [Examples(latents(concept.images), prompts, 1.0)]
    if concept.prior is not None:
        prior = method.prior_preservation if isinstance(method, DreamBooth) else None
        assert prior is not None
        prompt = prior.class_prompt.format(class_name=wording.words)
        examples.append(Examples(latents(concept.prior), (prompt,), prior.weight))
    return examples


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        latents=torch.cat([batch.latents for batch in batches]),
        noise=torch.cat([batch.noise for batch in batches]),
        levels=torch.cat([batch.levels for batch in batches]),
        weights=torch.cat([batch.weights for batch in batches]),
        prompts=tuple(prompt for batch in batches for prompt in batch.prompts),
    )


def _split(batch: Batch, num_parts: int) -> list[Batch]:
    places = torch.arange(len(batch.prompts)).tensor_split(num_parts)
    return [
        Batch(
            latents=batch.latents[some],
            noise=batch.noise[some],
            levels=batch.levels[some],
            weights=batch.weights[some],
            prompts=tuple(batch.prompts[index] for index in some.tolist()),
        )
        for some in places
    ]
