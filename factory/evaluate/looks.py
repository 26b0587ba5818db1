"""The colours, markers and words that tell the datasets of an evaluation apart."""

from factory.evaluate.findings import synthetic_datasets
from factory.evaluate.results import EvaluateReport
from factory.pages.looks import BASELINE, Look, pick_looks

CLASS_COLORS = (
    *("#0072B2", "#E69F00", "#117733", "#CC6677", "#332288", "#88CCEE"),
    *("#AA4499", "#999933", "#000000", "#44AA99", "#882255", "#BBBBBB"),
)
"""Of classes on a map of features: so many can be told apart."""

STATISTICS = {
    "luminance": "luminance (grey levels)",
    "background_luminance": "luminance of the background (grey levels)",
    "contrast": "contrast (grey levels)",
    "high_frequencies": "high frequencies (squared grey levels)",
    "saturation": "saturation (0 to 1)",
}
"""Simple numbers of images, with their units."""


def dataset_looks(report: EvaluateReport) -> dict[str, Look]:
    """Dataset -> its look, the same in every chart; held-out real images are the dark ones."""
    synthetic = synthetic_datasets(report)
    looks = dict(zip(synthetic, pick_looks(len(synthetic)), strict=True))
    return {name: looks.get(name, BASELINE) for name in report.datasets}
