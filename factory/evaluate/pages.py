"""The report for people: how close the synthetic images are to the real ones, as one HTML page."""

import math
from collections.abc import Mapping

from factory.evaluate.findings import (
    MOST_COMPARED,
    biased_classes,
    class_names,
    detection_domains,
    first_extractor,
    has_limit,
    held_out_of,
    in_thousandths,
    most_missed_class,
    overall,
    synthetic_datasets,
)
from factory.evaluate.looks import CLASS_COLORS, STATISTICS
from factory.evaluate.maps import MOST_POINTS
from factory.evaluate.pictures import NUM_CLASSES
from factory.evaluate.results import EvaluateReport
from factory.evaluate.words import (
    answer_lines,
    answers,
    copies_in_words,
    number,
    number_range,
    percentage_range,
    signed,
)
from factory.pages.page import render_page
from factory.sources.trained_on import seen_in_words
from factory.spec import EvaluateSpec


def report_html(report: EvaluateReport, spec: EvaluateSpec, pictures: Mapping[str, bytes]) -> str:
    """The page; the same arguments give the same text.

    Args:
        report: the evaluation.
        spec: what was asked.
        pictures: name -> PNG, from `draw_pictures`; the page leaves out those that are missing.
    """
    names = class_names(report)
    return render_page(
        "factory.evaluate",
        spec=spec,
        pictures=pictures,
        filters={
            "answer_lines": lambda dataset: answer_lines(report, dataset),
            "copies": lambda found: copies_in_words(report, found),
            "first_of": first_extractor,
            "number": number,
            "number_range": number_range,
            "overall": overall,
            "percent_range": percentage_range,
            "seen": seen_in_words,
            "signed": signed,
            "thousandths": in_thousandths,
        },
        report=report,
        class_names=names,
        synthetic=synthetic_datasets(report),
        answers=answers(report),
        held_out=held_out_of(report),
        rows=[
            ("real", report.real, True),
            *((name, found.source, found.is_real) for name, found in report.datasets.items()),
        ],
        domains=detection_domains(report),
        has_limit=has_limit(report),
        largest_entropy=math.log(max(len(names), 1)),
        num_biased=len(biased_classes(report)),
        missed_class=most_missed_class(report),
        statistics=STATISTICS,
        most_compared=MOST_COMPARED,
        num_sampled=NUM_CLASSES,
        num_colors=len(CLASS_COLORS),
        most_points=MOST_POINTS,
    )
