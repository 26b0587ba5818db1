"""The report for people: one HTML page that holds its pictures, without scripts or network."""

import math
from collections.abc import Mapping

from factory.classify.findings import MOST_COMPARED
from factory.classify.leakage import seen_in_words
from factory.classify.pictures import NUM_EXAMPLES
from factory.classify.results import ClassifyReport, Verdict
from factory.metrics.evidence import POWER, Interval
from factory.pages.looks import REAL, SYNTHETIC
from factory.pages.page import render_page
from factory.spec import ClassifySpec

_SIGNS = {"helps": "▲", "no evidence": "●", "hurts": "▼"}
"""Outcome -> what marks it beside its colour."""


def report_html(report: ClassifyReport, spec: ClassifySpec, pictures: Mapping[str, bytes]) -> str:
    """The page; the same arguments give the same text.

    Args:
        report: the comparison.
        spec: what was asked.
        pictures: name -> PNG, from `draw_pictures`; the page leaves out those that are missing.
    """
    return render_page(
        "factory.classify",
        spec=spec,
        pictures=pictures,
        filters={
            "gap": gap_in_words,
            "p_value": p_value,
            "percent_range": percent_range,
            "points": points,
            "points_range": points_range,
            "seen": seen_in_words,
            "sentence": verdict_sentence,
            "sign": _SIGNS.__getitem__,
        },
        report=report,
        most_compared=MOST_COMPARED,
        num_examples=NUM_EXAMPLES,
        colors={"real": REAL, "synthetic": SYNTHETIC},
    )


def verdict_sentence(verdict: Verdict, confidence: float) -> str:
    """The answer in one sentence, e.g. "b helps: +1.8 points (95 % interval ...), against a"."""
    overall, arm, baseline = verdict.overall, verdict.arm, verdict.baseline
    gap = gap_in_words(overall.difference, confidence)
    if overall.outcome != "no evidence":
        return f"{arm} {overall.outcome}: {gap}, against {baseline}"
    words = [f"no evidence that {arm} differs from {baseline}: {gap}"]
    if overall.detectable is not None:
        words.append(
            f"a gap of {_ceil(overall.detectable)} points or more "
            f"would have been found with {100 * POWER:g}\u00a0% power"
        )
    if overall.note:
        words.append(overall.note)
    return "; ".join(words)


def percent_range(interval: Interval) -> str:
    """The interval of a score, e.g. "90.5 to 91.9"; empty if it has none."""
    if interval.low is None or interval.high is None:
        return ""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def gap_in_words(difference: Interval, confidence: float) -> str:
    """E.g. "+1.8 points (95 % interval +0.9 to +2.7)"."""
    words, around = f"{points(difference)} points", points_range(difference)
    return f"{words} ({100 * confidence:g}\u00a0% interval {around})" if around else words


def points(difference: Interval) -> str:
    """A difference in percentage points with its sign, e.g. "+1.8"."""
    return _signed(difference.mean, _decimals(difference))


def points_range(difference: Interval) -> str:
    """The interval of a difference, e.g. "+0.9 to +2.7"; empty if it has none."""
    if difference.low is None or difference.high is None:
        return ""
    decimals = _decimals(difference)
    return f"{_signed(difference.low, decimals)} to {_signed(difference.high, decimals)}"


def p_value(p: float | None) -> str:
    """E.g. "p = 0.012"; empty if it has none."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _decimals(difference: Interval) -> int:
    """A second one where the interval is so narrow that rounding would hide it."""
    if difference.low is None or difference.high is None:
        return 1
    return 1 if difference.high - difference.low >= 0.005 else 2


def _signed(fraction: float, decimals: int) -> str:
    return f"{100 * fraction:+.{decimals}f}".replace("-", "\u2212")


def _ceil(fraction: float) -> str:
    """Percentage points, rounded up: what is found at a gap is found at a larger one."""
    return f"{math.ceil(1000 * fraction) / 10:.1f}"
