"""What a comparison of arms leaves behind: a record of each training, and the report."""

from factory.metrics.classification import Calibration
from factory.metrics.evidence import Comparison, Interval
from factory.records import Device
from factory.sources.summary import SourceSummary
from factory.spec import Arm, Frozen


class Epoch(Frozen):
    """One row of a learning curve."""

    epoch: int
    """From 1."""
    step: int
    """Optimizer steps so far."""
    learning_rate: float
    """Of the epoch's last step."""
    loss: float
    """Mean over the epoch's steps, label smoothing included."""
    accuracy: float
    """On the augmented training images, while the weights still changed."""
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class TrialRecord(Frozen):
    """The proof that one training is done; written last."""

    fingerprint: str
    arm: str
    trial: int
    """Number of the seed, from 0."""
    predictions: str
    """File in the root: probabilities of the test images, float16 [N, K], as NumPy array."""
    sha256: str
    """Of that file."""
    weights_sha256: str
    """Over all weights of the trained network."""
    top1: float
    num_parameters: int
    num_steps: int
    images_seen: int
    best_epoch: int | None
    """The epoch whose weights were kept, where a validation set chose one."""
    history: tuple[Epoch, ...]
    seconds: float
    """Time in optimizer steps."""
    images_per_second: float
    device: Device


class ArmResult(Frozen):
    """What one arm was made of, and how its classifiers did on the test images."""

    name: str
    mix: str
    """In words, e.g. "all 2,000 real + 500 synthetic a class"."""
    arm: Arm
    fingerprint: str
    """Of its trainings; their files in the root are named by it."""
    real_counts: dict[str, int]
    synthetic_counts: dict[str, int]
    num_steps: int
    images_seen: int
    """Of one training, the longest where validation stopped some early."""
    top1: Interval
    seed_top1: tuple[float, ...]
    """Of each training."""
    macro_f1: Interval
    per_class_accuracy: dict[str, Interval]
    confusion: tuple[tuple[float, ...], ...]
    """Rows: true class; columns: predicted class; shares of the row, mean over seeds."""
    calibration: Calibration
    """Of all seeds' predictions together."""
    curves: tuple[tuple[Epoch, ...], ...]
    """History of each seed."""
    seconds: float
    """Mean training time."""
    images_per_second: float
    """Mean training speed."""

    @property
    def num_images(self) -> int:
        """Training images, repeated ones counted each time."""
        return sum(self.real_counts.values()) + sum(self.synthetic_counts.values())


class Verdict(Frozen):
    """Whether an arm is better than the baseline on the test images."""

    arm: str
    baseline: str
    overall: Comparison
    per_class: dict[str, Comparison]
    f1_difference: Interval
    """Macro F1, arm minus baseline, over the seeds that both have."""
    leakage: str
    """What the generator had seen, against what the arm has."""


class ZeroShotResult(Frozen):
    """A CLIP model's accuracy from class names alone."""

    model: str
    prompt: str
    top1: float
    macro_f1: float
    per_class_accuracy: dict[str, float]


class ClassifyReport(Frozen):
    """Arms side by side, and what that is worth as evidence."""

    root: str
    name: str
    num_parameters: int
    network: str
    """In words, e.g. "resnet18, width 16, small stem, from scratch"."""
    training: str
    """In words, e.g. "20 epochs, batch 128, SGD 0.1, one_cycle, no augmentation"."""
    real: SourceSummary
    test: SourceSummary
    synthetic: dict[str, SourceSummary]
    overlap: dict[str, int]
    """Source -> test images that occur in it, pixel by pixel."""
    arms: dict[str, ArmResult]
    baseline: str
    """The arm that the others are compared with."""
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    """What makes the verdicts worth less than they look."""
    method: str
    """How intervals and verdicts were made."""
    confidence: float
    zero_shot: ZeroShotResult | None
    made: int
    """Trainings done by this run."""
    skipped: int
    """Trainings that were there."""
    failures: dict[str, str]
    """Training -> why it failed."""
    seconds: float
    device: Device
    versions: dict[str, str]
    html: str
    """Where the report for people lies."""


class DryArm(Frozen):
    """What an arm would be made of."""

    mix: str
    real_counts: dict[str, int]
    synthetic_counts: dict[str, int]
    num_steps: int
    images_seen: int
    """Of one training."""
    fingerprint: str


class ClassifyDryRun(Frozen):
    """What a comparison would train, and how far it is."""

    root: str
    asked: dict[str, object]
    real: SourceSummary
    test: SourceSummary
    synthetic: dict[str, SourceSummary]
    overlap: dict[str, int]
    """Source -> test images that occur in it, pixel by pixel."""
    arms: dict[str, DryArm]
    num_trainings: int
    num_pending: int
