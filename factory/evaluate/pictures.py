"""All pictures of an evaluation as PNG: its charts, and sheets of images side by side.

R images that are looked at, H height, W width, C channels.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from factory.evaluate import charts
from factory.evaluate.findings import (
    NUM_PAIRS,
    class_names,
    most_missed_class,
    series_curves,
    synthetic_datasets,
)
from factory.evaluate.maps import ReadFeatures, map_features
from factory.evaluate.results import EvaluateReport, Pair
from factory.evaluate.words import number
from factory.pages.figures import png
from factory.pages.looks import STYLE
from factory.pages.sheets import ImageBlock, fit_images, image_sheet, side_of
from factory.seeds import hash_seed
from factory.sources.source import Source

NUM_CLASSES = 10
"""Most classes, each a row, on a sheet of samples."""

_SHEET_WIDTH = 1_100
"""Of a sheet of samples, px, where it can be kept."""
_MOST_SAMPLES = 8
"""Images of a class of one dataset."""
_UNLABELLED_ROWS = 6


class SideBySide(NamedTuple):
    """Images, and what became of each."""

    row_names: tuple[str, ...]
    """One of each image."""
    images: NDArray[np.uint8]
    """[R, H, W, C]."""
    others: dict[str, NDArray[np.uint8]]
    """Heading -> [R, H, W, C] each, in the order to show."""


def draw_pictures(
    report: EvaluateReport,
    sources: Mapping[str, Source],
    read_features: ReadFeatures,
    *,
    seen: Source | None = None,
    reconstructions: SideBySide | None = None,
    grad_cam: SideBySide | None = None,
) -> dict[str, bytes]:
    """Name -> PNG; those that the report has nothing for are left out.

    Charts hold `looks.DENSITY` pixels for each of a page, sheets of images one. `pairs_1` is that
    of the first synthetic dataset.

    Args:
        report: the evaluation.
        sources: "real" and the report's datasets by name, with the report's classes as labels.
        read_features: features of a source by its name, of the first extractor.
        seen: what pairs of near images were looked for in; None: "real".
        reconstructions: real images, and what each dataset of the series made of them.
        grad_cam: held-out images, and where each classifier looks.
    """
    with rc_context(STYLE):
        drawn = _charts(report) | _maps(report, sources, read_features)
        pictures = {name: png(figure) for name, figure in drawn.items()}
    pictures["samples"] = sample_sheet(report, sources)
    for name, rows in (("reconstructions", reconstructions), ("grad_cam", grad_cam)):
        if rows is not None:
            pictures[name] = _side_by_side(rows)
    for place, (name, dataset) in enumerate(synthetic_datasets(report).items(), start=1):
        if dataset.memorisation is not None and dataset.memorisation.pairs:
            pairs = dataset.memorisation.pairs
            near = sources["real"] if seen is None else seen
            pictures[f"pairs_{place}"] = _pair_sheet(pairs, sources[name], near)
    return pictures


def sample_sheet(report: EvaluateReport, sources: Mapping[str, Source]) -> bytes:
    """Images chosen at random, a row for each class, real ones and each dataset's side by side."""
    names = class_names(report)[:NUM_CLASSES]
    shown = {"real": sources["real"]} | {name: sources[name] for name in synthetic_datasets(report)}
    side = side_of(*sources["real"].images.shape[1:3])
    columns = min(max(_SHEET_WIDTH // (side + 2) // len(shown), 1), _MOST_SAMPLES)
    blocks = [
        ImageBlock(name, _samples(source, name, len(names), columns))
        for name, source in shown.items()
    ]
    return image_sheet(blocks, row_names=names)


def _charts(report: EvaluateReport) -> dict[str, Figure]:
    curves = series_curves(report)
    has_labels = bool(class_names(report))
    figures = {}
    if curves and report.series is not None:
        figures["series"] = charts.series(curves, report.series.parameter)
    if has_labels and len(report.datasets) <= charts.MOST_SIDE_BY_SIDE:
        figures["per_class"] = charts.per_class(report)
    if has_labels:
        figures["histograms"] = charts.histograms(report)
    if any(dataset.statistics for dataset in report.datasets.values()):
        figures["statistics"] = charts.statistics(report)
    return figures


def _maps(
    report: EvaluateReport, sources: Mapping[str, Source], read_features: ReadFeatures
) -> dict[str, Figure]:
    class_name = most_missed_class(report)
    if class_name is None:
        (everything,) = map_features(sources, read_features, [None])
        return {"features": charts.overlay(everything)}
    label = class_names(report).index(class_name)
    everything, one_class = map_features(sources, read_features, [None, label])
    figures = {"features": charts.features(report, everything)}
    if one_class.points:
        figures["features_of_class"] = charts.overlay(one_class)
    return figures


def _samples(source: Source, name: str, num_classes: int, columns: int) -> NDArray[np.uint8]:
    """[R, K, h, w, C]; white where a class has too few images, and rows of any if no classes."""
    generator = np.random.default_rng(hash_seed("samples", name))
    rows = [np.flatnonzero(source.labels == label) for label in range(num_classes)]
    if not rows:
        drawn = generator.permutation(len(source))[: columns * _UNLABELLED_ROWS]
        rows = [drawn[row::_UNLABELLED_ROWS] for row in range(_UNLABELLED_ROWS)]
    size = source.images.shape[1:]
    blank = np.full((1, columns, *fit_images([np.zeros(size, np.uint8)]).shape[1:]), 255, np.uint8)
    block = blank.repeat(len(rows), axis=0)
    for row, places in enumerate(rows):
        chosen = np.sort(generator.permutation(places)[:columns])
        if len(chosen):
            block[row, : len(chosen)] = fit_images(source.images[chosen])
    return block


def _side_by_side(rows: SideBySide) -> bytes:
    columns = {"real": rows.images} | rows.others
    blocks = [ImageBlock(name, fit_images(images)[:, None]) for name, images in columns.items()]
    return image_sheet(blocks, row_names=rows.row_names)


def _pair_sheet(pairs: Sequence[Pair], dataset: Source, seen: Source) -> bytes:
    """The nearest pairs from the left, each under its score: the dataset's image over the real."""
    blocks = []
    for pair in pairs[:NUM_PAIRS]:
        real = seen.images[pair.real]
        nearest = real[:, ::-1] if pair.is_mirrored else real
        heading = number(pair.score) + (" mirrored" if pair.is_mirrored else "")
        blocks.append(
            ImageBlock(heading, fit_images([dataset.images[pair.image], nearest])[:, None])
        )
    return image_sheet(blocks, row_names=["synthetic", "real"])
