"""Answers in words: true of the numbers, and measured against held-out real images."""

import pytest

from factory.evaluate.results import DatasetResult, DetectionResult, Estimate, EvaluateReport
from factory.evaluate.words import answer_lines, answers, copies_in_words, headline, number
from factory.spec.evaluate import HELD_OUT
from tests.evaluate.evaluations import fake_evaluation


@pytest.fixture(scope="module")
def report() -> EvaluateReport:
    return fake_evaluation({"drawn": 0.7}).report


@pytest.fixture(scope="module")
def alone() -> EvaluateReport:
    """Without held-out images."""
    return fake_evaluation({"drawn": 0.7}, has_held_out=False).report


def with_likeness(report: EvaluateReport, name: str, **fields) -> EvaluateReport:
    """The report with other overall numbers of a dataset's first extractor."""
    dataset = report.datasets[name]
    label, extractor = next(iter(dataset.extractors.items()))
    changed = extractor.model_copy(update={"overall": extractor.overall.model_copy(update=fields)})
    extractors = dataset.extractors | {label: changed}
    return with_dataset(report, name, extractors=extractors)


def with_dataset(report: EvaluateReport, name: str, **fields) -> EvaluateReport:
    changed = report.datasets[name].model_copy(update=fields)
    return report.model_copy(update={"datasets": report.datasets | {name: changed}})


def with_memorisation(report: EvaluateReport, **fields) -> EvaluateReport:
    found = report.datasets["drawn"].memorisation
    assert found is not None
    return with_dataset(report, "drawn", memorisation=found.model_copy(update=fields))


def drawn(report: EvaluateReport) -> DatasetResult:
    return report.datasets["drawn"]


def kernel(value: float, *, half: float = 0.001) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def line_of(report: EvaluateReport, start: str) -> str:
    (line,) = [line for line in answer_lines(report, drawn(report)) if line.startswith(start)]
    return line.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("precision", "recall", "words"),
    [
        (0.9, 0.9, "they look right and show the variety of real ones"),
        (0.9, 0.5, "they look right but miss part of the variety"),
        (0.5, 0.9, "they show the variety, but some look like no real image"),
        (0.5, 0.5, "some look like no real image, and part of the variety is missing"),
    ],
)
@pytest.mark.parametrize("level", [1.0, 0.4])
def test_what_is_low_depends_on_held_out_images(report, precision, recall, words, level):
    found = with_likeness(report, HELD_OUT, precision=level, recall=level)
    found = with_likeness(found, "drawn", precision=precision * level, recall=recall * level)
    assert words in headline(found, drawn(found))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.030, "farther from the real images than held-out real ones are"),
        (0.021, "as near to the real images as held-out real ones are"),
        (0.010, "nearer to the real images than held-out real ones are"),
    ],
)
def test_what_is_far_depends_on_held_out_images_and_on_chance(report, value, words):
    found = with_likeness(report, HELD_OUT, kernel_distance=kernel(0.020))
    found = with_likeness(found, "drawn", kernel_distance=kernel(value), precision=0.9, recall=0.9)
    assert words in headline(found, drawn(found))


@pytest.mark.parametrize("value", [0.030, 0.021, 0.010])
@pytest.mark.parametrize("precision", [0.9, 0.4])
@pytest.mark.parametrize("recall", [0.9, 0.4])
def test_no_headline_calls_near_what_lacks_something(report, value, precision, recall):
    found = with_likeness(report, HELD_OUT, kernel_distance=kernel(0.020))
    found = with_likeness(
        found, "drawn", kernel_distance=kernel(value), precision=precision, recall=recall
    )
    words = headline(found, drawn(found))
    is_lacking = min(precision, recall) < 0.9
    assert ("as near" in words) == (value == 0.021 and not is_lacking)
    assert ("missing" in words or "miss" in words or "no real image" in words) == is_lacking
    assert ("though they look right" in words) == (value == 0.030 and not is_lacking)


@pytest.mark.parametrize(
    ("drawn_count", "held_out_count", "start"),
    [
        (250, 250, "farther"),
        (249, 250, "as far as 249 images tell, "),
        (10_000, 80, "as far as 80 held-out real images tell, "),
    ],
)
def test_a_headline_of_few_images_says_so(report, drawn_count, held_out_count, start):
    found = with_likeness(report, HELD_OUT, num_images=held_out_count, num_real=10_000)
    found = with_likeness(found, "drawn", num_images=drawn_count, num_real=10_000)
    assert headline(found, drawn(found)).startswith(start)


def test_an_interval_that_is_wide_says_less(report):
    found = with_likeness(report, HELD_OUT, kernel_distance=kernel(0.020))
    covered = with_likeness(found, "drawn", precision=0.9, recall=0.9)
    near = with_likeness(covered, "drawn", kernel_distance=kernel(0.030, half=0.02))
    assert "as near" in headline(near, drawn(near))
    unknown = with_likeness(found, "drawn", kernel_distance=Estimate(value=0.03))
    assert "real images than" not in headline(unknown, drawn(unknown))


def test_without_held_out_images_nothing_is_called_low(alone):
    words = headline(alone, drawn(alone))
    assert words == ("as far as 80 images tell, farther from the real images than chance explains")
    unknown = with_likeness(alone, "drawn", kernel_distance=None)
    assert headline(unknown, drawn(unknown)) == "the numbers alone do not say how close"
    assert not any("held-out real images:" in line for line in answer_lines(alone, drawn(alone)))


def test_each_line_has_its_numbers_and_their_reference(report):
    assert line_of(report, "Fréchet distance (efficientnet_lite0)") == (
        "Fréchet distance (efficientnet_lite0), another such distance: 13.0 "
        "(held-out real images: 1.00), of 80 images against 80 real ones; endlessly "
        "many would have about 12.0 (0.000)."
    )
    assert line_of(report, "Kernel") == (
        "Kernel distance \u00d710\u00b3, how far apart the sets lie in what a network sees, times "
        "1,000 (0 but for chance where they are alike): 12.0 (95 % interval 11.5 to 12.5); "
        "held-out real images: 0.000 (\u22120.500 to 0.500)."
    )
    assert line_of(report, "Look right") == (
        "Look right: 78.0 % (held-out real images: 90.0 %) lie among real images (precision). "
        "Show the variety: 44.1 % (90.0 %) of the real images lie among them (recall)."
    )
    assert "78.0 % (95 % interval 76.0 to 80.0)" in line_of(report, "A classifier")
    assert "0.500 nats (0.200)" in line_of(report, "A classifier")
    assert "1.39 if all 4 classes look alike" in line_of(report, "A classifier")


@pytest.mark.parametrize(("agreement", "is_warned"), [(0.14, True), (0.51, False)])
def test_a_classifier_that_errs_on_real_images_judges_none(report, agreement, is_warned):
    found = report.datasets[HELD_OUT].classifier
    assert found is not None
    weak = found.model_copy(update={"agreement": Estimate(value=agreement)})
    line = line_of(with_dataset(report, HELD_OUT, classifier=weak), "A classifier")
    assert ("too often wrong on real images to judge others" in line) == is_warned


@pytest.mark.parametrize(("held_out_count", "is_compared"), [(80, True), (75, True), (60, False)])
def test_precision_and_recall_are_compared_between_equal_numbers_alone(
    report, held_out_count, is_compared
):
    other = with_likeness(report, HELD_OUT, num_images=held_out_count)
    words = headline(other, drawn(other))
    assert ("variety" in words) == is_compared
    assert "farther from the real images than held-out real ones are" in words
    line = line_of(other, "Look right")
    assert ("60 held-out real images, not comparable: 90.0 %" in line) == (not is_compared)


def test_what_is_plain_comes_first_and_what_is_for_experts_last(report):
    starts = ("Look right", "Can be told", "No evidence", "A classifier", "Kernel", "Fréchet")
    lines = answer_lines(report, drawn(report))
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 6


def test_a_distance_of_too_few_images_is_not_taken_at_its_word(report):
    few = with_likeness(report, "drawn", is_biased=True, frechet_limit=None)
    assert "too few for 16 features" in line_of(few, "Fréchet")
    none = with_likeness(report, "drawn", frechet_distance=None, precision=None)
    assert "80 images are too few" in line_of(none, "Look right")
    assert not any(line.startswith("Fréchet") for line in answer_lines(none, drawn(none)))


@pytest.mark.parametrize(
    ("low", "start"), [(0.501, "Can be told"), (0.5, "Cannot be told"), (0.45, "Cannot be told")]
)
def test_told_apart_is_what_chance_does_not_explain(report, low, start):
    accuracy = Estimate(value=0.55, low=low, high=0.65)
    result = DetectionResult(domain="dct", accuracy=accuracy, num_train=300, num_test=100)
    line = line_of(with_dataset(report, "drawn", detection={"dct": result}), start)
    assert "55.0 % (95 % interval" in line
    assert "of 100 of them and as many real ones" in line


def test_the_more_telling_domain_is_the_one_that_is_named(report):
    assert "frequencies (DCT)" in line_of(report, "Can be told")


def test_copies_are_found_denied_or_not_checked_in_so_many_words(report, alone):
    found = copies_in_words(report, drawn(report).memorisation).replace("\u00a0", " ")
    assert found.startswith("No evidence of copies: 1.1 % (95 % interval 0.4 to 2.0)")
    assert "1.0 % would by chance, and up to 2.0 % are no evidence" in found
    assert "copies" not in headline(report, drawn(report))

    accused = with_memorisation(report, verdict="copies", num_exact=1)
    assert "copies of real images" in headline(accused, drawn(accused))
    words = copies_in_words(accused, drawn(accused).memorisation)
    assert words.startswith("Copies found: ")
    assert "1 image with the very pixels" in words

    unchecked = copies_in_words(alone, drawn(alone).memorisation)
    assert unchecked == "Not checked for copies: there are no held-out images to calibrate by"


def test_held_out_images_that_were_left_out_are_counted(report):
    assert line_of(report, "No evidence").endswith("(80 held-out images).")
    some = with_memorisation(report, num_held_out=77, num_shared=3)
    assert line_of(some, "No evidence").endswith(
        "(77 held-out images, without 3 that it has seen)."
    )


def test_equal_images_are_named_whatever_the_verdict(alone):
    exact = with_memorisation(alone, num_exact=2)
    assert "copies of real images are among them" in headline(exact, drawn(exact))
    assert "2 images with the very pixels" in line_of(exact, "Not checked")


def test_datasets_with_one_answer_share_it():
    report = fake_evaluation({"a": 0.5, "b": 1.0, "c": 0.5}).report
    found = [[dataset.name for dataset in group] for group in answers(report).values()]
    assert found == [["a", "c"], ["b"]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (12_345.6, "12,346"),
        (41.23, "41.2"),
        (3.1, "3.10"),
        (0.03149, "0.031"),
        (-1.5, "\u22121.50"),
    ],
)
def test_numbers_have_three_digits_that_count(value, words):
    assert number(value) == words
