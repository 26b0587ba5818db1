"""One training of a search, from its images to its record; knows nothing of Ray."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from factory.classify.arms import PreparedArm, Sources, prepare_arms
from factory.classify.prepare import record_name
from factory.classify.results import Epoch, TrialRecord
from factory.classify.trial import Trial
from factory.diffusion.device import pick_device
from factory.spec import ClassifySpec, TuneSpec
from factory.store import Store
from factory.tune.point import ARM, SEARCH_FOLDER, RealData, as_comparison, open_sources
from factory.tune.tried import Progress, Score


class Prepared(NamedTuple):
    """A trial whose images are there."""

    comparison: ClassifySpec
    root: str
    sources: Sources
    arm: PreparedArm

    def score(self, record: TrialRecord) -> Score:
        """What the record of one of its trainings says."""
        mixed = self.arm.mixed
        return Score(
            accuracy=record.top1,
            seconds=record.seconds * self.comparison.num_workers,
            fingerprint=record.fingerprint,
            num_real=len(mixed.real),
            num_synthetic=len(mixed.synthetic),
        )

    def progress(self, epoch: Epoch, seconds: float, *, is_found: bool = False) -> Progress:
        """How far a training is at the end of an epoch, for which it took so many seconds."""
        assert epoch.validation_accuracy is not None
        percent = 100 * epoch.step // self.arm.num_steps
        return Progress(percent, epoch.validation_accuracy, seconds, is_found)

    def replay(self, record: TrialRecord) -> Iterator[Progress | Score]:
        """What the training of a record said while it ran: the others are compared with that."""
        score = self.score(record)
        for epoch in record.history:
            seconds = score.seconds * epoch.step / record.num_steps
            yield self.progress(epoch, seconds, is_found=True)
        yield score

    def recorded(self, seed: int) -> TrialRecord | None:
        """The record of the training with this seed, if it is done."""
        store, name = Store(self.root), record_name(self.arm.fingerprint, seed)
        return TrialRecord.model_validate_json(store.get(name)) if store.exists(name) else None


def prepare_trial(spec: TuneSpec, root: str, data: RealData, images: str | None) -> Prepared:
    """Open and mix a trial's images.

    Args:
        spec: with the trial's configuration in it.
        root: of the search, an absolute path or URL.
        data: the real images.
        images: root of its synthetic images; None: it takes none.

    Raises:
        SpecError: if the images do not fit.
    """
    comparison = as_comparison(spec, images)
    sources = open_sources(spec, data, images)
    arm = prepare_arms(comparison, sources)[ARM]
    return Prepared(comparison, f"{root}/{SEARCH_FOLDER}", sources, arm)


def train(
    spec: TuneSpec, root: str, data: RealData, images: str | None, seed: int
) -> Iterator[Progress | Score]:
    """Train one classifier; of one that is done, say again what it said.

    Args:
        spec: with the trial's configuration in it.
        root: of the search, an absolute path or URL.
        data: the real images.
        images: root of its synthetic images; None: it takes none.
        seed: number of the training, from 0.

    Yields:
        How far it is, after each epoch; then its score.

    Raises:
        TrainingFailed: if the loss is no finite number.
        SpecError: if the images do not fit, or this machine does not see the driver's root.
    """
    prepared = prepare_trial(spec, root, data, images)
    record = prepared.recorded(seed)
    if record is not None:
        yield from prepared.replay(record)
        return
    trial = Trial(prepared.comparison, prepared.root, prepared.sources, {ARM: prepared.arm})
    started = time.monotonic()
    for row in trial.follow(ARM, seed, pick_device()):
        if isinstance(row, TrialRecord):
            yield prepared.score(row)
        else:
            yield prepared.progress(row, time.monotonic() - started)
