"""What in a report is worth a picture or a sentence: its classes, its series, its worst cases."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from factory.evaluate.results import (
    DatasetResult,
    Estimate,
    EvaluateReport,
    ExtractorResult,
    Likeness,
)

MOST_COMPARED = 20
"""Classes that are compared in a picture."""
NUM_PAIRS = 10
"""Most pairs of near images that are found and shown of a dataset."""
_ALIKE = 1.1
"""Ratio of numbers of images up to which they count as equal."""
KERNEL_DISTANCE = "kernel distance \u00d710\u00b3"
"""What charts call it; see `in_thousandths`."""

_Measured = Callable[[DatasetResult], Estimate | None]


class Curve(NamedTuple):
    """One measurement over the number that the datasets of a series differ in."""

    title: str
    is_share: bool
    lines: dict[str, dict[float, Estimate]]
    """What is measured -> number -> value, in order; where there is one line its name is empty."""
    levels: dict[str, Estimate]
    """The same of held-out real images; empty where there are none."""


def class_names(report: EvaluateReport) -> tuple[str, ...]:
    """Classes in label order; empty where labels are not looked at."""
    return tuple(report.real.class_counts) if report.classifier else ()


def synthetic_datasets(report: EvaluateReport) -> dict[str, DatasetResult]:
    """The datasets without the held-out real images."""
    return {name: found for name, found in report.datasets.items() if not found.is_real}


def held_out_of(report: EvaluateReport) -> DatasetResult | None:
    """The held-out real images, as if they were synthetic."""
    return None if report.held_out is None else report.datasets[report.held_out]


def first_extractor(dataset: DatasetResult) -> ExtractorResult:
    """What precision, recall and classes are measured by."""
    return next(iter(dataset.extractors.values()))


def overall(dataset: DatasetResult) -> Likeness:
    """All images of the dataset, by the first extractor."""
    return first_extractor(dataset).overall


def are_equally_many(*counts: int) -> bool:
    """Whether sets of so many images can be compared by what depends on their number: Fréchet
    distances, precision and recall."""
    return max(counts) <= _ALIKE * min(counts)


def most_missed_classes(report: EvaluateReport) -> list[str]:
    """The classes of which some synthetic dataset shows least, by recall, in label order."""
    names = class_names(report)
    recalls = {name: min(_recalls(report, name), default=1.0) for name in names}
    most = sorted(names, key=lambda name: recalls[name])[:MOST_COMPARED]
    return [name for name in names if name in most]


def most_missed_class(report: EvaluateReport) -> str | None:
    """The first of them: the first class if no recall is known; None if there are no labels."""
    names = class_names(report)
    return min(names, key=lambda name: min(_recalls(report, name), default=1.0), default=None)


def detection_domains(report: EvaluateReport) -> list[str]:
    """What was looked at to tell some dataset from the real images."""
    names = (name for dataset in report.datasets.values() for name in dataset.detection)
    return list(dict.fromkeys(names))


def biased_classes(report: EvaluateReport) -> list[str]:
    """Classes with too few images, real or of some dataset, for a Fréchet distance."""
    measured = [first_extractor(dataset).per_class for dataset in report.datasets.values()]
    return [
        name
        for name in class_names(report)
        if any(name in found and found[name].is_biased for found in measured)
    ]


def has_limit(report: EvaluateReport) -> bool:
    """Whether a Fréchet distance anywhere has its estimate for endlessly many images."""
    return any(
        found.frechet_limit is not None and not found.is_biased
        for dataset in report.datasets.values()
        for extractor in dataset.extractors.values()
        for found in (extractor.overall, *extractor.per_class.values())
    )


def series_curves(report: EvaluateReport) -> list[Curve]:
    """All that was measured in two or more datasets of the series; empty if there is none."""
    if report.series is None:
        return []
    one = next(iter(report.datasets.values()))
    measured: list[tuple[str, bool, dict[str, _Measured]]] = []
    for label, extractor in one.extractors.items():
        measured += _distances(label, extractor.frechet_name, is_only=len(one.extractors) == 1)
    measured += [
        ("precision", True, {"": lambda found: _exact(overall(found).precision)}),
        ("recall", True, {"": lambda found: _exact(overall(found).recall)}),
        ("agreement with the classifier", True, {"": _agreement}),
        ("output entropy (nats)", False, {"": _entropy}),
        ("told apart from real images", True, _accuracies(report)),
    ]
    curves = [_curve(report, title, is_share, lines) for title, is_share, lines in measured]
    return [curve for curve in curves if any(len(line) > 1 for line in curve.lines.values())]


def by_value(report: EvaluateReport) -> list[tuple[float, DatasetResult]]:
    """The datasets of the series in order of their number."""
    assert report.series is not None
    pairs = [(number, report.datasets[name]) for name, number in report.series.values.items()]
    return sorted(pairs, key=lambda pair: pair[0])


def in_thousandths(distance: Estimate) -> Estimate:
    """A kernel distance as it is shown, times 1,000: it is small."""
    low, high = distance.low, distance.high
    return Estimate(
        value=1_000 * distance.value,
        low=None if low is None else 1_000 * low,
        high=None if high is None else 1_000 * high,
    )


def _recalls(report: EvaluateReport, class_name: str) -> Iterator[float]:
    for dataset in synthetic_datasets(report).values():
        found = first_extractor(dataset).per_class.get(class_name)
        if found is not None and found.recall is not None:
            yield found.recall


def _curve(
    report: EvaluateReport, title: str, is_share: bool, lines: dict[str, _Measured]
) -> Curve:
    datasets, held_out = by_value(report), held_out_of(report)
    found = {
        name: {number: value for number, own in datasets if (value := measure(own)) is not None}
        for name, measure in lines.items()
    }
    levels = {
        name: value
        for name, measure in lines.items()
        if held_out is not None and (value := measure(held_out)) is not None
    }
    return Curve(title, is_share, found, levels)


def _distances(
    label: str, frechet_name: str, *, is_only: bool
) -> list[tuple[str, bool, dict[str, _Measured]]]:
    kernel_name = KERNEL_DISTANCE + ("" if is_only else f" ({label})")

    def frechet(found: DatasetResult) -> Estimate | None:
        return _exact(found.extractors[label].overall.frechet_distance)

    def kernel(found: DatasetResult) -> Estimate | None:
        distance = found.extractors[label].overall.kernel_distance
        return None if distance is None else in_thousandths(distance)

    return [(frechet_name, False, {"": frechet}), (kernel_name, False, {"": kernel})]


def _accuracies(report: EvaluateReport) -> dict[str, _Measured]:
    def measured_in(domain: str) -> _Measured:
        return lambda found: found.detection[domain].accuracy if domain in found.detection else None

    return {name: measured_in(name) for name in detection_domains(report)}


def _exact(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value=value)


def _agreement(found: DatasetResult) -> Estimate | None:
    return None if found.classifier is None else found.classifier.agreement


def _entropy(found: DatasetResult) -> Estimate | None:
    return None if found.classifier is None else found.classifier.entropy
