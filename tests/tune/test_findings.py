"""What is found in a search: its order, and the front of accuracy against cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.spec import Range, TuneSpec
from factory.tune.findings import best_so_far, cost_front, expenses, non_dominated, ranked
from factory.tune.space import value_in_words
from factory.tune.words import (
    column_names,
    default_in_words,
    money,
    parameter_in_words,
)
from tests.tune.searches import fake_report, tied_trials

# Few numbers, so that many points are equal in one coordinate or in both.
NUMBERS = st.integers(0, 6).map(float)


def dominates(one, other) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@given(st.lists(st.tuples(NUMBERS, NUMBERS)))
def test_the_front_holds_exactly_the_points_that_none_dominates(points):
    front = non_dominated(points)
    assert len(front) == len(set(front))
    for place, point in enumerate(points):
        beaten_by_front = any(dominates(points[better], point) for better in front)
        beaten_by_any = any(dominates(other, point) for other in points)
        assert (place not in front) == beaten_by_any == beaten_by_front
    assert [points[place] for place in front] == sorted(points[place] for place in front)


def test_equal_trials_stay_on_the_front_together():
    report = fake_report(trials=tied_trials())
    # Cheap and good, twice; the dear ones and the bad ones are beaten.
    assert [trial.number for trial in cost_front(report)] == [3, 4]


@pytest.mark.parametrize("priced", [True, False])
def test_expenses_hold_training_and_drawing_of_finished_trials(priced):
    report = fake_report(priced=priced)
    spent = expenses(report)
    assert spent.in_money is priced
    assert set(spent.by_number) == {t.number for t in report.trials if t.accuracies}
    for trial in report.trials:
        if trial.accuracies:
            seconds = trial.training_seconds + trial.drawing_seconds
            assert spent.by_number[trial.number] == pytest.approx(
                seconds / 3600 if priced else seconds
            )


def test_one_price_too_few_makes_expenses_seconds():
    first, *others = fake_report(priced=True).trials
    unpriced = fake_report(trials=(first.model_copy(update={"cost": None}), *others))
    assert not expenses(unpriced).in_money


def test_stopped_trials_come_last_however_good_they_looked():
    *others, stopped = (trial for trial in fake_report().trials if trial.number <= 4)
    promising = stopped.model_copy(update={"accuracy": 0.99})
    order = ranked(fake_report(trials=(promising, *others)))
    assert order[-1].number == stopped.number
    scores = [trial.accuracy for trial in order[:-1]]
    assert scores == sorted(scores, reverse=True)


def test_the_best_so_far_never_falls_and_ends_at_the_best():
    trials = fake_report().trials
    best = best_so_far(trials)
    assert best == sorted(best)
    assert all(high >= trial.accuracy for high, trial in zip(best, trials, strict=True))
    assert set(best) <= {trial.accuracy for trial in trials}


def test_fields_that_share_a_short_name_keep_their_paths():
    paths = ["arm.augmentation", "training.augmentation", "arm.mix.multiplier", "arm.pools.0"]
    assert list(column_names(paths).values()) == [*paths[:2], "multiplier", "pools"]


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ((1, 2.5, None, "a b", [1, 2]), "1, 2.5, null, a b, [1, 2]"),
        (Range(low=1, high=4, step=0.5), "1 to 4 in steps of 0.5"),
        (Range(low=0.001, high=1, log=True), "0.001 to 1, drawn on a log scale"),
        (Range(low=0, high=1), "0 to 1"),
    ],
)
def test_a_parameter_is_named_by_what_was_searched(parameter, words):
    assert parameter_in_words(parameter) == words


def test_a_value_that_begins_like_its_field_is_whole():
    assert value_in_words("mix mix") == "mix mix"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("arm.synthetic_ratio", "0.5"),
        ("arm.augmentation", "null"),
        ("arm.mix.images_per_class", ""),
        ("generate.adapters.0.path", ""),
        ("arm.synthetic_ratio.deeper", ""),
    ],
)
def test_the_default_of_a_field_is_that_of_the_spec(path, words):
    assert default_in_words(TuneSpec(), path) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0"), (0.000416, "0.00042"), (0.5, "0.50"), (3.456, "3.46"), (1203.5, "1,203.50")],
)
def test_money_keeps_two_digits_that_count(amount, words):
    assert money(amount) == words
