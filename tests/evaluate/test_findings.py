"""What in a report is worth a picture: the series' curves, and the classes that miss most."""

import pytest

from factory.evaluate.findings import (
    MOST_COMPARED,
    most_missed_class,
    most_missed_classes,
    series_curves,
)
from tests.evaluate.evaluations import NAMES, fake_evaluation

VALUES = {"late": 100.0, "early": 0.0, "middle": 50.0}
QUALITIES = {"late": 0.2, "early": 0.9, "middle": 0.5}


def curves_of(**options):
    series = {"parameter": "t_re", "values": VALUES}
    report = fake_evaluation(QUALITIES, series=series, **options).report
    return {curve.title: curve for curve in series_curves(report)}


def test_curves_go_by_the_number_and_not_by_the_order_of_datasets():
    curves = curves_of()
    recall = curves["recall"].lines[""]
    assert list(recall) == [0, 50, 100]
    assert [value.value for value in recall.values()] == pytest.approx(
        [0.9 * quality**2 for quality in (0.9, 0.5, 0.2)]
    )
    assert curves["recall"].levels[""].value == pytest.approx(0.9)
    assert list(curves["told apart from real images"].lines) == ["pixel", "dct"]
    assert len(curves) == 7


def test_each_network_has_its_distances_and_the_first_one_the_rest():
    titles = list(curves_of(extractors=("efficientnet_lite0", "inception")))
    assert titles[2:4] == ["FID", "kernel distance \u00d710\u00b3 (inception)"]
    assert len(titles) == len(set(titles)) == 9


def test_what_was_not_measured_has_no_curve():
    curves = curves_of(per_class=False, has_held_out=False)
    assert not any(title.startswith(("agreement", "output")) for title in curves)
    assert all(curve.levels == {} for curve in curves.values())


def test_without_a_series_there_are_no_curves():
    assert series_curves(fake_evaluation(QUALITIES).report) == []


def test_shown_are_the_classes_that_miss_most_of_the_variety():
    # Recall falls from class to class.
    names = [f"class {number}" for number in range(50)]
    report = fake_evaluation(QUALITIES, class_names=names, count=2).report
    assert most_missed_classes(report) == names[-MOST_COMPARED:]
    assert most_missed_class(report) == names[-1]
    assert most_missed_class(fake_evaluation(QUALITIES).report) == NAMES[-1]


def test_without_labels_no_class_is_shown():
    report = fake_evaluation(QUALITIES, per_class=False).report
    assert most_missed_class(report) is None
    assert most_missed_classes(report) == []
