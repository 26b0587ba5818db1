"""Evaluations whose measurements were made up: every number follows from a dataset's quality."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.evaluate.results import (
    ClassifierResult,
    DatasetResult,
    DetectionResult,
    Estimate,
    EvaluateReport,
    ExtractorResult,
    Likeness,
    MemorisationResult,
    Pair,
    StatisticResult,
)
from factory.records import Device
from factory.sources.source import Source
from factory.sources.summary import summarize
from factory.spec import EvaluateSpec
from factory.spec.evaluate import HELD_OUT

NAMES = ("cat", "T-shirt/top", "<script>alert('&')</script>", 'a "$x$" <b>')
NUM_FEATURES = 16
SEEN = {"name": "photos", "split": "train", "num_images": 80, "digest": "0" * 64}


@dataclass(frozen=True)
class Evaluation:
    """All that a report for people is made from."""

    spec: EvaluateSpec
    report: EvaluateReport
    sources: dict[str, Source]
    features: dict[str, NDArray[np.float32]]


def make_source(name, class_names, count, *, seed=0, side=12, channels=1, **fields) -> Source:
    """`count` images of each class: noise over a grey level of the class."""
    labels = np.repeat(np.arange(len(class_names)), count)
    shape = (len(labels), side, side, channels)
    noise = np.random.default_rng(seed).integers(0, 60, shape)
    levels = (labels * 190 // len(class_names))[:, None, None, None]
    return Source(name, "train", (noise + levels).astype(np.uint8), labels, class_names, **fields)


def make_features(source: Source, quality: float) -> NDArray[np.float32]:
    """A cloud for each class; the lower the quality in [0, 1], the smaller and farther away."""
    generator = np.random.default_rng(len(source.name))
    middles = 4 * np.random.default_rng(0).normal(size=(len(source.class_names), NUM_FEATURES))
    spread = generator.normal(size=(len(source), NUM_FEATURES)) * quality
    return (middles[source.labels] + 2 * (1 - quality) + spread).astype(np.float32)


def likeness(source: Source, real: Source, quality: float, *, is_biased=False) -> Likeness:
    distance = 40 * (1 - quality)
    kernel = Estimate(value=distance / 1e3, low=distance / 1e3 - 5e-4, high=distance / 1e3 + 5e-4)
    return Likeness(
        num_real=len(real),
        num_images=len(source),
        frechet_distance=distance + 1,
        frechet_limit=None if is_biased else distance,
        is_biased=is_biased,
        kernel_distance=kernel,
        precision=0.5 + 0.4 * quality,
        recall=0.9 * quality**2,
    )


def share(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.02, high=value + 0.02)


def pairs(source: Source, real: Source) -> tuple[Pair, ...]:
    last = min(len(source), len(real), 12)
    return tuple(
        Pair(image=place, real=place, is_mirrored=place == 2, score=0.01 * (place + 1))
        for place in range(last)
    )


def memorisation(source: Source, real: Source, *, has_held_out: bool) -> MemorisationResult:
    return MemorisationResult(
        verdict="no evidence" if has_held_out else "not checked",
        reason="" if has_held_out else "there are no held-out images to calibrate by",
        extractor="pixels",
        num_exact=0,
        share=Estimate(value=0.011, low=0.004, high=0.02) if has_held_out else None,
        expected=0.01,
        limit=0.02,
        threshold=0.42 if has_held_out else None,
        num_held_out=len(real) if has_held_out else 0,
        num_shared=0,
        pairs=pairs(source, real),
    )


def dataset_result(
    name: str,
    sources: dict[str, Source],
    quality: float,
    *,
    per_class: bool,
    extractors: Sequence[str],
) -> DatasetResult:
    source, real, is_real = sources[name], sources["real"], name == HELD_OUT
    classes = {
        class_name: likeness(
            source.take(np.flatnonzero(source.labels == label)),
            real.take(np.flatnonzero(real.labels == label)),
            # Some class is the worst, and another one the best.
            quality * (1 - 0.3 * label / len(source.class_names)),
            is_biased=True,
        )
        for label, class_name in enumerate(source.class_names)
        if per_class
    }
    luminance = float(source.images.mean())
    difference = luminance - float(real.images.mean())
    return DatasetResult(
        name=name,
        is_real=is_real,
        source=summarize(source),
        extractors={
            extractor: ExtractorResult(
                extractor=extractor,
                frechet_name="FID"
                if extractor == "inception"
                else f"Fréchet distance ({extractor})",
                num_features=NUM_FEATURES,
                overall=likeness(source, real, quality),
                per_class=classes if number == 0 else {},
            )
            for number, extractor in enumerate(extractors)
        },
        classifier=ClassifierResult(
            agreement=share(0.5 + 0.4 * quality),
            entropy=Estimate(value=1.2 - quality, low=1.15 - quality, high=1.25 - quality),
            per_class_agreement={class_name: share(0.5 + 0.4 * quality) for class_name in classes},
        )
        if per_class
        else None,
        detection={
            domain: DetectionResult(
                domain=domain,
                accuracy=share(0.5 + weight * (1 - quality)),
                num_train=750,
                num_test=250,
            )
            for domain, weight in (("pixel", 0.2), ("dct", 0.45))
        },
        memorisation=None
        if is_real
        else memorisation(source, real, has_held_out=HELD_OUT in sources),
        statistics={
            key: StatisticResult(
                mean=Estimate(value=luminance + shift, low=luminance - 2, high=luminance + 2),
                difference=Estimate(value=difference, low=difference - 2, high=difference + 2),
            )
            for shift, key in enumerate(("luminance", "background_luminance"))
        },
    )


def evaluate(
    sources: dict[str, Source],
    qualities: dict[str, float],
    *,
    per_class: bool = True,
    extractors: Sequence[str] = ("efficientnet_lite0",),
    series: dict | None = None,
    features: dict[str, NDArray[np.float32]] | None = None,
) -> Evaluation:
    """An evaluation of "real" against the other sources, each as good as `qualities` say."""
    synthetic = [name for name in sources if name not in ("real", HELD_OUT)]
    spec = EvaluateSpec.model_validate(
        {
            "held_out": {"split": "test"} if HELD_OUT in sources else None,
            "synthetic": {name: {"path": "out"} for name in synthetic},
            "per_class": per_class,
            "series": series,
        }
    )
    report = EvaluateReport(
        root="memory://evaluation",
        name="evaluate",
        real=summarize(sources["real"]),
        held_out=HELD_OUT if HELD_OUT in sources else None,
        datasets={
            name: dataset_result(
                name, sources, qualities[name], per_class=per_class, extractors=extractors
            )
            for name in sources
            if name != "real"
        },
        series=spec.series,
        classifier="a small network trained on the real images, 91.0 % right" if per_class else "",
        warnings=(),
        confidence=0.95,
        num_extracted=1_000,
        num_cached=0,
        seconds=61.4,
        device=Device(kind="cpu AVX512", versions={"torch": "2.13.0"}),
        versions={"torch": "2.13.0", "factory": "0.1.0"},
        html="memory://evaluation/report.html",
    )
    if features is None:
        features = {
            name: make_features(source, qualities.get(name, 1.0))
            for name, source in sources.items()
        }
    return Evaluation(spec, report, sources, features)


def fake_evaluation(
    qualities: dict[str, float],
    *,
    class_names: Sequence[str] = NAMES,
    count: int = 20,
    has_held_out: bool = True,
    **options,
) -> Evaluation:
    """The same, of noise."""
    names = tuple(class_names)
    sources = {"real": make_source("photos", names, count, seed=1)}
    if has_held_out:
        sources[HELD_OUT] = make_source("photos, held out", names, count, seed=2)
        qualities = {HELD_OUT: 1.0} | qualities
    for seed, name in enumerate(qualities, start=3):
        if name != HELD_OUT:
            sources[name] = make_source(f"of {name}", names, count, seed=seed, trained_on=SEEN)
    return evaluate(sources, qualities, **options)
