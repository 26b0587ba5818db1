"""The page for people and its pictures: they show what the report says, and suit a browser."""

import io
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import yaml
from PIL import Image

from factory.evaluate.pages import report_html
from factory.evaluate.pictures import NUM_CLASSES, SideBySide, draw_pictures, sample_sheet
from factory.evaluate.results import EvaluateReport
from factory.evaluate.words import answer_lines, headline
from factory.pages.folder import save_report
from factory.pages.sheets import side_of
from factory.spec import EvaluateSpec
from factory.spec.evaluate import HELD_OUT
from factory.store import Store
from tests.evaluate.evaluations import NAMES, Evaluation, fake_evaluation
from tests.pages.browser import look_in_chromium, needs_chromium
from tests.pages.reading import Page

QUALITIES = {"poor": 0.4, "fair": 0.7, "good": 0.95}
SERIES = {"parameter": "<guidance>", "values": {"poor": 1, "fair": 2, "good": 3}}


def draw(made: Evaluation, **options) -> dict[str, bytes]:
    return draw_pictures(made.report, made.sources, made.features.__getitem__, **options)


@pytest.fixture(scope="module")
def made() -> Evaluation:
    """Three datasets of a series, with held-out images, labels, and two networks."""
    extractors = ("efficientnet_lite0", "inception")
    return fake_evaluation(QUALITIES, series=SERIES, extractors=extractors)


@pytest.fixture(scope="module")
def pictures(made) -> dict[str, bytes]:
    images = made.sources[HELD_OUT].images[::20]
    rows = SideBySide(NAMES, images, {"poor": 255 - images, "good": images})
    return draw(made, reconstructions=rows, grad_cam=rows)


@pytest.fixture(scope="module")
def saved(made, pictures, tmp_path_factory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("saved")))
    html = report_html(made.report, made.spec, pictures)
    save_report(store, made.report, html, pictures)
    return store


@pytest.fixture(scope="module")
def page(saved) -> Page:
    return Page(saved.get("report.html").decode())


@pytest.fixture(scope="module")
def least() -> tuple[Evaluation, dict[str, bytes]]:
    """One dataset, without labels and held-out images."""
    made = fake_evaluation({"drawn": 0.7}, per_class=False, has_held_out=False)
    return made, draw(made)


def test_every_picture_is_in_the_root_and_on_the_page(saved, made, pictures, page):
    charts = {"series", "per_class", "histograms", "statistics", "features", "features_of_class"}
    sheets = {"samples", "reconstructions", "grad_cam", "pairs_1", "pairs_2", "pairs_3"}
    assert set(pictures) == charts | sheets
    assert set(saved.sizes("pictures")) == {f"pictures/{name}.png" for name in pictures}
    assert len([tag for tag, _ in page.tags if tag == "img"]) == len(pictures)
    assert EvaluateReport.model_validate_json(saved.get("report.json")) == made.report


def test_what_was_not_measured_has_no_picture_and_no_column(least):
    made, pictures = least
    assert set(pictures) == {"statistics", "features", "samples", "pairs_1"}
    page = Page(report_html(made.report, made.spec, pictures))
    header, row = page.tables[0]
    assert header[1:6] == [
        "Images", "Fréchet distance", "Kernel distance \u00d710\u00b3", "Precision", "Recall"
    ]  # fmt: skip
    assert "Agreement" not in header
    assert row[0] == "drawn"
    assert "Class by class" not in page.text


def test_the_page_needs_nothing_but_itself(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "data", "action", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_page_explains_what_it_shows_alone(page, least):
    made, pictures = least
    assert "Limit: estimate" in page.text
    dataset = made.report.datasets["drawn"]
    label, extractor = next(iter(dataset.extractors.items()))
    few = extractor.overall.model_copy(update={"frechet_limit": None, "is_biased": True})
    without = dataset.model_copy(
        update={"extractors": {label: extractor.model_copy(update={"overall": few})}}
    )
    report = made.report.model_copy(update={"datasets": {"drawn": without}})
    text = Page(report_html(report, made.spec, pictures)).text
    assert "endlessly many" not in text


def test_papers_are_named_by_their_authors(page):
    for key in ("basu2022", "namburi2022", "yamaguchi2024"):
        assert key not in page.text
    assert "Basu et al. 2022, Fig. 1" in page.text


def test_the_page_can_be_heard_as_well_as_seen(page):
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == names.count("main") == 1
    assert names.count("caption") == names.count("table")
    assert names.count("figcaption") == names.count("figure")
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert all(attributes["scope"] for tag, attributes in page.tags if tag == "th")


def test_names_are_shown_as_they_are_written(page):
    for name in (*NAMES, "<guidance>"):
        assert name in page.text


def test_the_answers_come_first(made, page):
    before_the_numbers = page.text.split("All numbers")[0]
    for name in QUALITIES:
        dataset = made.report.datasets[name]
        assert headline(made.report, dataset) in before_the_numbers
        for line in answer_lines(made.report, dataset):
            assert line in before_the_numbers


def test_the_table_holds_each_datasets_numbers(made, page):
    header, *rows = page.tables[0]
    assert [row[0] for row in rows] == [HELD_OUT, *QUALITIES]
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        dataset = made.report.datasets[row[0]]
        found = dataset.extractors["efficientnet_lite0"].overall
        assert cells["Images"] == f"{found.num_images:,}"
        assert cells["Precision"] == f"{100 * found.precision:.1f}\u00a0%"
        assert cells["Recall"] == f"{100 * found.recall:.1f}\u00a0%"
        assert cells["Agreement"].startswith(f"{100 * dataset.classifier.agreement.value:.1f}")
        assert "of 2 \u00d7 250" in cells["Told apart, dct"]


def test_every_class_of_every_dataset_is_in_a_table(page):
    tables = [table for table in page.tables if table[0][0] == "Class"]
    assert len(tables) == 1 + len(QUALITIES)
    for table in tables:
        assert [row[0] for row in table[1:]] == list(NAMES)
        assert all("too few images" in row[3] for row in table[1:])
    assert "4 of 4 classes have too few images" in page.text


def test_the_page_holds_the_spec_it_was_made_by(saved, made):
    written = saved.get("report.html").decode().split("<pre")[1]
    asked = yaml.safe_load(unescape(written[written.index(">") + 1 : written.index("</pre>")]))
    assert EvaluateSpec.model_validate(asked) == made.spec


def test_the_same_report_gives_the_same_bytes(least):
    made, pictures = least
    assert draw(made) == pictures
    page = report_html(made.report, made.spec, pictures)
    assert page == report_html(made.report, made.spec, pictures)


def test_many_large_classes_make_a_page_of_a_few_megabytes():
    names = [f"class {number}" for number in range(100)]
    made = fake_evaluation({"drawn": 0.5}, class_names=names, count=3)
    large = {
        name: replace(source, images=np.random.default_rng(0).integers(
            0, 256, (len(source), 128, 128, 3), np.uint8))
        for name, source in made.sources.items()
    }  # fmt: skip
    pictures = draw(replace(made, sources=large))
    assert all(max(Image.open(io.BytesIO(data)).size) < 3_000 for data in pictures.values())
    page = report_html(made.report, made.spec, pictures)
    assert len(page) < 4_000_000
    assert f"the first {NUM_CLASSES} of 100 classes" in page


def test_samples_lie_in_the_row_of_their_class_and_the_block_of_their_dataset():
    made = fake_evaluation({"drawn": 0.5}, class_names=("a", "b"), count=3, has_held_out=False)
    # One grey a class and source, so that each image tells where it belongs; "b" has two images.
    greys = {"real": (10, 60), "drawn": (110, 160)}
    sources = {
        name: replace(
            source.take(np.arange(5)),
            images=np.array(greys[name], np.uint8)[source.labels[:5], None, None, None]
            * np.ones((1, 12, 12, 1), np.uint8),
        )
        for name, source in made.sources.items()
    }
    sheet = np.asarray(Image.open(io.BytesIO(sample_sheet(made.report, sources))))[:, :, 0]
    area = side_of(12, 12) ** 2
    found = {}
    for name, levels in greys.items():
        for label, level in enumerate(levels):
            y, x = np.nonzero(sheet == level)
            # Lettering has a few pixels of any grey.
            assert round(len(y) / area) == (3, 2)[label]
            found[name, label] = np.median(y), np.median(x)
    assert found["real", 0][0] == found["drawn", 0][0] < found["real", 1][0]
    assert found["real", 0][1] < found["drawn", 0][1]


@needs_chromium
@pytest.mark.parametrize("which", ["full", "least"])
def test_a_browser_shows_all_of_it_without_sideways_scrolling(which, saved, least, tmp_path):
    if which == "full":
        page, number = saved.get("report.html"), 12
    else:
        page, number = report_html(least[0].report, least[0].spec, least[1]).encode(), 4
    look = look_in_chromium(page, tmp_path)
    assert (look.images, look.missing, look.complaints) == (number, 0, [])
    assert all(taken <= given for given, taken in look.widths.items())
