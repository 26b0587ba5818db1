"""What a training run leaves behind: rows of its curve, and its report."""

from factory.records import Device
from factory.spec import Frozen

HISTORY_NAME = "history.jsonl"
REPORT_NAME = "report.json"
MODEL_FOLDER = "model"


class Verdict(Frozen):
    """How the model of one moment was judged."""

    images: int
    """Training images it had seen."""
    frechet_distance: float
    """Between drawn and held-out real images, in the judging classifier's features."""
    agreement: float
    """Share of drawn images in which the classifier sees the class that was asked for."""
    num_samples: int
    images_per_second: float
    """Speed of the sampler."""


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
    num_parameters: int
    loss: float
    """Mean loss of the last row."""
    kept: Verdict
    """The checkpoint that was kept: the one with the lowest distance."""
    referee: Referee
    training_seconds: float
    images_per_second: float
    """Training speed."""
    num_workers: int
    device: Device
    skipped: bool = False
    """Whether the root held this very model already."""
