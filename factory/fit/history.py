"""What a training run leaves behind: rows of its curve, and its report."""

from collections.abc import Sequence
from typing import Literal

from factory.records import Device
from factory.spec import Frozen

HISTORY_NAME = "history.jsonl"
LOSS_NAME = "loss.png"
REPORT_NAME = "report.json"
MODEL_FOLDER = "model"


class Verdict(Frozen):
    """How the model of one moment was judged."""

    images: int
    """Training images it had seen."""
    validation_loss: float
    """Mean loss on the held-out images, with the same noise at every checkpoint of a run."""
    frechet_distance: float
    """Between drawn and held-out real images, in the judging classifier's features."""
    num_samples: int
    images_per_second: float
    """Speed of the sampler."""
    agreement: float | None = None
    """Share of drawn images in which the classifier sees the class that was asked for; None of an
    unconditional model."""


class Row(Frozen):
    """One line of the history."""

    images: int
    """Training images seen."""
    loss: float
    """Mean loss since the row before."""
    learning_rate: float
    seconds: float
    """Time spent in optimizer steps so far."""
    verdict: Verdict | None = None
    """At a checkpoint: how the model was judged."""


def verdicts_of(history: Sequence[Row]) -> list[Verdict]:
    """Those of the checkpoints, in the order of the run."""
    return [row.verdict for row in history if row.verdict]


def out_of_patience(history: Sequence[Row], patience: int | None) -> bool:
    """Whether `patience` checkpoints in a row were without a lower validation loss."""
    verdicts = verdicts_of(history)
    if patience is None or not verdicts:
        return False
    return len(verdicts) - 1 - verdicts.index(lowest_loss(verdicts)) >= patience


def lowest_loss(verdicts: Sequence[Verdict]) -> Verdict:
    """The checkpoint with the lowest validation loss, the first of equals."""
    return min(verdicts, key=lambda verdict: verdict.validation_loss)


def best_sample(verdicts: Sequence[Verdict]) -> Verdict:
    """The checkpoint with the lowest Frechet distance, the first of equals."""
    return min(verdicts, key=lambda verdict: verdict.frechet_distance)


def kept_of(
    verdicts: Sequence[Verdict], keep: Literal["best_sample", "lowest_loss", "last"]
) -> Verdict:
    """The checkpoint that is kept, as `metric.keep` says."""
    match keep:
        case "best_sample":
            return best_sample(verdicts)
        case "lowest_loss":
            return lowest_loss(verdicts)
        case "last":
            return verdicts[-1]


class Referee(Frozen):
    """What the judging classifier is worth."""

    accuracy: float
    """On the held-out real images."""
    real_distance: float
    """Frechet distance between as many real training images as are drawn and the held-out ones:
    what a perfect model would score."""
    held_out: str
    """Name and split of the held-out images."""
    num_held_out: int


class FitReport(Frozen):
    """A trained model and how it was judged."""

    root: str
    model: str
    """Folder of the model, as `generator.model` takes it."""
    fingerprint: str
    source: str
    source_digest: str
    num_source_images: int
    num_images: int
    """Training images seen in all."""
    stopped_early: bool
    """Whether the validation loss ended the run before its length."""
    num_parameters: int
    loss: float
    """Mean loss of the last row."""
    kept: Verdict
    """The checkpoint that became the model."""
    best_sample: Verdict
    """The checkpoint with the lowest Frechet distance."""
    lowest_loss: Verdict
    """The checkpoint with the lowest validation loss."""
    referee: Referee
    training_seconds: float
    images_per_second: float
    """Training speed."""
    num_workers: int
    device: Device
    skipped: bool = False
    """Whether the root held this very model already."""
