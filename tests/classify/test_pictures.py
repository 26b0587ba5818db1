"""Pictures of a comparison: which there are, what they show, and how large they get."""

import io

import numpy as np
import pytest
from PIL import Image

from factory.classify.findings import MOST_COMPARED, arm_series, most_different_classes
from factory.classify.pages import report_html
from factory.classify.pictures import NUM_EXAMPLES, draw_pictures, example_sheet
from factory.classify.results import ClassifyReport
from factory.metrics.evidence import Interval
from factory.spec import Arm
from tests.classify.comparisons import fake_comparison, make_source

REPLACED = {"mix": {"kind": "replace", "fraction": 0.5}}
SERIES = {
    "real": {"mix": {"kind": "real"}},
    "half": REPLACED,
    "fifth": {"mix": {"kind": "replace", "fraction": 0.2}},
    "half alone": {"mix": {"kind": "keep", "fraction": 0.5}},
    "half paired": REPLACED | {"batches": "paired"},
    "half, same steps": REPLACED,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> ClassifyReport:
    return fake_comparison(tmp_path_factory.mktemp("comparison"))[1]


def test_many_classes_stay_small(tmp_path):
    names = [f"class {number}" for number in range(120)]
    arms = {name: SERIES[name] for name in ("real", "half", "fifth")}
    prepared, report = fake_comparison(
        tmp_path, arms=arms, class_names=names, num_real=3, num_test=10
    )
    pictures = draw_pictures(report, prepared.sources)
    assert "series" in pictures
    for data in pictures.values():
        assert max(Image.open(io.BytesIO(data)).size) < 4_000
    page = report_html(report, prepared.spec, pictures)
    assert len(page) < 4_000_000
    assert f"the {MOST_COMPARED} of 120 classes" in page


def test_compared_are_the_classes_that_differ_most(report):
    names = [f"class {number}" for number in range(100)]

    def accuracies(gaps):
        none = {"low": None, "high": None, "spread": None, "num_seeds": 1}
        return {name: Interval(mean=0.5 + gaps.get(name, 0), **none) for name in names}

    planted = {names[7 * place]: (-1) ** place * 0.1 for place in range(12)}
    arms = {
        name: arm.model_copy(
            update={"per_class_accuracy": accuracies(planted if name == "synthetic" else {})}
        )
        for name, arm in report.arms.items()
    }
    compared = most_different_classes(report.model_copy(update={"arms": arms}))
    assert len(compared) == MOST_COMPARED
    assert set(planted) <= set(compared)
    assert compared == sorted(compared, key=names.index)


def with_arms(report: ClassifyReport, arms: dict[str, dict]) -> ClassifyReport:
    """The report with arms of these names and settings, all with the same scores."""
    results = {
        name: report.arms["real"].model_copy(update={"name": name, "arm": Arm.model_validate(arm)})
        for name, arm in arms.items()
    }
    return report.model_copy(update={"arms": results})


def test_arms_that_differ_in_a_number_are_a_series(report):
    series = arm_series(with_arms(report, SERIES))
    numbers = [[point.number for point in points] for points in series.lines.values()]
    assert numbers == [[0.2, 0.5], [0.5], [0.5], [0.5]]
    assert list(series.levels) == ["real"]


@pytest.mark.parametrize(
    "odd",
    [
        {"mix": {"kind": "oversample"}},
        {"mix": {"kind": "multiplier", "multiplier": 2}},
        {"mix": {"kind": "add", "images_per_class": {"cat": 3}}},
    ],
    ids=lambda arm: arm["mix"]["kind"],
)
def test_arms_without_a_number_in_common_are_no_series(report, odd):
    assert arm_series(with_arms(report, SERIES | {"odd": odd})) is None


@pytest.mark.parametrize(("side", "shown"), [(12, 48), (28, 28), (100, 48)])
def test_examples_are_of_a_size_to_look_at(side, shown):
    source = make_source("photos", ("a", "b"), [NUM_EXAMPLES, 3], side=side)
    sheet = np.asarray(Image.open(io.BytesIO(example_sheet(source))))
    gap = 2 * (shown // side or 1)
    assert sheet.shape[0] == gap + 2 * (shown + gap)
    # Of the second class, three images and then nothing.
    row = sheet[-gap - shown : -gap, -(NUM_EXAMPLES * (shown + gap)) :]
    filled = [(row[:, x : x + shown] < 255).any() for x in range(0, row.shape[1], shown + gap)]
    assert filled == [True] * 3 + [False] * 7
