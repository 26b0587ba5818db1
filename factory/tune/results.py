"""What a search leaves behind: every trial, the confirmed ones, the chosen one and its test."""

from typing import Any

from factory.classify.results import Verdict
from factory.metrics.evidence import Interval
from factory.records import Device
from factory.sources.summary import SourceSummary
from factory.spec import Frozen

CHOSEN_GENERATE = "chosen/generate.yaml"
"""Spec of the chosen dataset, for jobs/generate.py."""
CHOSEN_CLASSIFY = "chosen/classify.yaml"
"""Spec of the final comparison, for jobs/classify.py."""
REAL_ARM, DEFAULT_ARM, CHOSEN_ARM = "real", "default mix", "chosen mix"


class TrialResult(Frozen):
    """One configuration that was tried."""

    number: int
    """From 1, in the order of the search."""
    config: dict[str, Any]
    """Path of a spec field -> its value."""
    accuracy: float
    """On the validation images: mean over its trainings, or the last that was seen of one that
    was stopped."""
    accuracies: tuple[float, ...]
    """Of each finished training."""
    percent: int
    """Of its training that was done: 100, or less where the scheduler stopped it."""
    dataset: str | None
    """Fingerprint of the dataset that it took images of."""
    num_real: int
    """Real images in its mix; 0 where it was stopped."""
    num_synthetic: int
    training_seconds: float
    """Device time of all its trainings, that of their workers added up."""
    drawing_seconds: float
    """Device time of its synthetic images, as if it had had them drawn for itself."""
    cost: float | None
    """Of both, at the prices in `resources`; None where one is missing."""

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to the end."""
        return bool(self.accuracies)


class ConfirmedTrial(Frozen):
    """One of the best, trained again with fresh seeds."""

    number: int
    """Of the trial."""
    config: dict[str, Any]
    accuracies: tuple[float, ...]
    """On the validation images, of the fresh seeds alone."""
    accuracy: Interval


class DatasetResult(Frozen):
    """Synthetic images that trials shared."""

    fingerprint: str
    config: dict[str, Any]
    """What sets it apart from the other datasets."""
    root: str
    num_images: int
    """That lie there."""
    num_asked: int
    """Sum over the trials that took images of it."""
    device_seconds: float
    """Spent on its images."""
    cost: float | None

    @property
    def cost_per_1000(self) -> float | None:
        """Of 1,000 accepted images."""
        if self.cost is None or not self.num_images:
            return None
        return 1000 * self.cost / self.num_images


class FinalResult(Frozen):
    """The chosen mix on the test images, against real images alone and the default mix."""

    arms: dict[str, Interval]
    """Arm -> top-1 accuracy on the test images."""
    mixes: dict[str, str]
    """Arm -> its training images, in words."""
    against_real: Verdict
    against_default: Verdict | None
    """None where the default mix was chosen, or could not be trained."""
    default_was_chosen: bool
    warnings: tuple[str, ...]
    """What a reader must know before the verdicts."""
    html: str
    """The comparison's own report."""


class TuneReport(Frozen):
    """A search and what it found."""

    root: str
    name: str
    fingerprint: str
    real: SourceSummary
    validation: SourceSummary
    test: SourceSummary
    overlap: int
    """Test images that occur among the real ones, pixel by pixel."""
    network: str
    training: str
    trials: tuple[TrialResult, ...]
    """In the order of the search."""
    confirmed: tuple[ConfirmedTrial, ...]
    """The best first."""
    chosen: dict[str, Any]
    """Path of a spec field -> its value."""
    validation_seen: bool
    """Whether the generator of the chosen images had seen the images that the mix was chosen by, as
    far as is known."""
    final: FinalResult
    datasets: tuple[DatasetResult, ...]
    num_images: int
    """Images in all datasets together."""
    num_images_asked: int
    """Sum over trials of the images that they took."""
    num_there: int
    """Images of all datasets that lay there before this run."""
    num_drawn: int
    """Images that this run drew; where the process that counts them was lost, since then."""
    training_seconds: float
    """Device time of the search's and the confirmation's trainings."""
    drawing_seconds: float
    """Device time of all images."""
    cost: float | None
    """Of both, at the prices in `resources`; None where one is missing."""
    failures: dict[str, str]
    """Number of a trial and its configuration, in words, or a training of the final comparison ->
    why it could not be trained."""
    seconds: float
    """Wall-clock time of this run."""
    device: Device
    """Of the final trainings."""
    versions: dict[str, str]
    chosen_generate: str | None
    """Spec for jobs/generate.py; None if the chosen mix takes no synthetic images."""
    chosen_classify: str
    """Spec for jobs/classify.py."""
    html: str
