"""The tables of a card, line by line."""

import math
from collections.abc import Callable, Iterator, Mapping

from markupsafe import Markup

from factory.metrics.evidence import Comparison
from factory.pages.page import percent_in_words
from factory.publish.facts import Facts
from factory.publish.markdown import code
from factory.publish.measured import Classification, Estimate, Evaluation, Measured
from factory.publish.words import points
from factory.spec import PublishSpec, RealConfig

Row = tuple[object, ...]

_TITLES = {
    "agreement": "a classifier saw another class",
    "confidence": "a classifier saw the class with too little confidence",
    "other class": "a classifier saw none of these classes",
    "not needed": "its class was full already",
    "contrast": "almost blank",
    "duplicate": "like another one",
    "near_real": "too near to a training image",
}
_TOLD_BY = {"pixel": "pixels", "dct": "frequencies"}
_PERCENT = "\u00a0%"

_Measure = Callable[[Measured], str]


def class_rows(facts: Facts) -> list[Row]:
    """Label, class, images, images drawn for each one kept, share that is seen as labelled."""
    evaluation, drawn = facts.evaluation, facts.yields.candidates_by_class
    classifier = evaluation and evaluation.found.classifier
    agreement = classifier.per_class_agreement if classifier else {}
    return [
        (
            label,
            name,
            f"{count:,}",
            f"{drawn[name] / count:.2f}" if name in drawn and count else "",
            percent_in_words(agreement[name].value) if name in agreement else "",
        )
        for label, (name, count) in enumerate(facts.class_counts.items())
    ]


def rejection_rows(facts: Facts) -> list[Row]:
    """Reason, what it means, candidates."""
    rejected = facts.yields.rejected.items()
    return [(reason, _TITLES.get(reason, ""), f"{count:,}") for reason, count in rejected]


def arm_rows(found: Classification) -> list[Row]:
    """Training images in words, real ones, synthetic ones, trainings, accuracy, verdict."""
    verdicts = {verdict.arm: verdict for verdict in found.verdicts}
    rows: list[Row] = []
    for name, arm in found.arms.items():
        accuracy = Estimate(value=arm.top1.mean, low=arm.top1.low, high=arm.top1.high)
        rows.append(
            (
                f"{name}: {arm.mix}",
                f"{sum(arm.real_counts.values()):,}",
                f"{sum(arm.synthetic_counts.values()):,}",
                arm.top1.num_seeds,
                _estimate(accuracy, 100, _PERCENT),
                _verdict(verdicts[name].overall) if name in verdicts else "\u2013",
            )
        )
    return rows


def _verdict(found: Comparison) -> str:
    """E.g. "no evidence: -0.1 points (-0.7 to +0.5); 0.9 would have been found"."""
    gap = found.difference
    words = f"{found.outcome}: {points(gap.mean)} points"
    if gap.low is not None and gap.high is not None:
        words += f" ({_interval(points(gap.low), points(gap.high))})"
    if found.outcome == "no evidence" and found.detectable is not None:
        # Rounded up: what is found at a gap is found at a larger one.
        words += f"; {math.ceil(1000 * found.detectable) / 10:.1f} would have been found"
    return words


def fidelity_rows(evaluation: Evaluation) -> list[Row]:
    """What was measured, of these images, and of held-out real ones."""
    held_out = evaluation.held_out
    return [
        (what, found, "" if held_out is None else measure(held_out))
        for what, measure in _measures(evaluation)
        if (found := measure(evaluation.found))
    ]


def compared_rows(evaluation: Evaluation) -> list[Row]:
    """Images that were compared, their number, and the digest of their content."""
    sources = {"these": evaluation.found.source, "real": evaluation.real}
    if evaluation.held_out is not None:
        sources["real, held out"] = evaluation.held_out.source
    return [
        (f"{kind}: {source.place}", f"{source.num_images:,}", code(source.digest))
        for kind, source in sources.items()
    ]


def licence_rows(facts: Facts, spec: PublishSpec) -> list[Row]:
    """What, and its licence as far as it is known."""
    generator = spec.model_licence or facts.model.licence or "not known"
    rows: list[Row] = [
        ("these images", _licence(spec)),
        (f"the generator, {facts.model.name}", generator),
    ]
    if facts.seen:
        names = " and ".join(seen.name for seen in facts.seen)
        rows.append((f"what it had seen: {names}", spec.source_licence or "not given"))
    rows += [
        (f"real images of the config {name}", config.licence)
        for name, config in spec.more.items()
        if isinstance(config, RealConfig)
    ]
    return rows


def _licence(spec: PublishSpec) -> str:
    if spec.licence_name is not None:
        return f"{spec.licence_name}, see {spec.licence_link}"
    return spec.licence or "not given"


def pinned_rows(facts: Facts) -> list[Row]:
    """Inputs by their field in the spec, and the digests of their content."""
    pins, asked = facts.pins, facts.spec
    found = {f"generator.model: {facts.model.name}": facts.model.digest}
    if asked.reconstruct is not None:
        found["reconstruct.source"] = pins["reconstruct"]["digest"]
    if asked.labeller is not None:
        found["labeller.model"] = pins["labeller"]["model"]
    for number, filter_ in enumerate(pins.get("filters", ())):
        for field in ("model", "features", "real", "held_out"):
            if filter_.get(field, "pixels") != "pixels":
                found[f"filters.{number}.{field}"] = filter_[field]
    adapters: Mapping[str, str] = pins["generator"].get("adapters") or {}
    found |= {f"generator.adapters: {name}": digest for name, digest in adapters.items()}
    return [(what, code(digest)) for what, digest in found.items()]


def _measures(evaluation: Evaluation) -> Iterator[tuple[str, _Measure]]:
    for label, extractor in evaluation.found.extractors.items():
        yield extractor.frechet_name, _frechet(label)
        yield f"Kernel distance \u00d7 1,000 ({label})", _kernel(label)
    yield "Precision: share of them that lie among real images", _precision
    yield "Recall: share of real images that lie among them", _recall
    yield "Seen as labelled by a classifier of real images", _agreement
    for domain, what in _TOLD_BY.items():
        title = f"Told from real images by their {what} (chance: 50{_PERCENT})"
        yield title, _told_apart(domain)


def _frechet(label: str) -> _Measure:
    def measure(measured: Measured) -> str:
        distance = measured.extractors[label].overall.frechet_distance
        return "" if distance is None else number(distance)

    return measure


def _kernel(label: str) -> _Measure:
    def measure(measured: Measured) -> str:
        distance = measured.extractors[label].overall.kernel_distance
        return "" if distance is None else _estimate(distance, 1000, "")

    return measure


def _precision(measured: Measured) -> str:
    share = measured.likeness.precision
    return "" if share is None else percent_in_words(share)


def _recall(measured: Measured) -> str:
    share = measured.likeness.recall
    return "" if share is None else percent_in_words(share)


def _agreement(measured: Measured) -> str:
    classifier = measured.classifier
    return "" if classifier is None else _estimate(classifier.agreement, 100, _PERCENT)


def _told_apart(domain: str) -> _Measure:
    def measure(measured: Measured) -> str:
        found = measured.detection.get(domain)
        return "" if found is None else _estimate(found.accuracy, 100, _PERCENT)

    return measure


def _estimate(found: Estimate, factor: int, unit: str) -> str:
    show: Callable[[float], str] = "{:.1f}".format if unit else number
    value = f"{show(factor * found.value)}{unit}"
    if found.low is None or found.high is None:
        return value
    return f"{value} ({_interval(show(factor * found.low), show(factor * found.high))})"


def _interval(low: str, high: str) -> str:
    return f"{low}\u00a0to\u00a0{high}"


def number(value: float) -> str:
    """With three digits that count, e.g. "1,280", "41.2", "0.031"."""
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}".replace("-", "\u2212")


def megabytes(num_bytes: int) -> str:
    """E.g. "37.6 MB", "1.2 GB"."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f}\u00a0GB"
    return (
        f"{num_bytes / 1e6:.1f}\u00a0MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f}\u00a0kB"
    )


def joined(parts: Mapping[str, object]) -> Markup:
    """Names and values, one after the other, e.g. "torch 2.13.0, numpy 2.4.6"."""
    return Markup(", ").join(code(f"{name} {value}") for name, value in parts.items())
