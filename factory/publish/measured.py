"""What was measured of a root: the reports of evaluate and classify, read as a card needs them.

A report counts for a root only if the root, opened as the report's own spec opened its dataset,
holds the very images that the report says it measured.
"""

import hashlib
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from factory.metrics.evidence import Comparison, Interval
from factory.pages.folder import REPORT_NAME
from factory.records import ASKED_NAME, read_root
from factory.sources.open import open_source
from factory.sources.parts import align
from factory.sources.summary import SourceSummary
from factory.spec import Arm, SourceSpec, SpecError
from factory.store import Store


class _Part(BaseModel):
    """A part of another stage's JSON: what it holds beyond these fields is not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Part):
    """A measured value and its interval; None where there are too few images for one."""

    value: float
    low: float | None = None
    high: float | None = None


class Likeness(_Part):
    """How alike a dataset and the real images are in the features of one extractor."""

    frechet_distance: float | None
    is_biased: bool
    """Whether the images are too few for a Fréchet distance."""
    kernel_distance: Estimate | None
    precision: float | None
    recall: float | None


class ExtractorResult(_Part):
    """A dataset against the real images, in the features of one extractor."""

    extractor: str
    frechet_name: str
    overall: Likeness


class ClassifierResult(_Part):
    """What a classifier of real images sees in a dataset."""

    agreement: Estimate
    per_class_agreement: dict[str, Estimate]


class DetectionResult(_Part):
    """Whether a linear classifier can tell a dataset from the real images."""

    accuracy: Estimate


class Memorisation(_Part):
    """Whether images are copies of what the generator has seen."""

    verdict: Literal["copies", "no evidence", "not checked"]
    reason: str
    """Why it was not checked."""
    extractor: str
    num_exact: int
    """Images with the very pixels of a training image, or of its mirror image."""
    share: Estimate | None
    """Of images that lie suspiciously near to one that the generator has seen."""
    expected: float
    """The same share of images that nobody has copied."""
    limit: float | None
    """Largest share for which the verdict is "no evidence"."""
    num_held_out: int


class Measured(_Part):
    """All measurements of one dataset."""

    source: SourceSummary
    extractors: dict[str, ExtractorResult]
    classifier: ClassifierResult | None
    detection: dict[str, DetectionResult]
    memorisation: Memorisation | None

    @property
    def likeness(self) -> Likeness:
        """By the first extractor, which measures precision and recall."""
        return next(iter(self.extractors.values())).overall


class _EvaluateReport(_Part):
    real: SourceSummary
    held_out: str | None
    datasets: dict[str, Measured]
    classifier: str
    warnings: tuple[str, ...]
    confidence: float


class Evaluation(_Part):
    """What jobs/evaluate.py measured of a root."""

    report_sha256: str
    """Of report.json."""
    real: SourceSummary
    """What the images were compared with."""
    found: Measured
    held_out: Measured | None
    """Real images that no generator has seen, measured as if they were synthetic."""
    classifier: str
    """What looked at the images, in words; empty where labels were not looked at."""
    warnings: tuple[str, ...]
    confidence: float


class ArmResult(_Part):
    """Classifiers that were trained on one mix."""

    mix: str
    """In words."""
    arm: Arm
    real_counts: dict[str, int]
    synthetic_counts: dict[str, int]
    top1: Interval


class Verdict(_Part):
    """Whether an arm is better than the baseline on the test images."""

    arm: str
    baseline: str
    overall: Comparison
    leakage: str
    """What the generator had seen, against what the arm has."""


class _ClassifyReport(_Part):
    network: str
    training: str
    test: SourceSummary
    synthetic: dict[str, SourceSummary]
    arms: dict[str, ArmResult]
    baseline: str
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    confidence: float


class Classification(_Part):
    """What jobs/classify.py found that a root is worth as training images."""

    report_sha256: str
    """Of report.json."""
    network: str
    training: str
    test: SourceSummary
    arms: dict[str, ArmResult]
    """Those with this root's images, and those without synthetic ones."""
    verdicts: tuple[Verdict, ...]
    """On the arms with this root's images."""
    baseline: str
    """The arm that they are compared with."""
    warnings: tuple[str, ...]
    confidence: float


class _Asked(_Part):
    synthetic: dict[str, SourceSpec]


_PartT = TypeVar("_PartT", bound=_Part)


def find_evaluation(folder: str, root: str) -> Evaluation | None:
    """What jobs/evaluate.py measured of a root; None if its results are of other images.

    Args:
        folder: results of the job.
        root: absolute path or URL of the dataset.

    Raises:
        SpecError: if the results cannot be read.
    """
    report, asked, digest = _read(_EvaluateReport, folder, field="evaluate")
    summaries = {name: found.source for name, found in report.datasets.items()}
    names = _names_of(root, asked, summaries)
    if not names:
        return None
    held_out = None if report.held_out is None else report.datasets[report.held_out]
    fields = report.model_dump(include={"classifier", "warnings", "confidence"})
    return Evaluation(
        report_sha256=digest,
        real=report.real,
        found=report.datasets[names[0]],
        held_out=held_out,
        **fields,
    )


def find_classification(folder: str, root: str) -> Classification | None:
    """What jobs/classify.py found of a root; None if its results are of other images.

    Args:
        folder: results of the job.
        root: absolute path or URL of the dataset.

    Raises:
        SpecError: if the results cannot be read.
    """
    report, asked, digest = _read(_ClassifyReport, folder, field="classify")
    names = _names_of(root, asked, report.synthetic, is_prefix=True)
    with_root = {
        name
        for name, result in report.arms.items()
        if any(result.synthetic_counts.values())
        and (result.arm.synthetic or next(iter(report.synthetic))) in names
    }
    if not with_root:
        return None
    arms = {
        name: result
        for name, result in report.arms.items()
        if name in with_root or not any(result.synthetic_counts.values())
    } | {report.baseline: report.arms[report.baseline]}
    fields = report.model_dump(
        include={"network", "training", "baseline", "warnings", "confidence"}
    )
    return Classification(
        report_sha256=digest,
        test=report.test,
        arms={name: result for name, result in report.arms.items() if name in arms},
        verdicts=tuple(verdict for verdict in report.verdicts if verdict.arm in with_root),
        **fields,
    )


def _read(part: type[_PartT], folder: str, *, field: str) -> tuple[_PartT, _Asked, str]:
    store = Store(folder)
    remedy = f"give the --root of a finished jobs/{field}.py, or run it again"
    try:
        data, asked = store.get(REPORT_NAME), store.get(ASKED_NAME)
    except FileNotFoundError:
        raise SpecError(f"{field}: {store.url} lacks {_lacking(store)}; {remedy}") from None
    try:
        report = part.model_validate_json(data)
        return report, _Asked.model_validate_json(asked), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        is_other = first["type"] == "missing"
        why = (
            f"another job's: it lacks {place}" if is_other else f"{place or 'file'}: {first['msg']}"
        )
        raise SpecError(
            f"{field}: {store.url} holds no report of jobs/{field}.py ({why}); {remedy}"
        ) from None


def _lacking(store: Store) -> str:
    return " and ".join(name for name in (REPORT_NAME, ASKED_NAME) if not store.exists(name))


def _names_of(
    root: str, asked: _Asked, summaries: dict[str, SourceSummary], *, is_prefix: bool = False
) -> list[str]:
    """What a report calls the root, the name with most of its images first."""
    own_name = read_root(Store(root)).identity["name"]
    names = [
        name
        for name, spec in asked.synthetic.items()
        if name in summaries and summaries[name].name == own_name
        if _is_same(root, spec, summaries[name], is_prefix=is_prefix)
    ]
    return sorted(names, key=lambda name: -summaries[name].num_images)


def _is_same(root: str, asked: SourceSpec, summary: SourceSummary, *, is_prefix: bool) -> bool:
    counts = summary.class_counts
    as_asked = asked.model_copy(update={"path": root, "revision": None})
    try:
        # classify reads the first images of each class, and no more than it needs.
        source = open_source(as_asked, images_per_class=counts if is_prefix else None)
        if sorted(source.class_names) == sorted(counts):
            source = align(source, tuple(counts))
    except SpecError:
        return False
    return source.digest == summary.digest
