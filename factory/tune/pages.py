"""The report for people: the mix that was chosen, what it is worth, and what the search cost."""

import shlex
from collections.abc import Mapping

from factory.classify.pages import percent_range, verdict_sentence
from factory.pages.page import render_page
from factory.spec import TuneSpec
from factory.tune.findings import cost_front, drawing_cost_per_1000, expenses, ranked
from factory.tune.results import CHOSEN_ARM, TuneReport
from factory.tune.space import value_in_words
from factory.tune.words import (
    column_names,
    default_in_words,
    money,
    parameter_in_words,
)

MOST_OPEN = 30
"""Trials that the page shows at once; the others have to be unfolded."""


def report_html(report: TuneReport, spec: TuneSpec, pictures: Mapping[str, bytes]) -> str:
    """The page; the same arguments give the same text.

    Args:
        report: the search.
        spec: what was asked.
        pictures: name -> PNG, from `draw_pictures`; the page leaves out those that are missing.
    """
    trials = ranked(report)
    return render_page(
        "factory.tune",
        spec=spec,
        pictures=pictures,
        filters={
            "money": money,
            "percent_range": percent_range,
            "quote": shlex.quote,
            "sentence": verdict_sentence,
        },
        report=report,
        chosen=report.confirmed[0].number,
        chosen_arm=CHOSEN_ARM,
        columns=column_names(spec.space),
        confirmed=[trial.number for trial in report.confirmed],
        cost_per_1000=drawing_cost_per_1000(report),
        default=lambda path: default_in_words(spec, path),
        expenses=expenses(report),
        front=cost_front(report),
        searched=parameter_in_words,
        tables=[trials[:MOST_OPEN], trials[MOST_OPEN:]],
        trials={trial.number: trial for trial in trials},
        value=value_in_words,
    )
