"""Measurements in sentences that a reader of the report understands.

What is low or far is never said of a number alone: it is measured against the held-out real images,
which show what perfect images would reach.
"""

import math

from factory.evaluate.findings import (
    KERNEL_DISTANCE,
    are_equally_many,
    class_names,
    first_extractor,
    held_out_of,
    in_thousandths,
    overall,
    synthetic_datasets,
)
from factory.evaluate.results import (
    DatasetResult,
    DetectionResult,
    Estimate,
    EvaluateReport,
    Likeness,
    MemorisationResult,
)
from factory.pages.page import percent_in_words

REACHED = 0.9
"""Share of the held-out images' precision or recall from which on it counts as reached."""
FEW_IMAGES = 250
"""With fewer of them the headline says so: chance alone moves a share of 80 % by 5 percentage
points (two standard errors)."""
WEAK_CLASSIFIER = 0.5
"""Agreement with the labels of held-out real images, below which a classifier judges nothing."""

_FAR = "farther from the real images than held-out real ones are"
_NEAR = "as near to the real images as held-out real ones are"
_COVERED = "they look right and show the variety of real ones"
_SPACE = "\u00a0"
_HELD_OUT = "held-out real images"
_DOMAINS = {"pixel": "their pixels", "dct": "their frequencies (DCT)"}


def answers(report: EvaluateReport) -> dict[str, list[DatasetResult]]:
    """Headline -> the synthetic datasets that it is true of."""
    found: dict[str, list[DatasetResult]] = {}
    for dataset in synthetic_datasets(report).values():
        found.setdefault(headline(report, dataset), []).append(dataset)
    return found


def headline(report: EvaluateReport, dataset: DatasetResult) -> str:
    """The answer for a dataset in one sentence, without its name and the full stop."""
    held_out, found = held_out_of(report), overall(dataset)
    reference = None if held_out is None else overall(held_out)
    words = [_closeness(found, reference)]
    memorised = dataset.memorisation
    if memorised is not None and (memorised.verdict == "copies" or memorised.num_exact):
        words.append("copies of real images are among them")
    said = "; ".join(word for word in words if word)
    if not said:
        return "the numbers alone do not say how close"
    return f"{_reservation(found, reference)}{said}"


def answer_lines(report: EvaluateReport, dataset: DatasetResult) -> list[str]:
    """What was measured of a dataset, one sentence each, beside held-out real images."""
    held_out = held_out_of(report)
    memorised = dataset.memorisation
    lines = [
        _shares_line(dataset, held_out),
        _detection_line(report, dataset, held_out),
        f"{copies_in_words(report, memorised)}." if memorised is not None else "",
        _classifier_line(report, dataset, held_out),
        _kernel_line(report, dataset, held_out),
        _frechet_line(dataset, held_out),
    ]
    return [line for line in lines if line]


def copies_in_words(report: EvaluateReport, found: MemorisationResult) -> str:
    """What is known of copies, e.g. "No evidence of copies: ..."."""
    words = _suspicion(report, found)
    if found.num_exact:
        words += (
            f"; {_images(found.num_exact)} with the very pixels of a real one, or of its mirror "
            "image"
        )
    return words


def _suspicion(report: EvaluateReport, found: MemorisationResult) -> str:
    if found.verdict == "not checked" or found.share is None:
        return f"Not checked for copies: {found.reason}"
    found_words = "Copies found" if found.verdict == "copies" else "No evidence of copies"
    without = f", without {found.num_shared:,} that it has seen" if found.num_shared else ""
    return (
        f"{found_words}: {estimate_in_percent(found.share, report.confidence)} of the images lie "
        f"suspiciously near to one that the generator has seen; {percent_in_words(found.expected)} "
        f"would by chance, and up to {percent_in_words(found.limit or 0.0)} are no evidence "
        f"({found.num_held_out:,} held-out images{without})"
    )


def number(value: float) -> str:
    """With three digits that count, e.g. "1,280", "41.2", "0.031"."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}".replace("-", "\u2212")


def signed(difference: float) -> str:
    """A number with its sign, e.g. "+12.3"."""
    words = number(difference)
    return words if words.startswith("\u2212") else f"+{words}"


def number_range(found: Estimate) -> str:
    """The interval of a number, e.g. "11.8 to 12.9"; empty if it has none."""
    if found.low is None or found.high is None:
        return ""
    return f"{number(found.low)} to {number(found.high)}"


def percentage_range(found: Estimate) -> str:
    """The interval of a fraction, e.g. "84.1 to 86.7"; empty if it has none."""
    if found.low is None or found.high is None:
        return ""
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def estimate_in_words(found: Estimate, confidence: float) -> str:
    """E.g. "12.3 (95 % interval 11.8 to 12.9)"."""
    return number(found.value) + _around(number_range(found), confidence)


def estimate_in_percent(found: Estimate, confidence: float) -> str:
    """E.g. "85.4 % (95 % interval 84.1 to 86.7)"."""
    return percent_in_words(found.value) + _around(percentage_range(found), confidence)


def _around(interval: str, confidence: float) -> str:
    return f" ({100 * confidence:g}{_SPACE}% interval {interval})" if interval else ""


def _closeness(found: Likeness, reference: Likeness | None) -> str:
    """Distance and coverage as one finding, which does not call near what lacks something."""
    near, covered = _nearness(found, reference), _coverage(found, reference)
    if near == _NEAR and covered and covered != _COVERED:
        return covered
    if near == _FAR and covered == _COVERED:
        return f"{near}, though {covered}"
    return "; ".join(word for word in (near, covered) if word)


def _reservation(found: Likeness, reference: Likeness | None) -> str:
    """What a headline of few images begins with."""
    counts = {"images": found.num_images, "real images": found.num_real}
    if reference is not None:
        counts[_HELD_OUT] = reference.num_images
    fewest = min(counts, key=lambda name: counts[name])
    return f"as far as {counts[fewest]:,} {fewest} tell, " if counts[fewest] < FEW_IMAGES else ""


def _nearness(found: Likeness, reference: Likeness | None) -> str:
    """By the kernel distance, which can be compared whatever the numbers of images."""
    own = found.kernel_distance
    if own is None or own.low is None or own.high is None:
        return ""
    if reference is None:
        return "farther from the real images than chance explains" if own.low > 0 else ""
    other = reference.kernel_distance
    if other is None or other.low is None or other.high is None:
        return ""
    if own.low > other.high:
        return _FAR
    if own.high < other.low:
        return "nearer to the real images than held-out real ones are, as copies would be"
    return _NEAR


def _coverage(found: Likeness, reference: Likeness | None) -> str:
    """By precision and recall, which can be compared between equal numbers of images only."""
    if reference is None or not are_equally_many(found.num_images, reference.num_images):
        return ""
    is_right = _reaches(found.precision, reference.precision)
    is_varied = _reaches(found.recall, reference.recall)
    match is_right, is_varied:
        case True, True:
            return _COVERED
        case True, False:
            return "they look right but miss part of the variety"
        case False, True:
            return "they show the variety, but some look like no real image"
        case False, False:
            return "some look like no real image, and part of the variety is missing"
        case _:
            return ""


def _reaches(share: float | None, reference: float | None) -> bool | None:
    return None if share is None or reference is None else share >= REACHED * reference


def _frechet_line(dataset: DatasetResult, held_out: DatasetResult | None) -> str:
    first = first_extractor(dataset)
    found, reference = first.overall, None if held_out is None else overall(held_out)
    if found.frechet_distance is None:
        return ""
    words = f"{first.frechet_name}, another such distance: {number(found.frechet_distance)}"
    if reference is not None and reference.frechet_distance is not None:
        words += f" ({_HELD_OUT}: {number(reference.frechet_distance)})"
    words += f", of {found.num_images:,} images against {found.num_real:,} real ones"
    if found.is_biased:
        return (
            f"{words}: too few for {first.num_features:,} features, so that this is mostly a "
            "matter of their number, and the kernel distance counts."
        )
    if found.frechet_limit is not None:
        words += f"; endlessly many would have about {number(found.frechet_limit)}"
        if reference is not None and reference.frechet_limit is not None:
            words += f" ({number(reference.frechet_limit)})"
    return f"{words}."


def _kernel_line(
    report: EvaluateReport, dataset: DatasetResult, held_out: DatasetResult | None
) -> str:
    own = overall(dataset).kernel_distance
    if own is None:
        return ""
    words = (
        f"{KERNEL_DISTANCE.capitalize()}, how far apart the sets lie in what a network sees, times "
        "1,000 (0 but for chance where they are alike): "
    )
    words += estimate_in_words(in_thousandths(own), report.confidence)
    other = None if held_out is None else overall(held_out).kernel_distance
    if other is not None:
        thousandths = in_thousandths(other)
        interval = number_range(thousandths)
        words += f"; {_HELD_OUT}: {number(thousandths.value)}{f' ({interval})' if interval else ''}"
    return f"{words}."


def _shares_line(dataset: DatasetResult, held_out: DatasetResult | None) -> str:
    found = overall(dataset)
    if found.precision is None or found.recall is None:
        return f"Look right, show the variety: {_images(found.num_images)} are too few to say."
    beside = ["", ""]
    reference = None if held_out is None else overall(held_out)
    if reference is not None and reference.precision is not None and reference.recall is not None:
        is_equal = are_equally_many(found.num_images, reference.num_images)
        which = _HELD_OUT if is_equal else f"{reference.num_images:,} {_HELD_OUT}, not comparable"
        beside = [
            f" ({which}: {percent_in_words(reference.precision)})",
            f" ({percent_in_words(reference.recall)})",
        ]
    return (
        f"Look right: {percent_in_words(found.precision)}{beside[0]} lie among real images "
        f"(precision). Show the variety: {percent_in_words(found.recall)}{beside[1]} of the real "
        "images lie among them (recall)."
    )


def _classifier_line(
    report: EvaluateReport, dataset: DatasetResult, held_out: DatasetResult | None
) -> str:
    if dataset.classifier is None:
        return ""
    own = dataset.classifier
    other = None if held_out is None else held_out.classifier
    words = (
        "A classifier of real images sees "
        f"{estimate_in_percent(own.agreement, report.confidence)} "
        "of them as the class they are labelled with"
    )
    entropy = f"it is undecided by {number(own.entropy.value)} nats"
    if other is not None:
        words += f" ({_HELD_OUT}: {percent_in_words(other.agreement.value)})"
        entropy += f" ({number(other.entropy.value)})"
    num_classes = len(class_names(report))
    line = (
        f"{words}; {entropy}, the entropy of its output: 0 if it is sure, "
        f"{number(math.log(num_classes))} if all {num_classes} classes look alike to it."
    )
    if other is not None and other.agreement.value < WEAK_CLASSIFIER:
        line += (
            " It is too often wrong on real images to judge others: give it more of them "
            "(real.num_images), or a better one (classifier)."
        )
    return line


def _detection_line(
    report: EvaluateReport, dataset: DatasetResult, held_out: DatasetResult | None
) -> str:
    if not dataset.detection:
        return ""
    found = max(dataset.detection.values(), key=lambda result: result.accuracy.value)
    accuracy = estimate_in_percent(found.accuracy, report.confidence)
    words = (
        f"{_told_apart(found)}: a linear classifier that sees {_DOMAINS[found.domain]} is right "
        f"on {accuracy} of {found.num_test:,} of them and as many real ones; 50{_SPACE}% is chance"
    )
    other = None if held_out is None else held_out.detection.get(found.domain)
    if other is not None:
        words += f", {_HELD_OUT}: {percent_in_words(other.accuracy.value)}"
    return f"{words}."


def _told_apart(found: DetectionResult) -> str:
    low = found.accuracy.low
    is_clear = low is not None and low > 0.5
    return "Can be told from real ones" if is_clear else "Cannot be told from real ones here"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
