"""All pictures of a comparison as PNG: its charts, and sheets of example images."""

import numpy as np
from matplotlib import rc_context
from numpy.typing import NDArray
from PIL import Image

from factory.classify import charts
from factory.classify.arms import Sources
from factory.classify.findings import arm_series
from factory.classify.results import ClassifyReport
from factory.images import contact_sheet
from factory.pages.figures import png
from factory.pages.looks import STYLE, shorten
from factory.sources.source import Source

NUM_EXAMPLES = 10
"""Images of a class on a sheet of examples, and most classes there."""

_EXAMPLE_SIDE = 48
"""Longest side of an example image, px."""


def draw_pictures(report: ClassifyReport, sources: Sources) -> dict[str, bytes]:
    """Name -> PNG.

    Charts hold `looks.DENSITY` pixels for each of a page, sheets of examples one. `series` is
    there only where the arms are one.

    Args:
        report: the comparison.
        sources: where the example images are taken from.
    """
    series = arm_series(report)
    with rc_context(STYLE):
        figures = {
            "top1": charts.top1(report),
            **({} if series is None else {"series": charts.series(series)}),
            "histograms": charts.histograms(report),
            "per_class": charts.per_class(report),
            "confusion": charts.confusion(report),
            "learning_curves": charts.learning_curves(report),
            "reliability": charts.reliability(report),
        }
        pictures = {name: png(figure) for name, figure in figures.items()}
    pictures["examples_real"] = example_sheet(sources.real)
    for number, source in enumerate(sources.synthetic.values(), start=1):
        pictures[f"examples_synthetic_{number}"] = example_sheet(source)
    return pictures


def example_sheet(source: Source) -> bytes:
    """PNG with one row a class: its first images, enlarged or shrunk to at most 48 px."""
    names = source.class_names[:NUM_EXAMPLES]
    images = np.concatenate([_examples(source, label) for label in range(len(names))])
    return contact_sheet(
        images,
        columns=NUM_EXAMPLES,
        scale=_EXAMPLE_SIDE // max(images.shape[1:3]),
        row_names=[shorten(name) for name in names],
    )


def _examples(source: Source, label: int) -> NDArray[np.uint8]:
    """The class's first images; white ones where it has too few to fill a row."""
    images = source.images[source.labels == label][:NUM_EXAMPLES]
    missing = np.full((NUM_EXAMPLES - len(images), *images.shape[1:]), 255, np.uint8)
    return np.stack([_shrink(image) for image in np.concatenate([images, missing])])


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
    return np.asarray(picture).reshape(picture.height, picture.width, image.shape[2])
