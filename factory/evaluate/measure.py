"""All measurements of one dataset against the real images, from what networks saw in both."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from factory.evaluate.findings import NUM_PAIRS
from factory.evaluate.likeness import RealSide, compare, surround
from factory.evaluate.prepare import Prepared
from factory.evaluate.results import (
    ClassifierResult,
    DatasetResult,
    DetectionResult,
    Estimate,
    ExtractorResult,
    MemorisationResult,
    Pair,
    StatisticResult,
)
from factory.evaluate.work import read_look
from factory.metrics.classification import output_entropies
from factory.metrics.detection import detect, fewest_images
from factory.metrics.image_statistics import Mean, differences, image_statistics, summarise
from factory.sources.source import Source
from factory.sources.summary import summarize
from factory.spec.evaluate import HELD_OUT
from factory.vision.memorisation import Seen, closest_pairs, judge
from factory.vision.near_real import pixels


class Measure:
    """Measures datasets, one at a call; what it needs of the real images it computes once."""

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        """Find neighbours on `device`."""
        self._prepared = prepared
        self._device = device
        self._real = prepared.sources["real"]
        self._real_side = cache(self._surround)
        self._real_statistics = cache(lambda: image_statistics(self._real.images))
        self._seen = cache(lambda: Seen(prepared.seen.images, features=pixels, device=device))
        self._held_out = cache(lambda: self._seen().closeness(prepared.sources[HELD_OUT].images))

    def __call__(self, dataset: str) -> DatasetResult:
        """Measure the dataset of that name."""
        prepared = self._prepared
        source = prepared.sources[dataset]
        return DatasetResult(
            name=dataset,
            is_real=dataset == HELD_OUT,
            source=summarize(source),
            extractors={
                extractor.label: self._compare(number, dataset)
                for number, extractor in enumerate(prepared.extractors)
            },
            classifier=self._classify(dataset) if prepared.spec.per_class else None,
            detection=self._detect(source),
            memorisation=self._search(dataset),
            statistics=self._count(source),
        )

    def _compare(self, number: int, dataset: str) -> ExtractorResult:
        prepared = self._prepared
        extractor, spec = prepared.extractors[number], prepared.spec
        features = read_look(prepared, prepared.looks[number], dataset)
        labels = prepared.sources[dataset].labels
        classes = {
            name: label
            for label, name in enumerate(self._real.class_names)
            if number == 0
            and spec.per_class
            and np.any(labels == label)
            and np.any(self._real.labels == label)
        }
        return ExtractorResult(
            extractor=extractor.label,
            frechet_name=extractor.frechet_name,
            num_features=features.shape[1],
            overall=compare(self._real_side(number), features, spec),
            per_class={
                name: compare(self._real_side(number, label), features[labels == label], spec)
                for name, label in classes.items()
            },
        )

    def _surround(self, number: int, label: int | None = None) -> RealSide:
        """The real images' side, as one extractor sees them; of one class, or of all."""
        prepared = self._prepared
        if label is None:
            features = read_look(prepared, prepared.looks[number], "real")
        else:
            features = self._real_side(number).features[self._real.labels == label]
        return surround(features, prepared.spec, self._device, with_neighbours=number == 0)

    def _classify(self, dataset: str) -> ClassifierResult:
        prepared, source = self._prepared, self._prepared.sources[dataset]
        probabilities = read_look(prepared, prepared.looks[-1], dataset)
        agrees = probabilities.argmax(axis=1) == source.labels
        confidence = prepared.spec.confidence
        entropy = summarise({"entropy": output_entropies(probabilities)}, confidence)
        return ClassifierResult(
            agreement=_share(agrees, confidence),
            entropy=_estimate(entropy["entropy"]),
            per_class_agreement={
                name: _share(agrees[source.labels == label], confidence)
                for label, name in enumerate(source.class_names)
                if np.any(source.labels == label)
            },
        )

    def _detect(self, source: Source) -> dict[str, DetectionResult]:
        spec = self._prepared.spec
        if spec.detection is None:
            return {}
        few = fewest_images(spec.detection.test_fraction, spec.confidence)
        if min(len(source), len(self._real)) < few:
            return {}
        results = {}
        for domain in spec.detection.domains:
            found = detect(
                self._real.images,
                source.images,
                domain=domain,
                test_fraction=spec.detection.test_fraction,
                confidence=spec.confidence,
                seed=spec.seed,
            )
            if found is None:
                continue
            results[domain] = DetectionResult(
                domain=domain,
                accuracy=Estimate(value=found.accuracy, low=found.low, high=found.high),
                num_train=found.num_train,
                num_test=found.num_test,
            )
        return results

    def _search(self, dataset: str) -> MemorisationResult | None:
        prepared, spec = self._prepared, self._prepared.spec
        if spec.memorisation is None or dataset == HELD_OUT:
            return None
        found = self._seen().closeness(prepared.sources[dataset].images)
        pairs = tuple(
            Pair(image=pair.image, real=pair.seen, is_mirrored=pair.is_mirrored, score=pair.score)
            for pair in closest_pairs(found, NUM_PAIRS)
        )
        reason = prepared.why_unchecked(dataset)
        quantile = spec.memorisation.quantile
        judged = None
        if not reason and self._held_out().is_exact.all():
            reason = "it has seen all held-out images, or their mirror images"
        if not reason:
            held_out = self._held_out()
            judged = judge(found, held_out, quantile=quantile, confidence=spec.confidence)
        return MemorisationResult(
            verdict="not checked" if judged is None else judged.verdict,
            reason=reason,
            extractor="pixels",
            num_exact=int(found.is_exact.sum()),
            share=judged and Estimate(value=judged.share, low=judged.low, high=judged.high),
            expected=quantile if judged is None else judged.expected,
            limit=judged and judged.limit,
            threshold=judged and judged.threshold,
            num_held_out=0 if judged is None else judged.num_held_out,
            num_shared=0 if judged is None else judged.num_shared,
            pairs=pairs,
        )

    def _count(self, source: Source) -> dict[str, StatisticResult]:
        confidence = self._prepared.spec.confidence
        own = image_statistics(source.images)
        gaps = differences(own, self._real_statistics(), confidence)
        return {
            name: StatisticResult(
                mean=_estimate(mean),
                difference=Estimate(
                    value=gaps[name].difference, low=gaps[name].low, high=gaps[name].high
                ),
            )
            for name, mean in summarise(own, confidence).items()
        }


def _estimate(mean: Mean) -> Estimate:
    return Estimate(value=mean.mean, low=mean.low, high=mean.high)


def _share(found: NDArray[np.bool_], confidence: float) -> Estimate:
    """A share of images with Wilson's interval."""
    counted = binomtest(int(found.sum()), len(found))
    low, high = counted.proportion_ci(confidence, method="wilson")
    return Estimate(value=float(found.mean()), low=low, high=high)
