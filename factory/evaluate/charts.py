"""Charts of an evaluation, one function each; draw and save them within `rc_context(looks.STYLE)`.

n points of a map.
"""

from collections.abc import Iterable
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from factory.evaluate.findings import (
    KERNEL_DISTANCE,
    Curve,
    class_names,
    first_extractor,
    in_thousandths,
    most_missed_classes,
)
from factory.evaluate.looks import CLASS_COLORS, STATISTICS, dataset_looks
from factory.evaluate.maps import FeatureMap, Points
from factory.evaluate.results import Estimate, EvaluateReport, Likeness
from factory.pages.figures import WIDTH, draw_interval, name_rows, panels, percent
from factory.pages.looks import BASELINE, REAL, SYNTHETIC, Look, pick_looks, shorten

MOST_SIDE_BY_SIDE = 9
"""Datasets whose classes can be compared in one chart."""

_MOST_NAMED = 30
"""Classes that the axis of a histogram names."""
_POINT_AREAS = 3, 16
"""Of many and of few points on a map."""
_CELLS = 50
"""Along either side of a map of densities."""
_COLUMNS = 4


def features(report: EvaluateReport, found: FeatureMap) -> Figure:
    """Real and synthetic images, a panel each, coloured by class or by how dense they lie."""
    figure, grid = _map_panels(found, list(found.points))
    names = class_names(report)
    if len(names) > len(CLASS_COLORS):
        _densities(grid, found)
        return figure
    colors = np.array(CLASS_COLORS[: len(names)])
    for axes, points in zip(grid, found.points.values(), strict=True):
        _scatter(axes, points, colors[points.labels])
    _color_legend(figure, zip(map(shorten, names), colors, strict=True))
    return figure


def overlay(found: FeatureMap) -> Figure:
    """Each dataset over the real images of the map, a panel each."""
    datasets = [name for name in found.points if name != "real"]
    figure, grid = _map_panels(found, datasets)
    for axes, name in zip(grid, datasets, strict=True):
        for points, color in ((found.points["real"], REAL), (found.points[name], SYNTHETIC)):
            _scatter(axes, points, color)
    _color_legend(figure, [("real", REAL), ("the dataset above the panel", SYNTHETIC)])
    return figure


def histograms(report: EvaluateReport) -> Figure:
    """Images of each class, one panel for all datasets that have the same (basu2022, Fig. 1)."""
    names = class_names(report)
    shown: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    sources = {name: found.source for name, found in report.datasets.items()}
    for name, source in {"real": report.real, **sources}.items():
        color = REAL if name in ("real", report.held_out) else SYNTHETIC
        counts = tuple(source.class_counts[class_name] for class_name in names)
        shown.setdefault((color, counts), []).append(name)
    named = len(names) <= _MOST_NAMED
    figure, grid = panels(
        len(shown), columns=3, height=0.5 + (0.17 * len(names) if named else 2.4), share_x=False
    )
    for axes, ((color, counts), owners) in zip(grid, shown.items(), strict=True):
        axes.barh(range(len(names)), counts, 0.75 if named else 1.0, color=color)
        axes.set_title(shorten(", ".join(owners), 44))
        axes.set_xlim(0, 1.05 * max(1, *counts))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    name_rows(grid[0], [shorten(name) if named else "" for name in names])
    for axes in grid:
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=3 if named else 0)
    figure.supxlabel("images", fontsize=9)
    return figure


def series(curves: Iterable[Curve], parameter: str) -> Figure:
    """Each measurement over the number that the datasets differ in (yamaguchi2024, Figs. 6, 8)."""
    shown = list(curves)
    figure, grid = panels(len(shown), columns=3, height=2.1, share_y=False)
    for axes, curve in zip(grid, shown, strict=True):
        for (name, line), look in zip(curve.lines.items(), _line_looks(curve), strict=True):
            values = [value.value for value in line.values()]
            axes.plot(list(line), values, color=look.color, linewidth=1)
            for number, value in line.items():
                _interval(axes, value, number, look, along_x=False)
            axes.plot([], [], color=look.color, marker=look.marker, label=name)
        styles = cycle(("--", ":"))
        for level, style in zip(curve.levels.values(), styles, strict=False):
            axes.axhline(level.value, color=BASELINE.color, linestyle=style, linewidth=1)
        axes.set_title(shorten(curve.title, 44))
        if curve.is_share:
            axes.yaxis.set_major_formatter(percent())
        if len(curve.lines) > 1:
            axes.legend(loc="best", fontsize=8)
    if any(curve.levels for curve in shown):
        line = Line2D([], [], color=BASELINE.color, linestyle="--", label="held-out real images")
        figure.legend(handles=[line], loc="outside upper left")
    figure.supxlabel(parameter, fontsize=9)
    return figure


def statistics(report: EvaluateReport) -> Figure:
    """Means of simple numbers by dataset, the real images' as a line (basu2022, Fig. 11)."""
    names = list(next(iter(report.datasets.values())).statistics)
    looks = dataset_looks(report)
    height = 0.6 + 0.25 * len(looks)
    figure, grid = panels(len(names), columns=2, height=height, share_x=False)
    for axes, name in zip(grid, names, strict=True):
        for row, (dataset, look) in enumerate(looks.items()):
            found = report.datasets[dataset].statistics[name]
            _interval(axes, found.mean, row, look, along_x=True)
            # The same for every dataset.
            axes.axvline(found.mean.value - found.difference.value, color=REAL, linewidth=1)
        axes.set_title(STATISTICS.get(name, name))
    name_rows(grid[0], [shorten(name) for name in looks])
    for axes in grid:
        axes.grid(visible=False, axis="y")
    line = Line2D([], [], color=REAL, label="real")
    figure.legend(handles=[line], loc="outside upper left")
    return figure


def per_class(report: EvaluateReport) -> Figure:
    """Precision, recall and kernel distance in the classes of least recall."""
    names, looks = most_missed_classes(report), dataset_looks(report)
    row_height = min(max(0.09 * len(looks), 0.3), 1.0)
    figure, grid = panels(3, columns=3, height=0.4 + row_height * len(names), share_x=False)
    for place, (dataset, look) in enumerate(looks.items()):
        found = first_extractor(report.datasets[dataset]).per_class
        offset = 0.8 * ((place + 0.5) / len(looks) - 0.5)
        for row, name in enumerate(names):
            for axes, value in zip(grid, _class_values(found.get(name)), strict=True):
                if value is not None:
                    _interval(axes, value, row + offset, look, along_x=True)
    for axes, title in zip(grid, ("precision", "recall", KERNEL_DISTANCE), strict=True):
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
        for row in range(1, len(names), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    for axes in grid[:2]:
        axes.xaxis.set_major_formatter(percent())
    name_rows(grid[0], [shorten(name) for name in names])
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="", label=shorten(name, 40))
        for name, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return figure


def _class_values(found: Likeness | None) -> tuple[Estimate | None, ...]:
    """Precision, recall and kernel distance."""
    if found is None:
        return None, None, None
    shares = (found.precision, found.recall)
    kernel = found.kernel_distance
    return (
        *(None if share is None else Estimate(value=share) for share in shares),
        None if kernel is None else in_thousandths(kernel),
    )


def _interval(axes: Axes, found: Estimate, place: float, look: Look, *, along_x: bool) -> None:
    around = (found.low, found.high)
    draw_interval(axes, found.value, around, place, look, along="x" if along_x else "y")


def _line_looks(curve: Curve) -> list[Look]:
    return [Look(SYNTHETIC, "o")] if len(curve.lines) == 1 else pick_looks(len(curve.lines))


def _map_panels(found: FeatureMap, names: list[str]) -> tuple[Figure, list[Axes]]:
    """A square panel for each source, all of one scale."""
    rows = -(-len(names) // _COLUMNS)
    columns = -(-len(names) // rows)
    figure, grid = panels(len(names), columns=columns, height=min(WIDTH / columns, 3.2))
    places = np.concatenate([points.places for points in found.points.values()])
    middle, half = _square(places)
    for axes, name in zip(grid, names, strict=True):
        axes.set_title(shorten(name, 30))
        axes.set_box_aspect(1)
        axes.grid(visible=False)
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        axes.set_xlim(middle[0] - half, middle[0] + half)
        axes.set_ylim(middle[1] - half, middle[1] + half)
    first, second = (f"{100 * share:.0f}\u00a0%" for share in found.shares)
    figure.supxlabel(f"1st principal component, {first} of the variance of real images", fontsize=9)
    figure.supylabel(f"2nd component, {second}", fontsize=9)
    return figure, grid


def _square(places: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Middle [2] and half a side of the square that holds all places [n, 2]."""
    low, high = places.min(axis=0), places.max(axis=0)
    return (low + high) / 2, 0.52 * float(max((high - low).max(), 1e-12))


def _scatter(axes: Axes, points: Points, colors: str | NDArray[np.str_]) -> None:
    x, y = points.places.T
    area = np.clip(4_000 / max(len(x), 1), *_POINT_AREAS)
    axes.scatter(x, y, area, colors, alpha=0.6, linewidths=0)


def _densities(grid: list[Axes], found: FeatureMap) -> None:
    """The share of its panel's images that lies in each cell."""
    bounds = [grid[0].get_xlim(), grid[0].get_ylim()]
    shares = [
        np.histogram2d(*points.places.T, bins=_CELLS, range=bounds)[0].T / len(points.places)
        for points in found.points.values()
    ]
    # The square root lets rare places be seen beside the dense ones.
    norm = PowerNorm(0.5, 0, max(share.max() for share in shares))
    for axes, share in zip(grid, shares, strict=True):
        axes.imshow(share, "Blues", norm, extent=(*bounds[0], *bounds[1]), origin="lower")


def _color_legend(figure: Figure, colors: Iterable[tuple[str, str]]) -> None:
    handles = [
        Line2D([], [], color=color, marker="o", linestyle="", label=name) for name, color in colors
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=6)
