"""Charts of a search, one function each; draw and save them within `rc_context(looks.STYLE)`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from factory.pages.figures import WIDTH, draw_interval, name_rows, panels, percent
from factory.pages.looks import BASELINE, QUIET, Look, pick_looks, shorten
from factory.spec import Parameter, Range
from factory.tune import findings
from factory.tune.results import TrialResult, TuneReport
from factory.tune.space import value_in_words, values
from factory.tune.words import column_names, money

_CHOSEN = Look(pick_looks(2)[0].color, "*")
_TRIAL = Look(pick_looks(2)[1].color, "o")
_ACCURACY = "accuracy on the validation images"
_MOST_TICKS = 8
"""Values of a list that its axis names one by one."""
_LEAST_APART = 0.08
"""Share of an axis that must lie between two values so that both can be named."""


def parameters(report: TuneReport, space: Mapping[str, Parameter]) -> Figure:
    """Accuracy of every trial by each parameter that was searched, and its mean at each value."""
    names = column_names(space)
    figure, grid = panels(len(space), columns=3, height=2.7, share_x=False)
    for panel, (path, parameter) in zip(grid, space.items(), strict=True):
        places = _place_values(panel, path, parameter, report.trials)
        _draw_trials(panel, report, places)
        if values(parameter) is not None:
            _draw_means(panel, report.trials, places, joined=_is_number(parameter))
        panel.set_xlabel(shorten(names[path], 40))
    grid[0].yaxis.set_major_formatter(percent())
    figure.supylabel(_ACCURACY, fontsize=9)
    _add_legend(figure, *grid)
    return figure


def best_so_far(report: TuneReport) -> Figure:
    """Accuracy of the trials in the order of the search, and the best up to each."""
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot()
    _draw_trials(axes, report, {trial.number: trial.number for trial in report.trials})
    done = findings.finished(report)
    numbers = [trial.number for trial in done]
    best = findings.best_so_far(done)
    color = BASELINE.color
    axes.step(numbers, best, where="post", color=color, linewidth=1.2, label="best so far")
    axes.set_xlabel("trial, in the order of the search")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(_ACCURACY)
    axes.yaxis.set_major_formatter(percent())
    _add_legend(figure, axes)
    return figure


def cost_front(report: TuneReport) -> Figure:
    """Accuracy of every finished trial by what it took; those that none beats in both joined."""
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.add_subplot()
    spent, front = findings.expenses(report), findings.cost_front(report)
    _draw_trials(axes, report, spent.by_number)
    style = {"where": "post", "color": BASELINE.color, "linewidth": 1.2}
    costs = [spent.by_number[trial.number] for trial in front]
    axes.step(costs, [trial.accuracy for trial in front], label="the front", **style)
    for (cost, accuracy), name in _names(front, spent.by_number).items():
        axes.annotate(name, (cost, accuracy), (-4, 5), textcoords="offset points", ha="right")
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel("cost of the trial" if spent.in_money else "device time of the trial, s")
    if spent.in_money:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: money(cost)))
    axes.set_ylabel(_ACCURACY)
    axes.yaxis.set_major_formatter(percent())
    _add_legend(figure, axes)
    return figure


def confirmed(report: TuneReport) -> Figure:
    """Accuracy of the best with fresh seeds, with intervals, beside that in the search."""
    figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(report.confirmed)))
    axes = figure.add_subplot()
    searched = {trial.number: trial.accuracy for trial in report.trials}
    for place, trial in enumerate(report.confirmed):
        first = place == 0
        around = (trial.accuracy.low, trial.accuracy.high)
        look, label = Look(_TRIAL.color, "o"), "with fresh seeds" if first else None
        draw_interval(axes, trial.accuracy.mean, around, place, look, along="x", label=label)
        dots = [place + 0.25] * len(trial.accuracies)
        axes.plot(trial.accuracies, dots, ".", color=_TRIAL.color, alpha=0.6, markersize=6)
        hollow = {"marker": "D", "s": 30, "facecolors": "none", "edgecolors": BASELINE.color}
        label = "in the search" if first else None
        axes.scatter(searched[trial.number], place, label=label, zorder=3, **hollow)
    name_rows(axes, [f"trial {trial.number}" for trial in report.confirmed])
    axes.set_xlabel(_ACCURACY)
    axes.xaxis.set_major_formatter(percent())
    _add_legend(figure, axes)
    return figure


def _draw_trials(axes: Axes, report: TuneReport, places: Mapping[int, float]) -> None:
    """Stopped ones hollow, the chosen one a star.

    Args:
        axes: to draw on.
        report: the search.
        places: number of a trial -> its place on the x axis; others are not drawn.
    """
    floor = _floor(report)
    chosen = report.confirmed[0].number
    groups = {
        "trained to the end": [t for t in report.trials if t.is_finished and t.number != chosen],
        "stopped early": [t for t in report.trials if not t.is_finished],
        "chosen": [t for t in report.trials if t.number == chosen],
    }
    styles: dict[str, dict[str, Any]] = {
        "trained to the end": {"color": _TRIAL.color, "alpha": 0.75},
        "stopped early": {"facecolors": "none", "edgecolors": QUIET},
        "chosen": {"color": _CHOSEN.color, "marker": _CHOSEN.marker, "s": 150, "zorder": 4},
    }
    for label, trials in groups.items():
        shown = [trial for trial in trials if trial.number in places]
        if shown:
            x = [places[trial.number] for trial in shown]
            style = {"s": 26, "label": label} | styles[label]
            axes.scatter(x, [max(trial.accuracy, floor) for trial in shown], **style)


def _floor(report: TuneReport) -> float:
    """Where trials are drawn that were stopped at less: they would press the others together."""
    scores = [trial.accuracy for trial in findings.finished(report)]
    return min(scores) - 0.15 * (max(scores) - min(scores))


def _place_values(
    axes: Axes, path: str, parameter: Parameter, trials: Sequence[TrialResult]
) -> dict[int, float]:
    """Number of a trial -> where its value lies: numbers on a scale, words beside each other."""
    if _is_number(parameter):
        places = {trial.number: float(trial.config[path]) for trial in trials}
        if not isinstance(parameter, Range):
            _tick_numbers(axes, sorted({float(value) for value in parameter}))
        elif parameter.log:
            _scale_log(axes)
        return places
    words = list(dict.fromkeys(value_in_words(value) for value in parameter))
    long = len(words) > 1 and sum(len(word) for word in words) > 30
    angle = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(range(len(words)), [shorten(word, 18) for word in words], **angle)
    axes.set_xlim(-0.5, len(words) - 0.5)
    axes.grid(visible=False, axis="x")
    return {t.number: words.index(value_in_words(t.config[path])) for t in trials}


def _is_number(parameter: Parameter) -> bool:
    return isinstance(parameter, Range) or all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in parameter
    )


def _tick_numbers(axes: Axes, numbers: Sequence[float]) -> None:
    """Name the numbers themselves, where that leaves them legible; they are in order."""
    gaps = [after - before for before, after in pairwise(numbers)]
    legible = not gaps or min(gaps) >= _LEAST_APART * (numbers[-1] - numbers[0])
    if len(numbers) <= _MOST_TICKS and legible:
        axes.set_xticks(numbers, [f"{number:.4g}" for number in numbers])


def _scale_log(axes: Axes) -> None:
    axes.set_xscale("log")
    # A range of less than a decade may hold no power of ten.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_means(
    axes: Axes, trials: Sequence[TrialResult], places: Mapping[int, float], *, joined: bool
) -> None:
    """The mean of finished trials at each place."""
    at: dict[float, list[float]] = {}
    for trial in trials:
        if trial.is_finished:
            at.setdefault(places[trial.number], []).append(trial.accuracy)
    means = [fmean(at[place]) for place in sorted(at)]
    style = {"color": BASELINE.color, "linewidth": 1.2 if joined else 0, "marker": "_"}
    label = "mean of those trained to the end"
    axes.plot(sorted(at), means, markersize=14, label=label, **style)


def _names(
    trials: Sequence[TrialResult], spent: Mapping[int, float]
) -> dict[tuple[float, float], str]:
    """Point -> numbers of the trials that lie there."""
    at: dict[tuple[float, float], list[str]] = {}
    for trial in trials:
        point = (spent[trial.number], trial.accuracy)
        at.setdefault(point, []).append(str(trial.number))
    return {point: ", ".join(numbers) for point, numbers in at.items()}


def _add_legend(figure: Figure, *panels: Axes) -> None:
    """One for all panels, each label once."""
    handles = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4)
