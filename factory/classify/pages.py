"""The report for people: one HTML page that holds its pictures, without scripts or network."""

import base64
import io
import math
from collections.abc import Mapping
from typing import NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from factory.classify.findings import MOST_COMPARED
from factory.classify.leakage import seen_in_words
from factory.classify.looks import DENSITY, REAL, SYNTHETIC
from factory.classify.pictures import NUM_EXAMPLES, draw_pictures
from factory.classify.prepare import Prepared
from factory.classify.results import HTML_NAME, REPORT_NAME, ClassifyReport, Verdict
from factory.metrics.evidence import POWER, Interval
from factory.progress import duration
from factory.spec import ClassifySpec
from factory.store import Store

_SIGNS = {"helps": "▲", "no evidence": "●", "hurts": "▼"}
"""Outcome -> what marks it beside its colour."""


class _Picture(NamedTuple):
    address: str
    """Data URI."""
    width: int
    """On the page, px."""
    height: int


def save_report(store: Store, prepared: Prepared, report: ClassifyReport) -> None:
    """Put report.json, report.html and its pictures, as pictures/*.png, into the root."""
    pictures = draw_pictures(report, prepared.sources)
    for name, data in pictures.items():
        store.put(f"pictures/{name}.png", data)
    store.put(HTML_NAME, report_html(report, prepared.spec, pictures).encode())
    store.put(REPORT_NAME, report.model_dump_json(indent=1).encode())


def report_html(report: ClassifyReport, spec: ClassifySpec, pictures: Mapping[str, bytes]) -> str:
    """The page; the same arguments give the same text.

    Args:
        report: the comparison.
        spec: what was asked.
        pictures: name -> PNG, from `draw_pictures`; the page leaves out those that are missing.
    """
    page = _environment().get_template("report.html.jinja")
    return page.render(
        report=report,
        spec=spec,
        spec_yaml=yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        most_compared=MOST_COMPARED,
        num_examples=NUM_EXAMPLES,
        colors={"real": REAL, "synthetic": SYNTHETIC},
        pictures={name: _embed(name, data) for name, data in pictures.items()},
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


def percent(fraction: float) -> str:
    """E.g. "91.2 %"."""
    return f"{100 * fraction:.1f}\u00a0%"


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


def _embed(name: str, data: bytes) -> _Picture:
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    density = 1 if name.startswith("examples") else DENSITY
    address = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return _Picture(address, width // density, height // density)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("factory.classify", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "duration": duration,
        "gap": gap_in_words,
        "p_value": p_value,
        "percent": percent,
        "percent_range": percent_range,
        "points": points,
        "points_range": points_range,
        "seen": seen_in_words,
        "sentence": verdict_sentence,
        "sign": _SIGNS.__getitem__,
    }
    return environment
