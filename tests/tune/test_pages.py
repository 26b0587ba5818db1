"""The page for people: it says what the report says, stands alone, and suits a browser."""

import base64
import html
import shlex

import pytest
import yaml

from factory.classify.pages import verdict_sentence
from factory.pages.folder import save_report
from factory.spec import TuneSpec
from factory.store import Store
from factory.tune import charts
from factory.tune.findings import cost_front, ranked
from factory.tune.pages import MOST_OPEN, report_html
from factory.tune.pictures import draw_pictures
from factory.tune.results import TuneReport
from factory.tune.space import value_in_words
from factory.tune.words import column_names
from tests.pages.browser import look_in_chromium, needs_chromium
from tests.pages.reading import Page
from tests.tune.searches import (
    FAILURE,
    NUM_IMAGES,
    RATIO,
    SPACE,
    WORDS,
    fake_report,
    fake_spec,
    tied_trials,
)


def table(page: Page, first_heading: str, place: int = 0) -> list[dict[str, str]]:
    """Rows of a table, cells by heading."""
    found = [rows for rows in page.tables if rows[0][0] == first_heading]
    header, *rows = found[place]
    return [dict(zip(header, row, strict=True)) for row in rows]


def page_of(report: TuneReport, spec: TuneSpec | None = None) -> Page:
    return Page(report_html(report, spec or fake_spec(), {}))


def save(store: Store, report: TuneReport, spec: TuneSpec) -> None:
    pictures = draw_pictures(report, spec)
    save_report(store, report, report_html(report, spec, pictures), pictures)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Store, TuneReport]:
    """A search without prices, of more trials than are shown at once, written to a root."""
    store = Store(str(tmp_path_factory.mktemp("saved")))
    report = fake_report(MOST_OPEN + 3, failures=FAILURE)
    save(store, report, fake_spec())
    return store, report


@pytest.fixture(scope="module")
def page(saved) -> Page:
    return Page(saved[0].get("report.html").decode())


def test_the_root_holds_the_report_and_every_picture_of_the_page(saved, page):
    store, report = saved
    assert TuneReport.model_validate_json(store.get("report.json")) == report
    shown = {
        base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
        for tag, attributes in page.tags
        if tag == "img"
    }
    stored = {store.get(name) for name in store.sizes("pictures")}
    assert shown == stored
    assert len(stored) == 4


def test_the_page_needs_nothing_but_itself(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "data", "action", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_page_can_be_heard_as_well_as_seen(page):
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == names.count("main") == 1
    assert names.count("caption") == names.count("table")
    assert names.count("figcaption") == names.count("figure")
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert all(attributes["scope"] for tag, attributes in page.tags if tag == "th")


def test_the_answer_comes_first_with_verdicts_and_leakage(saved, page):
    _, report = saved
    answer = page.text.split("All trials")[0]
    sentence = next(line for line in answer.splitlines() if line.startswith("Chosen of"))
    assert sentence.startswith(f"Chosen of {len(report.trials)} configurations: ")
    for path, value in report.chosen.items():
        assert f"{column_names(report.chosen)[path]} {value_in_words(value)}" in sentence
    assert "86.9\u00a0%" in answer
    for verdict in (report.final.against_real, report.final.against_default):
        assert verdict_sentence(verdict, 0.95) in answer
        assert verdict.leakage in answer
    for spec, job in ((report.chosen_generate, "generate"), (report.chosen_classify, "classify")):
        assert f"python jobs/{job}.py {shlex.quote(spec)} " in html.unescape(
            saved[0].get("report.html").decode()
        )


def test_a_generator_that_saw_the_validation_images_is_named_beside_the_choice():
    report = fake_report()
    said = "had seen the validation images, by which this mix was chosen"
    seen = page_of(report.model_copy(update={"validation_seen": True})).text
    assert said in seen.split("All trials")[0]
    assert said not in page_of(report).text


def test_the_best_trials_are_open_and_the_others_fold(saved, page):
    _, report = saved
    order = [str(trial.number) for trial in ranked(report)]
    with_images = [rows for rows in page.tables if "Synthetic images" in rows[0]]
    shown = [[row[0].split()[0] for row in rows[1:]] for rows in with_images]
    assert shown == [order[:MOST_OPEN], order[MOST_OPEN:]]
    few = page_of(fake_report(MOST_OPEN))
    assert len([rows for rows in few.tables if "Synthetic images" in rows[0]]) == 1


def test_a_row_says_what_a_trial_was_and_how_it_ended(saved, page):
    _, report = saved
    rows = {row["Trial"].split()[0]: row for place in (0, 1) for row in table(page, "Trial", place)}
    best = {trial.number for trial in report.confirmed}
    for trial in report.trials:
        row = rows[str(trial.number)]
        assert row["Accuracy"] == f"{100 * trial.accuracy:.1f}\u00a0%"
        assert row["Synthetic images"] == f"{trial.num_synthetic:,}"
        assert row["synthetic_ratio"] == f"{trial.config[RATIO]:g}"
        # Two parameters are called augmentation.
        path = "training.augmentation"
        assert row[path] == value_in_words(trial.config[path])
        assert row["Trained"] == ("to the end" if trial.accuracies else "stopped at 25 %")
        assert (len(row["Trial"].split()) > 1) == (trial.number in best)
        assert "Cost" not in row
    assert rows[str(report.confirmed[0].number)]["Trial"].endswith("chosen")


def test_values_are_shown_as_they_are_written(page):
    for word in WORDS:
        assert value_in_words(word) in page.text


def test_the_front_is_a_table_with_time_or_with_money():
    for report, heading in ((fake_report(), "Device time"), (fake_report(priced=True), "Cost")):
        [rows] = [
            rows
            for rows in page_of(report).tables
            if rows[0][0] == "Trial" and rows[0][-1] == heading
        ]
        front = [str(trial.number) for trial in cost_front(report)]
        assert [row[0].split()[0] for row in rows[1:]] == front
        assert len(front) > 1


def test_prices_give_the_cost_of_trials_and_of_1000_images():
    report = fake_report(priced=True)
    page = page_of(report)
    assert all(row["Cost"] for row in table(page, "Trial"))
    # 45 s for 2,000 images at a price of 1 an hour.
    assert "1,000 images cost 0.0063." in page.text
    datasets = table(page, "Settings of the images")
    assert {row["Cost per 1,000"] for row in datasets} == {"0.0063"}


def test_images_that_trials_took_are_told_from_those_that_were_drawn(saved, page):
    _, report = saved
    assert f"took {report.num_images_asked:,} synthetic images in sum" in page.text
    assert f"{report.num_images:,} were drawn in truth" in page.text
    assert "no image was made twice" in page.text
    rows = table(page, "Settings of the images")
    assert {row["Images drawn"] for row in rows} == {f"{NUM_IMAGES:,}"}
    taken = [int(row["Images taken, in sum"].replace(",", "")) for row in rows]
    assert sum(taken) == report.num_images_asked
    assert sum(int(row["Trials that took some"]) for row in rows) == len(report.trials)


@pytest.mark.parametrize(
    ("there", "drawn", "said"),
    [
        (0, 14_000, "no image was made twice"),
        (0, 14_500, "which drew 14,500, 500 of them anew"),
        (14_000, 0, "14,000 of them lay there before this run, which drew 0."),
        (6_000, 8_000, "6,000 of them lay there before this run, which drew 8,000."),
        # As many as there are in all, but some of them for the second time.
        (6_000, 14_000, "which drew 14,000, 6,000 of them anew"),
    ],
)
def test_images_are_said_to_be_made_once_only_where_that_is_known(there, drawn, said):
    report = fake_report()
    assert report.num_images == 14_000
    changed = report.model_copy(update={"num_there": there, "num_drawn": drawn})
    text = page_of(changed).text
    assert said in text
    assert ("no image was made twice" in text) == (not there and drawn == 14_000)


def test_what_was_chosen_stands_beside_what_the_spec_says(saved, page):
    _, report = saved
    rows = {row["Field of the spec"]: row for row in table(page, "Field of the spec")}
    rate = rows["training.learning_rate"]
    assert rate["In the spec"] == "0.1"
    assert rate["Chosen"] == value_in_words(report.chosen["training.learning_rate"])
    # The default mix is trained with the chosen rate, and not with that of the spec.
    assert "All were trained with the chosen network and training" in page.text
    assert "In the default mix" not in page.text


def test_fresh_scores_stand_beside_those_of_the_search(saved, page):
    _, report = saved
    searched = {trial.number: trial.accuracy for trial in report.trials}
    [rows] = [rows for rows in page.tables if "With fresh seeds" in rows[0]]
    for row, trial in zip(rows[1:], report.confirmed, strict=True):
        assert row[0].split()[0] == str(trial.number)
        low, high = trial.accuracy.low, trial.accuracy.high
        assert f"{100 * low:.1f} to {100 * high:.1f}" in row[1]
        assert row[2] == f"{100 * searched[trial.number]:.1f}\u00a0%"


def test_failures_are_counted_in_the_answer_and_named_at_the_end(page):
    answer, _, how = page.text.partition("How it was made")
    assert "Failures: 1;" in answer
    for name, why in FAILURE.items():
        assert f"{name}: {why}" in how


def test_the_page_holds_the_spec_it_was_made_by(saved):
    written = saved[0].get("report.html").decode().split("<pre")[-1]
    asked = html.unescape(written[written.index(">") + 1 : written.index("</pre>")])
    assert TuneSpec.model_validate(yaml.safe_load(asked)) == fake_spec()


def test_the_same_search_gives_the_same_bytes(saved):
    store, report = saved
    pictures = draw_pictures(report, fake_spec())
    assert {name: store.get(f"pictures/{name}.png") for name in pictures} == pictures
    assert store.get("report.html").decode() == report_html(report, fake_spec(), pictures)


def test_a_search_that_chose_the_default_mix_says_so():
    text = page_of(fake_report(default_was_chosen=True)).text
    assert "The default mix itself was chosen" in text
    assert text.count("Leakage:") == 1


def test_a_default_mix_that_could_not_be_trained_is_no_chosen_one():
    report = fake_report()
    final = report.final.model_copy(update={"against_default": None})
    text = page_of(report.model_copy(update={"final": final})).text
    assert "The default mix could not be trained" in text
    assert "The default mix itself was chosen" not in text


def test_a_search_of_one_trial_without_synthetic_images_has_a_page(tmp_path):
    report = fake_report(trials=tied_trials()[:1])
    spec = fake_spec(space={RATIO: SPACE[RATIO]}, search={}, confirm={"top": 1, "num_seeds": 1})
    save(Store(str(tmp_path)), report, spec)
    page = Page((tmp_path / "report.html").read_text())
    assert "takes no synthetic images" in page.text
    assert "No trial took any." in page.text
    assert "jobs/generate.py" not in (tmp_path / "report.html").read_text()


def test_each_parameter_has_a_panel_on_its_own_kind_of_axis():
    spec = fake_spec()
    figure = charts.parameters(fake_report(), spec.space)
    panels = {axes.get_xlabel(): axes for axes in figure.axes}
    assert len(panels) == len(SPACE)
    assert [name for name, axes in panels.items() if axes.get_xscale() == "log"] == [
        "learning_rate"
    ]
    ticks = [label.get_text() for label in panels["synthetic_ratio"].get_xticklabels()]
    assert ticks == ["0.25", "0.5", "0.75"]
    words = [label.get_text() for label in panels["training.augmentation"].get_xticklabels()]
    assert words[:3] == ["null", WORDS[1], '["left", "right"]']


def test_a_hopeless_trial_that_was_stopped_leaves_room_for_the_others():
    report = fake_report()
    done = [trial.accuracy for trial in report.trials if trial.accuracies]
    [axes] = charts.best_so_far(report).axes
    low, high = axes.get_ylim()
    assert min(trial.accuracy for trial in report.trials) < low
    assert high - low < 1.5 * (max(done) - min(done))


@needs_chromium
def test_a_browser_shows_all_of_it_without_sideways_scrolling(saved, tmp_path):
    look = look_in_chromium(saved[0].get("report.html"), tmp_path)
    assert (look.images, look.missing, look.complaints) == (4, 0, [])
    assert all(taken <= given for given, taken in look.widths.items())
