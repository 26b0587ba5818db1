"""What in a search is worth a table or a picture: its order, its records, its cost front."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from factory.tune.results import TrialResult, TuneReport


class Expenses(NamedTuple):
    """What each finished trial took: its training, and its images as if drawn for it alone."""

    in_money: bool
    """Else in seconds on a device."""
    by_number: dict[int, float]


def ranked(report: TuneReport) -> list[TrialResult]:
    """The trials, the best first; those that were stopped come last."""
    return sorted(report.trials, key=lambda trial: (not trial.is_finished, -trial.accuracy))


def finished(report: TuneReport) -> list[TrialResult]:
    """The trials that were trained to the end, in the order of the search."""
    return [trial for trial in report.trials if trial.is_finished]


def best_so_far(trials: Sequence[TrialResult]) -> list[float]:
    """The highest accuracy up to each of `trials`."""
    return list(itertools.accumulate((trial.accuracy for trial in trials), max))


def expenses(report: TuneReport) -> Expenses:
    """Of all finished trials, in money where every one has a cost."""
    trials = finished(report)
    costs = {trial.number: trial.cost for trial in trials if trial.cost is not None}
    if len(costs) == len(trials):
        return Expenses(True, costs)
    seconds = {t.number: t.training_seconds + t.drawing_seconds for t in trials}
    return Expenses(False, seconds)


def cost_front(report: TuneReport) -> list[TrialResult]:
    """The finished trials that no other beats in both accuracy and expense, the cheapest first."""
    trials, spent = finished(report), expenses(report).by_number
    points = [(spent[trial.number], trial.accuracy) for trial in trials]
    return [trials[place] for place in non_dominated(points)]


def non_dominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, score) that no other point dominates, the cheapest first.

    A point dominates another if it costs no more, scores no less, and is not equal to it; of
    equal points all stay.
    """
    front: list[int] = []
    for place in sorted(
        range(len(points)), key=lambda place: (points[place][0], -points[place][1])
    ):
        if (
            not front
            or points[place][1] > points[front[-1]][1]
            or points[place] == points[front[-1]]
        ):
            front.append(place)
    return front


def drawing_cost_per_1000(report: TuneReport) -> float | None:
    """Of 1,000 accepted images of all datasets together; None where a price is missing."""
    costs = [dataset.cost for dataset in report.datasets if dataset.cost is not None]
    if not report.num_images or len(costs) < len(report.datasets):
        return None
    return 1000 * sum(costs) / report.num_images
