"""Parts of charts: grids of panels, named rows, intervals; and a chart as PNG.

Draw and save charts within `rc_context(looks.STYLE)`.
"""

import io
from collections.abc import Iterable
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from factory.pages.looks import Look

WIDTH = 9.6
"""Of a chart, in inches; one is `looks.PAGE_DPI` px of the page."""


def png(figure: Figure) -> bytes:
    """A chart as PNG."""
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png")
    return encoded.getvalue()


def panels(
    number: int, *, columns: int, height: float, share_x: bool = True, share_y: bool = True
) -> tuple[Figure, list[Axes]]:
    """A grid of panels, each numbered at its lower edge where none is below it.

    Args:
        number: of panels.
        columns: most of them in a row.
        height: of one, in inches.
        share_x: whether all have one x axis, numbered at the lower edge alone.
        share_y: whether all have one y axis, numbered at the left edge alone.
    """
    columns = min(columns, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(WIDTH, rows * height + 0.9))
    grid: list[Axes] = list(
        figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False).flat
    )
    for axes in grid[number:]:
        axes.remove()
    for axes in grid[max(0, number - columns) : number]:
        axes.tick_params(labelbottom=True)
    return figure, grid[:number]


def name_rows(axes: Axes, names: Iterable[str]) -> None:
    """Name rows 0, 1, ... from the top down."""
    named = list(names)
    axes.set_yticks(range(len(named)), named)
    axes.set_ylim(len(named) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def draw_interval(
    axes: Axes,
    value: float,
    around: tuple[float | None, float | None],
    place: float,
    look: Look,
    *,
    along: Literal["x", "y"],
    label: str | None = None,
) -> None:
    """A value, and its interval where it has one.

    Args:
        axes: to draw on.
        value: what was measured.
        around: ends of its interval.
        place: on the other axis.
        look: of the point.
        along: the axis of the value.
        label: in the legend.
    """
    low, high = around
    error = None if low is None or high is None else [[value - low], [high - value]]
    style: dict[str, Any] = {"fmt": look.marker, "color": look.color, "label": label}
    style |= {"markersize": 5, "capsize": 3, "elinewidth": 1.2}
    if along == "x":
        axes.errorbar(value, place, xerr=error, **style)
    else:
        axes.errorbar(place, value, yerr=error, **style)


def percent() -> PercentFormatter:
    """Of an axis of fractions."""
    return PercentFormatter(1, symbol="\u00a0%")
