"""The training of one classifier, step by step; knows nothing of Ray.

N images, K classes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from factory.classify.arms import Part
from factory.classify.batches import BatchStream
from factory.classify.results import Epoch
from factory.classify.schedule import epoch_steps, learning_rate
from factory.precision import autocast
from factory.seeds import hash_seed, seeded
from factory.spec import Augmentation, Classifier, ClassifierTraining, JobError, Validation
from factory.vision.augment import augment
from factory.vision.classifier import ImageClassifier, build_classifier

_LOOK_EVERY = 20
"""Losses are looked at this often, in steps, so that a GPU need not wait for each."""
_LEAST_PROBABILITY = 1e-12


class TrainingFailed(JobError):
    """A training cannot go on; the message says at which step and why."""


class Task(NamedTuple):
    """One training: all that its weights depend on."""

    classifier: Classifier
    training: ClassifierTraining
    augmentation: Augmentation
    class_names: tuple[str, ...]
    parts: list[Part]
    """One part whose images are shuffled together, or two that give images to every step."""
    step_sizes: tuple[int, ...]
    """Images that a step takes of each part."""
    validation: Part | None
    num_steps: int
    seed: int


class Workers(NamedTuple):
    """The group of processes that train one network; as it stands, a group of one."""

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network
    """Makes the network average its gradients with those of the others."""
    share: Callable[[nn.Module], None] = lambda network: None
    """Gives all workers the buffers of the first one."""
    mean: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
    """Averages values over the workers."""


class Trainer:
    """A classifier in training."""

    def __init__(self, task: Task, device: torch.device, workers: Workers | None = None) -> None:
        """Build the network and its optimizer; every worker makes the same weights."""
        self._task = task
        self._device = device
        self._workers = workers or Workers()
        self.network: ImageClassifier = build_classifier(
            task.classifier,
            channels=task.parts[0].images.shape[3],
            class_names=task.class_names,
            seed=hash_seed(task.seed, "weights"),
        ).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._shared = self._workers.wrap(self.network)
        self._optimizer = _optimizer(task.training, self.network)
        self._batches = BatchStream(
            task.parts,
            sizes=task.step_sizes,
            seed=hash_seed(task.seed, "order"),
            device=device,
        )
        part_sizes = [len(part.labels) for part in task.parts]
        self._epoch_steps = epoch_steps(part_sizes, task.step_sizes)
        self._num_epochs = max(1, round(task.num_steps / self._epoch_steps))
        self.step = 0
        self.seconds = 0.0
        """Time spent in steps, all starts together."""
        self.history: list[Epoch] = []
        self._best: dict[str, torch.Tensor] | None = None
        self.best_epoch: int | None = None

    @property
    def images_per_step(self) -> int:
        """Images that one step sees, all workers together."""
        return sum(self._task.step_sizes)

    @property
    def done(self) -> bool:
        """Whether all steps are made, or validation has stopped the training."""
        return self.step >= self._task.num_steps or self._is_out_of_patience()

    def train_epoch(self) -> None:
        """Make the steps of one epoch, look at the validation images, and add to the history.

        Raises:
            TrainingFailed: at the first step whose loss is no finite number.
        """
        started = time.monotonic()
        end = self._end_of_epoch(len(self.history) + 1)
        self._shared.train()
        losses, hits, seen = [], [], 0
        while self.step < end:
            loss, right, count = self._optimize()
            losses.append(loss)
            hits.append(right)
            seen += count
            self.step += 1
            if len(losses) % _LOOK_EVERY == 0 or self.step == end:
                self._check(losses)
        self.seconds += time.monotonic() - started
        self._workers.share(self.network)
        validation = self._validate()
        hit_rate = torch.stack(hits).sum() / seen
        loss, accuracy = self._workers.mean(torch.stack([torch.stack(losses).mean(), hit_rate]))
        self.history.append(
            Epoch(
                epoch=len(self.history) + 1,
                step=self.step,
                learning_rate=self._optimizer.param_groups[0]["lr"],
                loss=float(loss),
                accuracy=float(accuracy),
                validation_loss=validation and validation[0],
                validation_accuracy=validation and validation[1],
            )
        )
        self._keep_best()

    def finish(self) -> ImageClassifier:
        """The trained network: the best epoch's where validation chose one, else the last's."""
        if self._best is not None:
            self.network.load_state_dict(self._best)
        return self.network.eval()

    def save(self, path: Path) -> None:
        """Write all that the rest of the run depends on to one file."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": [epoch.model_dump() for epoch in self.history],
            "best": self._best,
            "best_epoch": self.best_epoch,
        }
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote; the following steps are those of one run."""
        state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = [Epoch.model_validate(epoch) for epoch in state["history"]]
        self._best, self.best_epoch = state["best"], state["best_epoch"]

    def _optimize(self) -> tuple[torch.Tensor, torch.Tensor, int]:
        task, training = self._task, self._task.training
        rate = learning_rate(
            training,
            self.step,
            num_steps=task.num_steps,
            num_epochs=training.epochs or task.num_steps / self._epoch_steps,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        images, labels = self._batches.batch(self.step)
        # Of the whole batch, so that it does not depend on the number of workers.
        own = hash_seed(task.seed, "augment", self.step)
        images = augment(images, task.augmentation, seed=own)
        rank, world = self._workers.rank, self._workers.world
        if world > 1:
            share = self._batches.share(rank, world)
            images, labels = images[share], labels[share]
        # Dropout is the one draw that knows no generator.
        with seeded(hash_seed(task.seed, "dropout", self.step, rank)):
            logits = self._logits(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=training.label_smoothing)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        right = (logits.detach().argmax(dim=1) == labels).sum()
        return loss.detach(), right, len(labels)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        with autocast(self._device, self._task.training.mixed_precision):
            return self._shared(images).float()

    def _end_of_epoch(self, epoch: int) -> int:
        if epoch >= self._num_epochs:
            return self._task.num_steps
        return max(self.step + 1, round(epoch * self._epoch_steps))

    def _check(self, losses: list[torch.Tensor]) -> None:
        strange = (~torch.isfinite(torch.stack(losses))).nonzero()
        if len(strange):
            step = self.step - len(losses) + int(strange[0])
            raise TrainingFailed(
                f"the loss of step {step} is {float(losses[int(strange[0])])}; lower "
                f"training.learning_rate (it is {self._task.training.learning_rate:g})"
            )

    def _validate(self) -> tuple[float, float] | None:
        part = self._task.validation
        if part is None:
            return None
        probabilities = self.network.predict(part.images)
        wanted = probabilities[np.arange(len(part.labels)), part.labels]
        loss = -np.log(np.maximum(wanted, _LEAST_PROBABILITY)).mean()
        accuracy = (probabilities.argmax(axis=1) == part.labels).mean()
        # The mean is the same number for all workers, so they stop at the same epoch.
        both = torch.tensor([loss, accuracy], dtype=torch.float32, device=self._device)
        loss, accuracy = self._workers.mean(both).tolist()
        return loss, accuracy

    def _keep_best(self) -> None:
        loss = self.history[-1].validation_loss
        if loss is None or self._patience() is None:
            return
        others = [row.validation_loss for row in self.history[:-1]]
        if all(other is not None and loss < other for other in others):
            weights = self.network.state_dict()
            self._best = {name: value.clone() for name, value in weights.items()}
            self.best_epoch = self.history[-1].epoch

    def _is_out_of_patience(self) -> bool:
        patience = self._patience()
        if patience is None or self.best_epoch is None:
            return False
        return self.history[-1].epoch - self.best_epoch >= patience

    def _patience(self) -> int | None:
        validation: Validation | None = self._task.training.validation
        return None if validation is None else validation.patience


def _optimizer(training: ClassifierTraining, network: nn.Module) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    match training.optimizer:
        case "sgd":
            return torch.optim.SGD(
                weights,
                lr=rate,
                momentum=training.momentum,
                nesterov=training.nesterov,
                weight_decay=decay,
                fused=True,
            )
        case "adam":
            return torch.optim.Adam(weights, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=True)
