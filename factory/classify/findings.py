"""What in a report is worth a picture: the classes that differ most, and arms in a series."""

from typing import NamedTuple

from factory.classify.results import ArmResult, ClassifyReport
from factory.metrics.evidence import Interval
from factory.spec import Mix

MOST_COMPARED = 20
"""Classes that are compared in a picture."""


class Point(NamedTuple):
    """One arm of a series."""

    number: float
    top1: Interval


class Series(NamedTuple):
    """Arms that differ in one number, and those of real images alone beside them."""

    number: str
    """What the number is, in words."""
    lines: dict[str, list[Point]]
    """What else the arms differ in -> arms in order of their number."""
    levels: dict[str, Interval]
    """Arm of all real images -> its top-1 accuracy."""


def most_different_classes(report: ClassifyReport) -> list[str]:
    """The classes in which some arm is farthest from the baseline, in label order."""
    baseline = report.arms[report.baseline].per_class_accuracy
    gaps = {
        name: max(abs(arm.per_class_accuracy[name].mean - own.mean) for arm in report.arms.values())
        for name, own in baseline.items()
    }
    most = sorted(gaps, key=lambda name: gaps[name], reverse=True)[:MOST_COMPARED]
    return [name for name in baseline if name in most]


def arm_series(report: ClassifyReport) -> Series | None:
    """The arms as a series; None if one of them has no such number, or no two differ in it."""
    levels: dict[str, Interval] = {}
    lines: dict[str, list[Point]] = {}
    numbers = set()
    for arm in report.arms.values():
        if arm.arm.mix.kind == "real":
            levels[arm.name] = arm.top1
            continue
        place = _place(arm.arm.mix)
        if place is None:
            return None
        words, number, line = place
        numbers.add(words)
        lines.setdefault(_line_name(line, arm), []).append(Point(number, arm.top1))
    if len(numbers) != 1 or max(len(points) for points in lines.values()) < 2:
        return None
    for points in lines.values():
        points.sort(key=lambda point: point.number)
    return Series(numbers.pop(), lines, levels)


def _place(mix: Mix) -> tuple[str, float, str] | None:
    """What the mix's number is, the number, and its line; None: it has none."""
    match mix.kind:
        case "ratio":
            return "synthetic images / all images", mix.synthetic_ratio, "fixed number of images"
        case "replace":
            return "real images left out / real images", mix.fraction, "replaced by synthetic"
        case "keep":
            return "real images left out / real images", mix.fraction, "not replaced"
        case "multiplier":
            line = "real + synthetic" if mix.with_real else "synthetic alone"
            return "synthetic images / real images", mix.multiplier, line
        case "add" if isinstance(mix.images_per_class, int):
            return "synthetic images added to each class", mix.images_per_class, "real + synthetic"
        case _:
            return None


def _line_name(line: str, arm: ArmResult) -> str:
    """All that sets the arm apart but its number."""
    words = [
        line,
        arm.arm.synthetic or "",
        _batches_in_words(arm),
        "" if arm.arm.augmentation in (None, "none") else str(arm.arm.augmentation),
        arm.name.partition(", ")[2],  # Of controls only: no arm's own name holds a comma.
    ]
    return ", ".join(word for word in words if word)


def _batches_in_words(arm: ArmResult) -> str:
    if arm.arm.synthetic_ratio is not None:
        return f"{arm.arm.synthetic_ratio:.0%} of every batch synthetic"
    return "paired batches" if arm.arm.batches == "paired" else ""
