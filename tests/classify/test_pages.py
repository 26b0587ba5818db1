"""The page for people: it says what the report says, stands alone, and suits a browser."""

import base64

import pytest
import yaml

from factory.classify.pages import report_html, verdict_sentence
from factory.classify.pictures import draw_pictures
from factory.classify.prepare import Prepared
from factory.classify.results import ClassifyReport, Verdict
from factory.metrics.evidence import Comparison, Interval
from factory.pages.folder import save_report
from factory.spec import ClassifySpec
from factory.store import Store
from tests.classify.comparisons import NAMES, ZERO_SHOT, fake_comparison
from tests.pages.browser import look_in_chromium, needs_chromium
from tests.pages.reading import Page


def read_page(prepared: Prepared) -> Page:
    return Page(Store(prepared.root).get("report.html").decode())


def save(prepared: Prepared, report: ClassifyReport) -> None:
    pictures = draw_pictures(report, prepared.sources)
    html = report_html(report, prepared.spec, pictures)
    save_report(Store(prepared.root), report, html, pictures)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Prepared, ClassifyReport]:
    """Three arms with a zero-shot row, written to a root."""
    prepared, report = fake_comparison(tmp_path_factory.mktemp("saved"), zero_shot=ZERO_SHOT)
    save(prepared, report)
    return prepared, report


def test_the_root_holds_the_report_and_every_picture_of_the_page(saved):
    prepared, report = saved
    store = Store(prepared.root)
    assert ClassifyReport.model_validate_json(store.get("report.json")) == report
    shown = {
        base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
        for tag, attributes in read_page(prepared).tags
        if tag == "img"
    }
    stored = {store.get(name) for name in store.sizes("pictures")}
    assert shown == stored
    assert len(stored) == 8


def test_the_page_needs_nothing_but_itself(saved):
    tags = read_page(saved[0]).tags
    for _, attributes in tags:
        for name in ("src", "href", "data", "action", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "script" not in {tag for tag, _ in tags}


def test_the_page_can_be_heard_as_well_as_seen(saved):
    tags = read_page(saved[0]).tags
    names = [tag for tag, _ in tags]
    assert names.count("h1") == names.count("main") == 1
    assert names.count("caption") == names.count("table")
    assert names.count("figcaption") == names.count("figure")
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    assert all(attributes["scope"] for tag, attributes in tags if tag == "th")


def test_names_are_shown_as_they_are_written(saved):
    text = read_page(saved[0]).text
    for name in NAMES:
        assert name in text


def test_the_table_of_arms_holds_counts_and_scores(saved):
    prepared, report = saved
    header, *rows = read_page(prepared).tables[0]
    assert [row[0].split()[0] for row in rows] == [*report.arms, "zero-shot"]
    assert [row[0].endswith("baseline") for row in rows] == [True, False, False, False]
    for row, arm in zip(rows, report.arms.values(), strict=False):
        cells = dict(zip(header, row, strict=True))
        assert cells["Real"] == str(sum(arm.real_counts.values()))
        assert cells["Synthetic"] == str(sum(arm.synthetic_counts.values()))
        assert cells["Images seen"] == f"{arm.images_seen:,}"
        assert cells["Top-1"].startswith(f"{100 * arm.top1.mean:.1f}")
        assert f"{100 * arm.macro_f1.low:.1f} to {100 * arm.macro_f1.high:.1f}" in cells["Macro F1"]
    assert rows[-1][6:8] == ["50.0\u00a0%", "48.0\u00a0%"]


def test_every_class_is_compared_in_every_arm(saved):
    prepared, report = saved
    header, *rows = read_page(prepared).tables[2]
    assert header[3:] == [verdict.arm for verdict in report.verdicts]
    assert [row[0] for row in rows] == list(NAMES)
    for row in rows:
        for cell, verdict in zip(row[3:], report.verdicts, strict=True):
            assert verdict.per_class[row[0]].outcome in cell


def test_answers_come_with_what_the_generator_had_seen(saved):
    prepared, report = saved
    before_the_arms = read_page(prepared).text.split("Training images")[0]
    assert [verdict.overall.outcome for verdict in report.verdicts] == ["helps", "hurts"]
    for verdict in report.verdicts:
        assert verdict_sentence(verdict, report.confidence) in before_the_arms
        assert verdict.leakage in before_the_arms
    assert "2 in synthetic" in before_the_arms


def test_the_page_holds_the_spec_it_was_made_by(saved):
    prepared, _ = saved
    written = Store(prepared.root).get("report.html").decode().split("<pre")[1]
    asked = yaml.safe_load(written[written.index(">") + 1 : written.index("</pre>")])
    assert ClassifySpec.model_validate(asked) == prepared.spec


def test_the_same_trainings_give_the_same_bytes(saved):
    prepared, report = saved
    store = Store(prepared.root)
    pictures = draw_pictures(report, prepared.sources)
    assert {name: store.get(f"pictures/{name}.png") for name in pictures} == pictures
    page = report_html(report, prepared.spec, pictures)
    assert store.get("report.html").decode() == page


def comparison(outcome, mean, low, high, *, detectable=None, note="") -> Verdict:
    seeds = 1 if low is None else 3
    gap = Interval(mean=mean, low=low, high=high, spread=None, num_seeds=seeds)
    overall = Comparison(
        outcome=outcome, difference=gap, p_value=None, detectable=detectable, note=note
    )
    return Verdict(
        arm="b", baseline="a", overall=overall, per_class={}, f1_difference=gap, leakage=""
    )


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            comparison("helps", 0.018, 0.009, 0.027),
            "b helps: +1.8 points (95 % interval +0.9 to +2.7), against a",
        ),
        (
            comparison("hurts", -0.0012, -0.0023, -0.0001),
            "b hurts: \u22120.12 points (95 % interval \u22120.23 to \u22120.01), against a",
        ),
        (
            # A larger gap is found more often, so the stated one is rounded up.
            comparison("no evidence", -0.003, -0.011, 0.005, detectable=0.01101),
            "no evidence that b differs from a: \u22120.3 points "
            "(95 % interval \u22121.1 to +0.5); a gap of 1.2 points or more "
            "would have been found with 80 % power",
        ),
        (
            comparison("no evidence", 0.018, None, None, note="one seed tells nothing"),
            "no evidence that b differs from a: +1.8 points; one seed tells nothing",
        ),
    ],
    ids=["helps", "hurts a little", "no evidence", "one seed"],
)
def test_the_answer_is_one_sentence(verdict, sentence):
    assert verdict_sentence(verdict, 0.95).replace("\u00a0", " ") == sentence


def test_a_failed_training_is_named(saved):
    prepared, report = saved
    failed = report.model_copy(update={"failures": {"real, seed 2": "loss is <nan> at step 7"}})
    text = Page(report_html(failed, prepared.spec, {})).text
    assert "real, seed 2: loss is <nan> at step 7" in text


def test_one_arm_with_one_seed_has_a_page_without_verdicts_and_intervals(tmp_path):
    prepared, report = fake_comparison(tmp_path, arms={"real": {}}, num_seeds=1)
    save(prepared, report)
    page = read_page(prepared)
    assert "nothing is compared" in page.text
    assert page.tables[0][1][6].strip() == f"{100 * report.arms['real'].top1.mean:.1f}\u00a0%"


@needs_chromium
def test_a_browser_shows_all_of_it_without_sideways_scrolling(saved, tmp_path):
    page = Store(saved[0].root).get("report.html")
    look = look_in_chromium(page, tmp_path)
    assert (look.images, look.missing, look.complaints) == (8, 0, [])
    assert all(taken <= given for given, taken in look.widths.items())
