"""The picture of a training run: its losses against the images seen."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from factory.fit.history import Row, verdicts_of

_STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def loss_curves(history: Sequence[Row]) -> bytes:
    """PNG of the training loss of every row, and of the validation loss of every checkpoint."""
    verdicts = verdicts_of(history)
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        axes = figure.add_subplot()
        axes.plot(
            [row.images for row in history],
            [row.loss for row in history],
            color="#332288",
            linewidth=1,
            label="training",
        )
        axes.plot(
            [verdict.images for verdict in verdicts],
            [verdict.validation_loss for verdict in verdicts],
            color="#CC6677",
            marker="o",
            label="validation (averaged weights)",
        )
        axes.set_xlabel("training images seen")
        axes.set_ylabel("loss")
        axes.legend()
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=100, metadata={"Software": None})
    return data.getvalue()
