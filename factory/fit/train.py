"""The training of an EDM model, step by step; knows nothing of Ray.

Symbols follow Karras et al. 2022. N images, C channels, H height, W width, B images in one step.
"""

import copy
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel

from factory.diffusion.edm import (
    SIGMA_DATA,
    EdmPipeline,
    RawNetwork,
    denoise,
    new_pipeline,
)
from factory.fit.history import Row
from factory.images import to_float
from factory.seeds import hash_seed, seeded, stream
from factory.sources.source import Source
from factory.spec import FitSpec, Training

P_MEAN, P_STD = -1.2, 1.2
"""ln sigma of training noise is normal with these (Table 1 of the paper)."""

_BETAS = (0.9, 0.99)
_MAX_GRADIENT_NORM = 1.0
_EMA_RAMP = 0.1
"""Early on, the moving average's half-life is this share of the images seen so far."""


class Batch(NamedTuple):
    """What one optimizer step, or one worker's part of it, sees."""

    images: torch.Tensor
    """float32 [B, C, H, W] in [-1, 1]."""
    noise: torch.Tensor
    """Standard normal, float32 [B, C, H, W]."""
    sigma: torch.Tensor
    """float32 [B]."""
    labels: torch.Tensor
    """int64 [B]; K, the null class, where the label is hidden."""


class BatchStream:
    """The batches of a training run: each a function of the source, the seed and its number."""

    def __init__(self, source: Source, training: Training, *, seed: int) -> None:
        """Draw from `source` as `training` says."""
        self._images = torch.from_numpy(source.images)
        self._labels = torch.from_numpy(source.labels)
        self._null_label = len(source.class_names)
        self._training = training
        self._seed = seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int, *, part: slice = slice(None)) -> Batch:
        """Batch `step`, or the part of it that one worker sees.

        Numbers are drawn for the whole batch, so that they do not depend on the number of
        workers. The order of the draws is part of a run's identity: sigma, noise, hidden labels,
        flips. All on the CPU, while a GPU still works on the step before.
        """
        training, generator = self._training, stream(hash_seed(self._seed, "step", step))
        indices = self._indices(step)
        size = len(indices)
        sigma = torch.randn(size, generator=generator).mul(P_STD).add(P_MEAN).exp()
        height, width, channels = self._images.shape[1:]
        noise = torch.randn((size, channels, height, width), generator=generator)
        hidden = torch.rand(size, generator=generator) < training.label_dropout
        flipped = torch.rand(size, generator=generator) < 0.5
        labels = self._labels[indices].masked_fill(hidden, self._null_label)
        images = to_float(self._images[indices[part]].numpy())
        if training.horizontal_flip:
            images = torch.where(flipped[part].view(-1, 1, 1, 1), images.flip(3), images)
        return Batch(images, noise[part], sigma[part], labels[part])

    def _indices(self, step: int) -> torch.Tensor:
        size = self._training.batch_size
        places = range(step * size, (step + 1) * size)
        return torch.stack([self._index(place) for place in places])

    def _index(self, place: int) -> torch.Tensor:
        # Every epoch goes through all images once, in an order of its own.
        epoch, position = divmod(place, len(self._images))
        if epoch != self._epoch:
            generator = stream(hash_seed(self._seed, "epoch", epoch))
            self._epoch, self._order = (
                epoch,
                torch.randperm(len(self._images), generator=generator),
            )
        return self._order[position]


def edm_loss(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Mean over the batch of lambda(sigma) |D(y + n; sigma) - y|^2, a pixel (Eq. 2 of the paper).

    lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 makes every noise level weigh
    about 1 for an untrained network.
    """
    level = batch.sigma.view(-1, 1, 1, 1)
    weight = (level**2 + SIGMA_DATA**2) / (level * SIGMA_DATA) ** 2
    x = batch.images + level * batch.noise
    denoised = denoise(network, x, batch.sigma, batch.labels)
    return (weight * (denoised - batch.images) ** 2).mean()


def learning_rate(training: Training, images_seen: int) -> float:
    """The rate of the step after `images_seen`: linear warm-up, constant, linear fall to zero."""
    warm_up = training.warmup_fraction * training.num_images
    fall = training.decay_fraction * training.num_images
    risen = (images_seen + training.batch_size) / warm_up if warm_up else 1.0
    left = (training.num_images - images_seen) / fall if fall else 1.0
    return training.learning_rate * min(1.0, risen, max(0.0, left))


def ema_decay(training: Training, images_seen: int) -> float:
    """Share of the average that one step keeps, `images_seen` counting that step.

    The half-life is `ema_fraction` of the whole run, at first a tenth of the images seen so far,
    so that the untrained weights are soon forgotten.
    """
    half_life = min(training.ema_fraction * training.num_images, _EMA_RAMP * images_seen)
    return 0.5 ** (training.batch_size / half_life)


def _trained_on(source: Source, start: Path | None) -> dict[str, Any] | None:
    seen: dict[str, Any] = {
        "name": source.name,
        "split": source.split,
        "num_images": len(source),
        "digest": source.digest,
    }
    before = source.trained_on
    if start is not None:
        index = json.loads((start / "model_index.json").read_text("utf-8"))
        before = _chain(index["trained_on"] or {"name": f"model {index['name']}"}, before)
    # The same images again are no other images seen.
    if before is not None and before.get("digest") == seen["digest"]:
        return before
    return _chain(seen, before)


def _chain(last: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was seen last, and before that, and before that, ..."""
    if last is None or before is None:
        return last or before
    return {**last, "before": _chain(last.get("before"), before)}


class Trainer:
    """A model in training: network, moving average of its weights, optimizer, and history."""

    def __init__(
        self,
        spec: FitSpec,
        source: Source,
        accelerator: Accelerator,
        start: Path | None = None,
    ) -> None:
        """Start a training run; every worker makes the same weights.

        Args:
            spec: what is asked.
            source: images to train on.
            accelerator: precision, accumulation and the group of workers.
            start: model folder of the same shape to go on from; None: random weights.
        """
        with seeded(hash_seed(spec.seed, "weights")):
            self.pipeline = new_pipeline(
                spec.shape,
                name=spec.name,
                class_names=source.class_names,
                image_size=source.images.shape[1],
                channels=source.images.shape[3],
                label_dropout=spec.training.label_dropout,
                trained_on=_trained_on(source, start),
            )
        if start is not None:
            weights = UNet2DModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
            self.pipeline.unet.load_state_dict(weights.state_dict())
        self._spec = spec
        self._training = spec.training
        self._accelerator = accelerator
        self._batches = BatchStream(source, spec.training, seed=spec.seed)
        raw = RawNetwork(self.pipeline.unet, spec.shape.patch_size).train()
        raw = raw.to(accelerator.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._average = [weight.detach().clone() for weight in raw.parameters()]
        optimizer = torch.optim.AdamW(
            raw.parameters(), betas=_BETAS, weight_decay=spec.training.weight_decay, fused=True
        )
        self._network, self._optimizer = accelerator.prepare(raw, optimizer)
        self.step = 0
        self.seconds = 0.0
        """Time spent in steps, all starts of the run together."""
        self.history: list[Row] = []
        self._losses: list[torch.Tensor] = []

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return math.ceil(self._training.num_images / self._training.batch_size)

    @property
    def images_seen(self) -> int:
        """Training images seen so far."""
        return self.step * self._training.batch_size

    @property
    def done(self) -> bool:
        """Whether the run has made all its steps."""
        return self.step >= self.num_steps

    def advance(self) -> None:
        """Make one optimizer step."""
        started = time.monotonic()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._training, self.images_seen)
        self._losses.append(self._optimize())
        self.step += 1
        self._update_average()
        self.seconds += time.monotonic() - started

    def close_row(self) -> None:
        """Add a row to the history, of the steps since the row before; all workers together."""
        loss = self._accelerator.reduce(torch.stack(self._losses).mean(), "mean")
        assert isinstance(loss, torch.Tensor)
        self._losses = []
        self.history.append(
            Row(
                images=self.images_seen,
                loss=float(loss),
                learning_rate=self._optimizer.param_groups[0]["lr"],
                seconds=round(self.seconds, 2),
            )
        )

    def snapshot(self, folder: Path) -> None:
        """Save the averaged weights as a pipeline folder, in float16."""
        unet = copy.deepcopy(self.pipeline.unet)
        with torch.no_grad():
            for weight, average in zip(unet.parameters(), self._average, strict=True):
                weight.copy_(average)
        names = ("id2label", "image_size", "name", "patch_size", "label_dropout", "trained_on")
        config = {name: self.pipeline.config[name] for name in names}
        EdmPipeline(unet.half(), self.pipeline.scheduler, **config).save_pretrained(folder)

    def save(self, path: Path) -> None:
        """Write all that the rest of the run depends on to one file; close the row before."""
        torch.save(self.state(), path)

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {
            "network": self._accelerator.unwrap_model(self._network).state_dict(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": [row.model_dump() for row in self.history],
        }

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote; the following steps are those of one run."""
        state = torch.load(path, map_location=self._accelerator.device, weights_only=True)
        self._accelerator.unwrap_model(self._network).load_state_dict(state["network"])
        self._average = state["average"]
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = [Row.model_validate(row) for row in state["history"]]

    def _optimize(self) -> torch.Tensor:
        parts = self._training.gradient_accumulation_steps
        losses = []
        # Dropout is the one draw that knows no generator.
        rank = self._accelerator.process_index
        with seeded(hash_seed(self._spec.seed, "dropout", self.step, rank)):
            whole = self._batches.batch(self.step, part=self._own_part())
            for pieces in zip(*(tensor.chunk(parts) for tensor in whole), strict=True):
                piece = Batch(*(p.to(self._accelerator.device, non_blocking=True) for p in pieces))
                with self._accelerator.accumulate(self._network):
                    loss = edm_loss(self._network, piece)
                    self._accelerator.backward(loss)
                    if self._accelerator.sync_gradients:
                        self._accelerator.clip_grad_norm_(
                            self._network.parameters(), _MAX_GRADIENT_NORM
                        )
                    self._optimizer.step()
                    self._optimizer.zero_grad()
                losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _own_part(self) -> slice:
        accelerator = self._accelerator
        size = self._training.batch_size // accelerator.num_processes
        return slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)

    def _update_average(self) -> None:
        weights = [weight.detach() for weight in self._network.parameters()]
        share = 1 - ema_decay(self._training, self.images_seen)
        torch._foreach_lerp_(self._average, weights, share)
