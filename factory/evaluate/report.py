"""From the measurements of all datasets to the report, its warnings, and its pictures."""

from collections.abc import Iterator, Mapping, Sequence

from factory.diffusion.device import describe, pick_device
from factory.evaluate.findings import are_equally_many
from factory.evaluate.prepare import Prepared
from factory.evaluate.results import DatasetResult, EvaluateReport
from factory.images import pixel_digest
from factory.metrics.detection import fewest_images
from factory.pages.folder import HTML_NAME
from factory.sources.source import Source
from factory.sources.summary import summarize
from factory.spec.evaluate import HELD_OUT
from factory.store import Store
from factory.vision.extractor_config import weights_label


def make_report(
    prepared: Prepared,
    measured: Mapping[str, DatasetResult],
    *,
    num_extracted: int,
    seconds: float,
) -> EvaluateReport:
    """The report of an evaluation.

    Args:
        prepared: what was measured.
        measured: dataset -> its measurements, in any order.
        num_extracted: looks of a network at an image that this run took.
        seconds: that the run took.
    """
    spec, sources = prepared.spec, prepared.sources
    names = [name for name in sources if name != "real"]
    device = describe(pick_device(), "ray", "scipy")
    return EvaluateReport(
        root=prepared.root,
        name=spec.name,
        real=summarize(sources["real"]),
        held_out=HELD_OUT if HELD_OUT in sources else None,
        datasets={name: measured[name] for name in names},
        series=spec.series,
        classifier=_classifier_in_words(prepared),
        warnings=tuple(_warnings(prepared, measured)),
        confidence=spec.confidence,
        num_extracted=num_extracted,
        num_cached=prepared.num_looks - num_extracted,
        seconds=seconds,
        device=device,
        versions=device.versions,
        html=f"{Store(prepared.root).url}/{HTML_NAME}",
    )


def _classifier_in_words(prepared: Prepared) -> str:
    if not prepared.spec.per_class:
        return ""
    named, pinned = prepared.spec.classifier, prepared.classifier
    if named is not None and pinned is not None:
        return f"the classifier {weights_label(named, pinned)}"
    real = prepared.sources["real"]
    return (
        f"a small network trained on the {len(real):,} images of {real.place} "
        f"({prepared.num_seen:,} images seen)"
    )


def _warnings(prepared: Prepared, measured: Mapping[str, DatasetResult]) -> Iterator[str]:
    sources = prepared.sources
    if HELD_OUT not in sources:
        yield (
            "There are no held-out real images (held_out), so nothing shows what perfect images "
            "would reach."
        )
    yield from _sizes(measured)
    yield from _lacking(prepared, measured)
    shared = _overlap(sources)
    if shared:
        yield (
            f"{shared:,} of the {len(sources[HELD_OUT]):,} held-out images are among the real "
            "ones, pixel by pixel, which makes their row look better than it is."
        )
    yield from _untold(prepared, measured)


def _sizes(measured: Mapping[str, DatasetResult]) -> Iterator[str]:
    """What cannot be compared because the numbers of images differ."""
    sizes = {name: result.source.num_images for name, result in measured.items()}
    if not are_equally_many(*sizes.values()):
        listed = ", ".join(f"{name} {count:,}" for name, count in sizes.items())
        yield (
            f"The datasets differ in size ({listed}). Fréchet distances, precision and recall "
            "depend on it: compare those of equal numbers only (num_images)."
        )


def _untold(prepared: Prepared, measured: Mapping[str, DatasetResult]) -> Iterator[str]:
    """What nobody tried to tell from real images, or could learn to."""
    detection = prepared.spec.detection
    if detection is None:
        return
    fewest = fewest_images(detection.test_fraction, prepared.spec.confidence)
    num_real = len(prepared.sources["real"])
    untold = [name for name, result in measured.items() if not result.detection]
    few = [n for n in untold if min(num_real, measured[n].source.num_images) < fewest]
    alike = [name for name in untold if name not in few]
    if few:
        yield (
            f"Whether {_and(few)} can be told from real images was not tried: it takes "
            f"{fewest:,} images of either side."
        )
    if alike:
        yield (
            f"Whether {_and(alike)} can be told from real images cannot be said: too few of the "
            "images differ from one another."
        )


def _lacking(prepared: Prepared, measured: Mapping[str, DatasetResult]) -> Iterator[str]:
    """Classes without an image on either side."""
    if not prepared.spec.per_class:
        return
    for name in ("real", *measured):
        empty = [c for c, count in prepared.sources[name].class_counts.items() if not count]
        if empty:
            yield f"{name} has no images of {_and(empty)}, which are left out of the classes."


def _overlap(sources: Mapping[str, Source]) -> int:
    if HELD_OUT not in sources:
        return 0
    real = {pixel_digest(image) for image in sources["real"].images}
    return sum(pixel_digest(image) in real for image in sources[HELD_OUT].images)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
