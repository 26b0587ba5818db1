"""The colours and markers that tell the arms of a comparison apart."""

from factory.classify.results import ClassifyReport
from factory.pages.looks import BASELINE, Look, pick_looks


def arm_looks(report: ClassifyReport) -> dict[str, Look]:
    """Arm -> its look, the same in every chart."""
    baseline = report.baseline
    others = [name for name in report.arms if name != baseline]
    looks = {baseline: BASELINE} | dict(zip(others, pick_looks(len(others)), strict=True))
    return {name: looks[name] for name in report.arms}
