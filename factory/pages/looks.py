"""How charts look: their settings, and the colours and markers that tell things apart.

All colours can be told apart by the colour-blind, and markers differ where colours do.
"""

from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

PAGE_DPI = 100
"""Pixels of a page that an inch of a chart takes."""
DENSITY = 2
"""Pixels of a chart for each pixel of a page."""
REAL, SYNTHETIC = "#0072B2", "#E69F00"
"""Colours of real and synthetic images: blue and orange of Okabe and Ito's scheme."""
QUIET = "#777777"
"""Colour of what stands for nothing that is compared."""
STYLE: dict[Any, Any] = {
    "figure.dpi": PAGE_DPI,
    "savefig.dpi": PAGE_DPI * DENSITY,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    # Names come from users, and a $ in one begins no formula.
    "text.parse_math": False,
}
"""Settings of matplotlib."""


class Look(NamedTuple):
    """How one of several things that are compared is drawn."""

    color: str
    marker: str


BASELINE = Look("#222222", "s")
"""That of what the others are compared with."""

_MUTED = (
    *("#CC6677", "#332288", "#117733", "#DDCC77", "#882255"),
    *("#44AA99", "#AA4499", "#999933", "#88CCEE"),
)
"""Paul Tol's scheme of this name; it holds neither REAL nor SYNTHETIC."""


def pick_looks(number: int) -> list[Look]:
    """So many different looks."""
    colors = list(_MUTED[:number])
    if number > len(_MUTED):
        colors = [to_hex(color) for color in colormaps["viridis"](np.linspace(0, 0.95, number))]
    return [Look(color, marker) for color, marker in zip(colors, cycle("o^Dv<>Ph"), strict=False)]


def shorten(name: str, length: int = 24) -> str:
    """A name that leaves room for the chart."""
    return name if len(name) <= length else name[: length - 1] + "…"
