"""Charts of a comparison, one function each; draw and save them within `rc_context(looks.STYLE)`.

K classes.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from factory.classify.findings import Series, most_different_classes
from factory.classify.looks import arm_looks
from factory.classify.results import ClassifyReport, Epoch
from factory.metrics.classification import Calibration
from factory.metrics.evidence import Interval
from factory.pages.figures import WIDTH, draw_interval, name_rows, panels, percent
from factory.pages.looks import BASELINE, QUIET, REAL, SYNTHETIC, Look, pick_looks, shorten

_MOST_NAMED = {"histograms": 30, "confusion": 50}
"""Classes that the axes of a chart name."""
_MOST_CELLS = 10
"""Classes of a confusion matrix that has its numbers written in."""


def top1(report: ClassifyReport) -> Figure:
    """Accuracy of every arm with its interval, and of each of its trainings."""
    figure = Figure(figsize=(WIDTH, 0.8 + 0.42 * len(report.arms)))
    axes = figure.add_subplot()
    for place, (name, look) in enumerate(arm_looks(report).items()):
        _interval(axes, report.arms[name].top1, place, look, along="x")
        scores = report.arms[name].seed_top1
        axes.plot(scores, [place + 0.25] * len(scores), ".", color=look.color, alpha=0.6, ms=6)
    baseline = report.arms[report.baseline].top1.mean
    axes.axvline(baseline, color=BASELINE.color, linewidth=0.8, linestyle=":")
    if report.zero_shot is not None:
        axes.axvline(report.zero_shot.top1, color=QUIET, linestyle="--", label="zero-shot")
        figure.legend(loc="outside right upper")
    name_rows(axes, [shorten(name, 40) for name in report.arms])
    axes.set_xlabel("top-1 accuracy on the test images")
    axes.xaxis.set_major_formatter(percent())
    return figure


def series(arms: Series) -> Figure:
    """Accuracy by the number that the arms differ in."""
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    for (name, points), look in zip(arms.lines.items(), pick_looks(len(arms.lines)), strict=True):
        numbers, means = zip(*((point.number, point.top1.mean) for point in points), strict=True)
        axes.plot(numbers, means, color=look.color, marker=look.marker, label=name)
        for point in points:
            _interval(axes, point.top1, point.number, look, along="y")
    styles = cycle(("--", ":", "-."))
    for (name, level), style in zip(arms.levels.items(), styles, strict=False):
        axes.axhline(level.mean, color=BASELINE.color, linestyle=style, linewidth=1, label=name)
    axes.set_xlabel(arms.number)
    axes.set_ylabel("top-1 accuracy")
    axes.yaxis.set_major_formatter(percent())
    figure.legend(loc="outside right upper")
    return figure


def histograms(report: ClassifyReport) -> Figure:
    """Real and synthetic training images of each class, one panel an arm (basu2022, Fig. 1)."""
    names = list(report.real.class_counts)
    named = len(names) <= _MOST_NAMED["histograms"]
    height = 0.5 + (0.17 * len(names) if named else 2.4)
    figure, grid = panels(len(report.arms), columns=3, height=height)
    rows = range(len(names))
    for panel, (arm_name, arm) in zip(grid, report.arms.items(), strict=True):
        real = [arm.real_counts[name] for name in names]
        synthetic = [arm.synthetic_counts[name] for name in names]
        width = 0.75 if named else 1.0
        panel.barh(rows, real, width, color=REAL, label="real")
        panel.barh(rows, synthetic, width, left=real, color=SYNTHETIC, label="synthetic")
        panel.set_title(shorten(arm_name, 40))
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panel.grid(visible=False, axis="y")
    grid[0].set_yticks(rows if named else [], [shorten(name) for name in names] if named else [])
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    grid[0].set_xlim(0, 1.05 * max(_class_totals(report)))
    figure.supxlabel("training images", fontsize=9)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def per_class(report: ClassifyReport) -> Figure:
    """Accuracy of every arm in the classes that differ most, with intervals."""
    names, looks = most_different_classes(report), arm_looks(report)
    row_height = min(max(0.11 * len(looks), 0.3), 1.2)
    figure = Figure(figsize=(WIDTH, 1.0 + row_height * len(names)))
    axes = figure.add_subplot()
    for place, (arm_name, look) in enumerate(looks.items()):
        accuracy = report.arms[arm_name].per_class_accuracy
        offset = 0.8 * ((place + 0.5) / len(looks) - 0.5)
        for row, name in enumerate(names):
            label = shorten(arm_name, 40) if row == 0 else None
            _interval(axes, accuracy[name], row + offset, look, along="x", label=label)
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0)
    name_rows(axes, [shorten(name) for name in names])
    axes.set_xlabel("accuracy on the class's test images")
    axes.xaxis.set_major_formatter(percent())
    figure.legend(loc="outside right upper")
    return figure


def confusion(report: ClassifyReport) -> Figure:
    """Which classes are taken for which, one panel an arm."""
    names = [shorten(name, 16) for name in report.test.class_counts]
    named = len(names) <= _MOST_NAMED["confusion"]
    side = max(2.9, 0.8 + 0.13 * len(names)) if named else 2.9
    columns = max(1, int(WIDTH / side))
    figure, grid = panels(len(report.arms), columns=columns, height=side)
    # The square root lets rare confusions be seen beside the diagonal.
    norm = PowerNorm(0.5, 0, 1)
    for panel, (arm_name, arm) in zip(grid, report.arms.items(), strict=True):
        shares = np.array(arm.confusion)
        panel.imshow(shares, cmap="Blues", norm=norm, aspect="auto")
        panel.set_title(shorten(arm_name, 40))
        panel.grid(visible=False)
        if len(names) <= _MOST_CELLS:
            _write_cells(panel, shares)
        panel.tick_params(labelsize=7)
        panel.tick_params(axis="x", labelrotation=90)
    ticks = range(len(names)) if named else []
    grid[0].set_xticks(ticks, names if named else [])
    grid[0].set_yticks(ticks, names if named else [])
    colors = ScalarMappable(norm, "Blues")
    bar = figure.colorbar(colors, ax=grid, fraction=0.03, aspect=30, format=percent())
    bar.set_label("share of the true class's images")
    figure.supxlabel("predicted class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    return figure


def learning_curves(report: ClassifyReport) -> Figure:
    """Loss and accuracy by epoch, one thin line a training."""
    figure = Figure(figsize=(WIDTH, 3.2))
    loss, accuracy = figure.subplots(1, 2)
    looks = arm_looks(report)
    for name, look in looks.items():
        for curve in report.arms[name].curves:
            _curves(loss, curve, "loss", look)
            _curves(accuracy, curve, "accuracy", look)
    loss.set_ylabel("loss")
    accuracy.set_ylabel("accuracy")
    accuracy.yaxis.set_major_formatter(percent())
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines = [Line2D([], [], color=look.color, label=shorten(n)) for n, look in looks.items()]
    lines.append(Line2D([], [], color=QUIET, label="training"))
    if any(line.get_linestyle() == "--" for line in loss.lines):
        lines.append(Line2D([], [], color=QUIET, linestyle="--", label="validation"))
    figure.legend(handles=lines, loc="outside right upper")
    return figure


def reliability(report: ClassifyReport) -> Figure:
    """Accuracy by confidence; larger points hold more predictions (Guo et al. 2017, Fig. 1)."""
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="as sure as right")
    for name, look in arm_looks(report).items():
        _reliability_line(axes, report.arms[name].calibration, look)
        axes.plot([], [], color=look.color, marker=look.marker, linewidth=1, label=shorten(name))
    axes.set_xlabel("mean confidence")
    axes.set_ylabel("accuracy")
    axes.xaxis.set_major_formatter(percent())
    axes.yaxis.set_major_formatter(percent())
    figure.legend(loc="outside right upper")
    return figure


def _class_totals(report: ClassifyReport) -> list[int]:
    return [
        count + arm.synthetic_counts[name]
        for arm in report.arms.values()
        for name, count in arm.real_counts.items()
    ]


def _interval(
    axes: Axes,
    interval: Interval,
    place: float,
    look: Look,
    *,
    along: Literal["x", "y"],
    label: str | None = None,
) -> None:
    around = (interval.low, interval.high)
    draw_interval(axes, interval.mean, around, place, look, along=along, label=label)


def _curves(
    axes: Axes, curve: Sequence[Epoch], field: Literal["loss", "accuracy"], look: Look
) -> None:
    epochs = [row.epoch for row in curve]
    style = {"color": look.color, "linewidth": 0.9, "alpha": 0.8}
    axes.plot(epochs, [getattr(row, field) for row in curve], **style)
    validation = [getattr(row, f"validation_{field}") for row in curve]
    if None not in validation:
        axes.plot(epochs, validation, linestyle="--", **style)


def _reliability_line(axes: Axes, calibration: Calibration, look: Look) -> None:
    bins = [
        (part.confidence, part.accuracy, part.count)
        for part in calibration.bins
        if part.confidence is not None and part.accuracy is not None
    ]
    confidence, accuracy, counts = (np.array(values) for values in zip(*bins, strict=True))
    axes.plot(confidence, accuracy, color=look.color, linewidth=1)
    sizes = 8 + 120 * counts / counts.sum()
    axes.scatter(confidence, accuracy, sizes, color=look.color, marker=look.marker, alpha=0.8)


def _write_cells(axes: Axes, shares: NDArray[np.float64]) -> None:
    """Percent into every cell of a confusion matrix [K, K] that holds at least half a percent."""
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            color = "white" if share > 0.4 else "black"
            axes.text(
                column, row, f"{100 * share:.0f}", color=color, size=6, ha="center", va="center"
            )
