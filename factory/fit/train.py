"""The training of a diffusion model, step by step; knows nothing of Ray, nor of what is learned."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from factory.fit.batches import BatchStream, validation_batches
from factory.fit.history import Row, out_of_patience
from factory.fit.schedule import make_schedule
from factory.fit.trainee import Trainee
from factory.seeds import hash_seed, seeded
from factory.sources.source import Source
from factory.spec import FitSpec, Training

_MAX_GRADIENT_NORM = 1.0


class Trainer:
    """A model in training: network, moving average of its weights, optimizer, and history."""

    def __init__(
        self, spec: FitSpec, source: Source, trainee: Trainee, accelerator: Accelerator
    ) -> None:
        """Start a training run.

        Args:
            spec: what is asked.
            source: images to train on.
            trainee: the model; every worker has the same.
            accelerator: precision, accumulation and the group of workers.
        """
        self.schedule = make_schedule(spec, len(source))
        self._spec = spec
        self._trainee = trainee
        self._accelerator = accelerator
        self._batches = BatchStream(source, spec, trainee)
        self._average = [weight.detach().clone() for weight in trainee.network.parameters()]
        optimizer = _make_optimizer(spec.training, trainee.network)
        self._network, self._optimizer = accelerator.prepare(trainee.network, optimizer)
        self.step = 0
        self.seconds = 0.0
        """Time spent in steps, all starts of the run together."""
        self.history: list[Row] = []
        self._losses: list[torch.Tensor] = []

    @property
    def images_seen(self) -> int:
        """Training images seen so far."""
        return self.step * self._spec.training.batch_size

    @property
    def done(self) -> bool:
        """Whether the run has made all its steps, or its patience has come to an end."""
        patience = self._spec.training.early_stopping_patience
        return self.step >= self.schedule.num_steps or out_of_patience(self.history, patience)

    def advance(self) -> None:
        """Make one optimizer step."""
        started = time.monotonic()
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.images_seen)
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
        """Save the model with its averaged weights, as a pipeline folder."""
        with self._averaged():
            self._trainee.save(folder)

    @torch.no_grad()
    def validation_loss(self, held_out: Source) -> float:
        """Mean loss of the averaged weights on `held_out`; with the same noise at any time."""
        losses, network = [], self._accelerator.unwrap_model(self._network)
        with self._averaged():
            network.eval()
            for batch in validation_batches(held_out, self._spec.seed, self._trainee):
                loss = self._trainee.loss(network, batch.to(self._accelerator.device))
                losses.append(float(loss) * len(batch.images))
            network.train()
        return sum(losses) / len(held_out)

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
        losses = []
        # Dropout is the one draw that knows no generator.
        rank = self._accelerator.process_index
        with seeded(hash_seed(self._spec.seed, "dropout", self.step, rank)):
            whole = self._batches.batch(self.step, part=self._own_part())
            for piece in whole.chunks(self._spec.training.gradient_accumulation_steps):
                with self._accelerator.accumulate(self._network):
                    loss = self._trainee.loss(self._network, piece.to(self._accelerator.device))
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
        size = self._spec.training.batch_size // accelerator.num_processes
        return slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)

    def _update_average(self) -> None:
        weights = [weight.detach() for weight in self._network.parameters()]
        share = 1 - self.schedule.ema_decay(self.images_seen)
        torch._foreach_lerp_(self._average, weights, share)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it, the network has its averaged weights; afterwards its own again."""
        weights = [weight.detach() for weight in self._network.parameters()]
        own = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, self._average)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, own)


def _make_optimizer(training: Training, network: torch.nn.Module) -> torch.optim.Optimizer:
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[training.optimizer]
    return kind(
        network.parameters(),
        betas=training.adam_betas,
        weight_decay=training.weight_decay,
        fused=True,
    )
