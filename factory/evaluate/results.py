"""What an evaluation leaves behind: measurements of each dataset, and the report."""

from typing import Literal

from factory.records import Device
from factory.sources.summary import SourceSummary
from factory.spec import Frozen, Series


class Estimate(Frozen):
    """A measured value, and where it would lie if all were done again."""

    value: float
    low: float | None = None
    """None where there are too few images to tell."""
    high: float | None = None


class Likeness(Frozen):
    """How alike two sets of images are in the features of one extractor."""

    num_real: int
    num_images: int
    frechet_distance: float | None
    """None where either side has a single image."""
    frechet_limit: float | None
    """Estimate of the distance at infinitely many images; None where they are too few for one."""
    is_biased: bool
    """Whether either side has no more images than there are features: the Fréchet distance is then
    mostly their number's, and can be compared only between sets of equal numbers."""
    kernel_distance: Estimate | None
    """Unbiased squared maximum mean discrepancy; None where either side has a single image."""
    precision: float | None
    """Share of the images that lie within the real ones' neighbourhoods; None: too few images."""
    recall: float | None
    """Share of the real images that lie within the synthetic ones' neighbourhoods."""


class ExtractorResult(Frozen):
    """A dataset against the real images, in the features of one extractor."""

    extractor: str
    """Its label, e.g. "efficientnet_lite0"."""
    frechet_name: str
    """"FID" of the published network and preprocessing, else "Fréchet distance (extractor)"."""
    num_features: int
    overall: Likeness
    per_class: dict[str, Likeness]
    """Empty where labels are not looked at, and for all extractors but the first."""


class ClassifierResult(Frozen):
    """What a classifier of real images sees in a dataset."""

    agreement: Estimate
    """Share of images that it sees as the class they are labelled with."""
    entropy: Estimate
    """Mean entropy of its output for an image, in nats (yamaguchi2024, Eq. 4)."""
    per_class_agreement: dict[str, Estimate]


class DetectionResult(Frozen):
    """Whether a linear classifier can tell a dataset from the real images."""

    domain: Literal["pixel", "dct"]
    accuracy: Estimate
    """On images that it has not seen, as many real as synthetic: 0.5 is chance."""
    num_train: int
    """Images of either side."""
    num_test: int
    """Images of either side."""


class Pair(Frozen):
    """A synthetic image and the seen one that it lies nearest to."""

    image: int
    """Place in the dataset."""
    real: int
    """Place among the images that the generator has seen."""
    is_mirrored: bool
    """Whether it is the real image's mirror image that is near."""
    score: float
    """Distance to it over the mean distance to the nearest ten: 0 of a copy, 1 of an image like any
    other."""


class MemorisationResult(Frozen):
    """Whether images are copies of what the generator has seen."""

    verdict: Literal["copies", "no evidence", "not checked"]
    reason: str
    """Why it was not checked; empty where it was."""
    extractor: str
    num_exact: int
    """Images with the very pixels of a training image, or of its mirror image."""
    share: Estimate | None
    """Of images whose score is below `threshold`; None: not checked."""
    expected: float
    """Share of images that nobody has copied that is below it, on average."""
    limit: float | None
    """Largest share for which the verdict is "no evidence"."""
    threshold: float | None
    """Score that `memorisation.quantile` of the held-out images are below."""
    num_held_out: int
    """Held-out images that it was calibrated by."""
    num_shared: int
    """Held-out images that were left out: the generator has seen them, or their mirror images."""
    pairs: tuple[Pair, ...]
    """The nearest ones, nearest first. There whether or not it could be checked."""


class StatisticResult(Frozen):
    """A simple number of images, and how it differs from that of the real ones."""

    mean: Estimate
    difference: Estimate
    """Dataset minus real."""


class DatasetResult(Frozen):
    """All measurements of one dataset."""

    name: str
    is_real: bool
    """Whether these are the held-out real images, measured as if they were synthetic."""
    source: SourceSummary
    extractors: dict[str, ExtractorResult]
    classifier: ClassifierResult | None
    """None where labels are not looked at."""
    detection: dict[str, DetectionResult]
    """Domain -> result; a domain for which there are too few images, or too few different ones, is
    missing."""
    memorisation: MemorisationResult | None
    """None where it was not asked for, and of the held-out images."""
    statistics: dict[str, StatisticResult]


class EvaluateReport(Frozen):
    """Datasets side by side against one set of real images."""

    root: str
    name: str
    real: SourceSummary
    held_out: str | None
    """Name of the row of held-out real images in `datasets`."""
    datasets: dict[str, DatasetResult]
    """Held-out real images first, then the synthetic ones as asked."""
    series: Series | None
    classifier: str
    """What looked at the images, in words; empty where labels are not looked at. Its agreement with
    the held-out images stands in their row of `datasets`."""
    warnings: tuple[str, ...]
    """What makes the numbers worth less than they look."""
    confidence: float
    num_extracted: int
    """Looks of a network at an image that this run computed."""
    num_cached: int
    """Looks that were there."""
    seconds: float
    device: Device
    versions: dict[str, str]
    html: str
    """Where the report for people lies."""


class EvaluateDryRun(Frozen):
    """What an evaluation would measure, and how far it is."""

    root: str
    asked: dict[str, object]
    real: SourceSummary
    datasets: dict[str, SourceSummary]
    extractors: tuple[str, ...]
    num_images: int
    """Looks to take: images times networks."""
    num_pending: int
    """Looks that are not there yet."""
    warnings: tuple[str, ...]
    """What the report will not be able to say, and why."""
