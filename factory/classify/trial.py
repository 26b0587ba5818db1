"""Run one training from start, or from its checkpoint, to its record; knows nothing of Ray."""

import hashlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from factory.classify.arms import PreparedArm, Sources
from factory.classify.prepare import classifier_folder, record_name
from factory.classify.results import Epoch, TrialRecord
from factory.classify.schedule import step_sizes
from factory.classify.train import Task, Trainer, Workers
from factory.diffusion.device import describe, pick_device
from factory.records import ASKED_NAME, chain_trained_on
from factory.seeds import hash_seed
from factory.spec import ClassifySpec
from factory.store import Store
from factory.vision.classifier import ImageClassifier

SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Trial:
    """The trainings of one comparison, one a call."""

    def __init__(
        self, spec: ClassifySpec, root: str, sources: Sources, arms: dict[str, PreparedArm]
    ) -> None:
        """Take what all trainings share.

        Args:
            spec: the comparison.
            root: absolute path or URL.
            sources: what the arms' images are taken from.
            arms: the arms by name.
        """
        self._spec = spec
        self._store = Store(root)
        self._sources = sources
        self._arms = arms

    def __call__(
        self,
        name: str,
        trial: int,
        device: torch.device,
        workers: Workers | None = None,
        *,
        checkpoint_seconds: float = SECONDS_BETWEEN_CHECKPOINTS,
    ) -> TrialRecord | None:
        """As `follow`, to the end.

        Returns:
            The record; None for workers other than the first.
        """
        rows = self.follow(name, trial, device, workers, checkpoint_seconds=checkpoint_seconds)
        *_, last = rows
        return last if isinstance(last, TrialRecord) else None

    def follow(
        self,
        name: str,
        trial: int,
        device: torch.device,
        workers: Workers | None = None,
        *,
        checkpoint_seconds: float = SECONDS_BETWEEN_CHECKPOINTS,
    ) -> Iterator[Epoch | TrialRecord]:
        """Train arm `name` with its seed number `trial`; run again, it goes on.

        Args:
            name: the arm.
            trial: number of the seed, from 0.
            device: where to train.
            workers: the group that trains together; each of them makes this call.
            checkpoint_seconds: least time between two checkpoints, each at the end of an epoch.

        Yields:
            Each epoch as it ends; then, for the first worker, the record, which is also put into
            the root.

        Raises:
            TrainingFailed: if the loss is no finite number.
            SpecError: if this machine does not see the root that the driver sees.
        """
        workers = workers or Workers()
        self._store.check_seen(ASKED_NAME)
        torch.set_num_threads(self._spec.threads)
        _repeat_exactly()
        arm = self._arms[name]
        trainer = Trainer(self._task(arm, trial), device, workers)
        checkpoint = f"checkpoints/{arm.fingerprint}-{trial}.pt"
        self._resume(trainer, checkpoint)
        saved = time.monotonic()
        while not trainer.done:
            trainer.train_epoch()
            yield trainer.history[-1]
            if workers.rank == 0 and time.monotonic() - saved >= checkpoint_seconds:
                self._save(trainer, checkpoint)
                saved = time.monotonic()
        if workers.rank == 0:
            record = self._commit(arm, trial, trainer, device)
            self._store.delete([checkpoint])
            yield record

    def _task(self, arm: PreparedArm, trial: int) -> Task:
        spec = self._spec
        assert arm.arm.augmentation is not None
        return Task(
            classifier=spec.classifier,
            training=spec.training,
            augmentation=arm.arm.augmentation,
            class_names=self._sources.real.class_names,
            parts=arm.parts(self._sources),
            step_sizes=step_sizes(spec.training, arm.arm),
            validation=arm.validation_part(self._sources),
            num_steps=arm.num_steps,
            # The same for every arm: what an arm is compared by differs in its images alone.
            seed=hash_seed(spec.seed, "trial", trial),
        )

    def _resume(self, trainer: Trainer, name: str) -> None:
        if not self._store.exists(name):
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.pt"
            path.write_bytes(self._store.get(name))
            trainer.load(path)

    def _save(self, trainer: Trainer, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.pt"
            trainer.save(path)
            self._store.put(name, path.read_bytes())

    def _commit(
        self, arm: PreparedArm, trial: int, trainer: Trainer, device: torch.device
    ) -> TrialRecord:
        network, test = trainer.finish(), self._sources.test
        probabilities = network.predict(test.images).astype(np.float16)
        data = io.BytesIO()
        np.save(data, probabilities)
        sha256 = hashlib.sha256(data.getvalue()).hexdigest()
        name = record_name(arm.fingerprint, trial)
        if self._spec.save_classifiers:
            network.config = network.config.model_copy(update={"trained_on": self._trained_on(arm)})
            self._save_classifier(network, classifier_folder(arm.fingerprint, trial))
        record = TrialRecord(
            fingerprint=arm.fingerprint,
            arm=arm.name,
            trial=trial,
            # The digest is in the name, so that no other attempt puts other bytes under the record.
            predictions=f"{name.removesuffix('.json')}-{sha256[:8]}.npy",
            sha256=sha256,
            weights_sha256=_weights_digest(network),
            top1=float((probabilities.argmax(axis=1) == test.labels).mean()),
            num_parameters=sum(weight.numel() for weight in network.parameters()),
            num_steps=trainer.step,
            images_seen=trainer.step * trainer.images_per_step,
            best_epoch=trainer.best_epoch,
            history=tuple(trainer.history),
            seconds=round(trainer.seconds, 2),
            images_per_second=trainer.step * trainer.images_per_step / trainer.seconds,
            device=describe(device),
        )
        self._store.put(record.predictions, data.getvalue())
        if not self._store.create(name, record.model_dump_json(indent=1).encode()):
            return TrialRecord.model_validate_json(self._store.get(name))
        return record

    def _trained_on(self, arm: PreparedArm) -> dict[str, Any] | None:
        """What a classifier of the arm has seen, as `chain_trained_on` links it."""
        sources = self._sources
        links: list[dict[str, Any] | None] = []
        if arm.synthetic is not None:
            links.append(sources.synthetic[arm.synthetic].trained_on)
        if len(arm.train.real):
            links.insert(0, sources.real.take(arm.train.real).seen)
        return chain_trained_on(*links) if links else None

    def _save_classifier(self, network: ImageClassifier, folder: str) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            network.save(Path(temporary))
            for file in sorted(Path(temporary).iterdir()):
                self._store.put(f"{folder}/{file.name}", file.read_bytes())


def train_one(
    spec: ClassifySpec,
    root: str,
    shared: tuple[Sources, dict[str, PreparedArm]],
    arm: str,
    trial: int,
) -> TrialRecord:
    """One training, alone in this process and on its device.

    Args:
        spec: the comparison.
        root: absolute path or URL.
        shared: the sources and the arms.
        arm: name of the arm to train.
        trial: number of its seed.

    Raises:
        TrainingFailed, SpecError: as `Trial.follow` does.
    """
    record = Trial(spec, root, *shared)(arm, trial, pick_device())
    assert record is not None
    return record


def _repeat_exactly() -> None:
    """Have a GPU add in one order and in full precision, as a CPU does."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _weights_digest(network: torch.nn.Module) -> str:
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
