import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.verdicts import (
    CONFIDENCE,
    Trials,
    compare_all,
    mean_detectable,
    quiet_families,
    share,
)
from factory.metrics.evidence import (
    FEWEST_IMAGES,
    POWER,
    compare,
    compare_classes,
    holm,
    score_interval,
    seed_interval,
)

LUCK = 2.33 * np.sqrt(0.05 * 0.95 / 1_000)
"""How far a share of 0.95 of 1,000 falls short once in a hundred times."""


def results(*, accuracy=0.8, num_seeds=3, num_images=400, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random((num_seeds, num_images)) < accuracy


@pytest.mark.parametrize(
    "trials",
    [
        Trials(3, 1_000, 0.002),
        Trials(3, 1_000, 0.04, ease=0.0),
        Trials(5, 1_000, 0.005, image_spread=2.0),
    ],
    ids=str,
)
def test_verdict_on_arms_alike_is_no_evidence_and_a_detectable_gap_is_found(trials):
    alike = compare_all(trials, 1_000, seed=0)
    assert share(alike, "no evidence") >= CONFIDENCE - LUCK
    apart = compare_all(trials, 1_000, seed=1, gap=mean_detectable(alike))
    assert share(apart, "helps") >= POWER - 2.33 * np.sqrt(0.2 * 0.8 / 1_000)
    assert share(apart, "hurts") < 0.01


def test_verdicts_on_all_classes_of_arms_alike_are_no_evidence_together():
    trials = Trials(10, 1_000, 0.005, class_spread=0.04)
    assert quiet_families(trials, 200, seed=0) >= 0.95 - 2.33 * np.sqrt(0.05 * 0.95 / 200)


def test_interval_of_a_score_holds_the_true_accuracy_of_new_seeds_and_images():
    trials = Trials(3, 500, 0.01)
    truth = np.mean([arm.mean() for arm, _ in trials.draw(2_000, seed=0)])
    held = 0
    for arm, _ in trials.draw(1_000, seed=1):
        interval = score_interval(arm, CONFIDENCE)
        held += interval.low <= truth <= interval.high
    assert held / 1_000 >= CONFIDENCE - LUCK


def test_seed_interval_of_a_worked_example():
    # t of 2 degrees of freedom: 4.302653.
    interval = seed_interval([0.5, 0.6, 0.7], 0.95)
    assert interval.mean == pytest.approx(0.6)
    assert interval.spread == pytest.approx(0.1)
    assert interval.high - interval.mean == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert interval.mean - interval.low == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert interval.num_seeds == 3


def test_score_of_seeds_that_agree_has_the_interval_over_images():
    once = results(num_seeds=1, num_images=200)
    interval = score_interval(np.repeat(once, 4, axis=0), 0.9)
    over_images = seed_interval(once[0].astype(float).tolist(), 0.9)
    assert (interval.low, interval.high) == pytest.approx((over_images.low, over_images.high))
    assert interval.spread == 0


def test_difference_that_is_the_same_for_every_image_has_the_interval_over_seeds():
    # Each seed of the arm is right on all images, of the baseline on none, but for the last.
    arm = np.repeat([[True], [True], [True], [False]], 50, axis=1)
    comparison = compare(arm, ~arm, 0.95)
    over_seeds = seed_interval([1, 1, 1, -1], 0.95)
    assert comparison.difference.low == pytest.approx(over_seeds.low)
    assert comparison.difference.high == pytest.approx(over_seeds.high)


def test_interval_of_a_score_adds_the_parts_of_the_analysis_of_variance():
    ease = np.linspace(0.2, 0.95, 60)
    x = (np.random.default_rng(0).random((4, 60)) < ease).astype(float)
    rows, columns = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    # Mean squares of seeds, images and residual.
    seeds = 60 * ((rows - x.mean()) ** 2).sum() / 3
    images = 4 * ((columns - x.mean()) ** 2).sum() / 59
    residual = ((x - rows - columns + x.mean()) ** 2).sum() / (3 * 59)
    assert images > residual
    # t of 3 and of 59 degrees of freedom: 3.182446 and 2.000995.
    parts = 2.000995**2 * (images - residual) + max(3.182446**2 * seeds, 2.000995**2 * residual)
    interval = score_interval(x > 0, 0.95)
    assert interval.high - interval.mean == pytest.approx(np.sqrt(parts / (4 * 60)), rel=1e-6)


def test_interval_of_a_score_stays_within_zero_and_one():
    interval = score_interval(np.repeat([[True], [True], [False]], 50, axis=1), 0.95)
    assert (interval.low, interval.high) == (0, 1)


def test_verdict_on_an_arm_with_itself_is_no_evidence():
    comparison = compare(results(), results(), 0.95)
    assert comparison.outcome == "no evidence"
    assert comparison.p_value == 1
    assert comparison.difference.low == comparison.difference.high == 0


@given(st.integers(0, 2**32), st.floats(0.6, 0.95), st.sampled_from([(3, 3), (3, 5), (2, 2)]))
def test_p_value_is_where_the_interval_ends_at_zero(seed, accuracy, seeds):
    arm = results(accuracy=accuracy, num_seeds=seeds[0], num_images=60, seed=seed)
    baseline = results(accuracy=0.75, num_seeds=seeds[1], num_images=60, seed=seed + 1)
    p = compare(arm, baseline, 0.95).p_value
    if 0 < p < 0.99:
        difference = compare(arm, baseline, 1 - p).difference
        nearest = difference.low if difference.mean > 0 else difference.high
        assert nearest == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 2**32), st.floats(0.6, 0.95))
def test_verdict_turns_around_with_its_arms(seed, accuracy):
    arm, baseline = results(accuracy=accuracy, seed=seed), results(seed=seed + 1)
    forth, back = compare(arm, baseline, 0.95), compare(baseline, arm, 0.95)
    turned = {"helps": "hurts", "hurts": "helps", "no evidence": "no evidence"}
    assert back.outcome == turned[forth.outcome]
    assert back.p_value == pytest.approx(forth.p_value)
    assert back.difference.mean == pytest.approx(-forth.difference.mean)
    assert back.detectable == pytest.approx(forth.detectable)


@given(st.integers(0, 2**32))
def test_verdict_does_not_depend_on_the_order_of_images_and_seeds(seed):
    arm, baseline = results(accuracy=0.83, num_seeds=4), results(num_seeds=4, seed=1)
    generator = np.random.default_rng(seed)
    images, seeds = generator.permutation(400), generator.permutation(4)
    moved = compare(arm[seeds][:, images], baseline[seeds][:, images], 0.95)
    still = compare(arm, baseline, 0.95)
    assert moved.p_value == pytest.approx(still.p_value)
    assert moved.difference.high == pytest.approx(still.difference.high)


def width(comparison):
    return comparison.difference.high - comparison.difference.low


def test_verdict_is_paired_over_images():
    generator = np.random.default_rng(0)
    hard = generator.random(400) < 0.3
    arm, baseline = (~hard & results(accuracy=0.98, num_seeds=5, seed=seed) for seed in (0, 1))
    mixed_up = baseline[:, generator.permutation(400)]
    assert width(compare(arm, baseline, 0.95)) < 0.5 * width(compare(arm, mixed_up, 0.95))


def test_verdict_is_paired_over_seeds():
    luck = np.array([[0.5], [0.6], [0.7], [0.8], [0.9]])
    baseline = np.random.default_rng(0).random((5, 400)) < luck
    arm = baseline | (np.random.default_rng(1).random((5, 400)) < 0.1)
    assert compare(arm, baseline, 0.95).outcome == "helps"
    assert compare(arm, baseline[::-1], 0.95).outcome == "no evidence"
    # With another number of seeds none can be paired.
    assert compare(arm, baseline[:4], 0.95).outcome == "no evidence"


def test_arms_with_other_numbers_of_seeds_can_be_compared():
    arm, baseline = results(accuracy=0.95, num_seeds=6), results(num_seeds=4, seed=1)
    comparison = compare(arm, baseline, 0.95)
    assert comparison.outcome == "helps"
    assert comparison.difference.mean == pytest.approx(arm.mean() - baseline.mean())
    assert comparison.difference.num_seeds == 4


def test_seeds_that_agree_by_chance_prove_nothing():
    # Every seed wins one image, each another one: three means of exactly 0.01.
    arm = np.ones((3, 100), bool)
    baseline = arm.copy()
    baseline[[0, 1, 2], [10, 20, 30]] = False
    comparison = compare(arm, baseline, 0.95)
    assert comparison.difference.spread == pytest.approx(0)
    assert comparison.outcome == "no evidence"


@pytest.mark.parametrize(
    ("num_seeds", "num_images", "reason"),
    [(1, 400, "one seed"), (3, FEWEST_IMAGES - 1, "9 test images are too few")],
)
def test_too_little_to_tell_is_no_evidence_and_says_why(num_seeds, num_images, reason):
    arm = np.ones((num_seeds, num_images), bool)
    comparison = compare(arm, ~arm, 0.95)
    assert comparison.outcome == "no evidence"
    assert comparison.note.startswith(reason)
    assert comparison.p_value is comparison.detectable is comparison.difference.low is None
    assert comparison.difference.mean == 1
    assert score_interval(arm, 0.95).low is None


def test_more_seeds_and_images_find_smaller_differences():
    def detectable(num_seeds, num_images):
        arm, baseline = (
            results(num_seeds=num_seeds, num_images=num_images, seed=seed) for seed in (0, 1)
        )
        return compare(arm, baseline, 0.95).detectable

    assert detectable(20, 4_000) < detectable(5, 4_000)
    assert detectable(20, 4_000) < detectable(20, 400)


def test_detectable_difference_is_smooth_up_to_confidences_that_only_few_seeds_can_ask_for():
    arm, baseline = (results(num_seeds=2, num_images=4_000, seed=seed) for seed in (0, 1))
    # Student's t of one degree of freedom is inverse to the tail, here from 80 to 128.
    tails = np.array([0.004, 0.0033, 0.00319, 0.00318, 0.0030, 0.0025])
    found = [compare(arm, baseline, 1 - 2 * tail).detectable for tail in tails]
    assert np.allclose(found * tails, found[0] * tails[0], rtol=0.02)
    # An error of 1e-12 could be asked of nothing but differences beyond 1.
    assert compare(arm, baseline, 1 - 1e-12).detectable is None


def test_results_on_other_images_are_refused():
    with pytest.raises(ValueError, match="arm has 400 test images and baseline 399"):
        compare(results(), results(num_images=399), 0.95)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.001, 0.6], [1, 0.003, 1]),
    ],
)
def test_holm_of_worked_examples(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(p_values):
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)
    assert min(adjusted) == min(1, len(p_values) * min(p_values))
    for before, after in zip(p_values, adjusted, strict=True):
        assert before <= after <= min(1, len(p_values) * before)


NAMES = ("zebra", "ant", "cow", "yak")
LABELS = np.repeat([0, 1, 2], [200, 195, 5])


def test_class_verdicts_are_those_of_their_images_with_p_values_by_holm():
    arm, baseline = results(num_seeds=10), results(num_seeds=10, seed=1)
    arm[:, LABELS == 1] |= results(accuracy=0.9, num_seeds=10, seed=2)[:, LABELS == 1]
    verdicts = compare_classes(arm, baseline, LABELS, NAMES, 0.95)
    # There is no yak to test, and there are too few cows.
    assert list(verdicts) == ["zebra", "ant", "cow"]
    assert verdicts["cow"].note
    zebra, ant = slice(0, 200), slice(200, 395)
    alone = {
        name: compare(arm[:, images], baseline[:, images], 0.95)
        for name, images in {"zebra": zebra, "ant": ant}.items()
    }
    raw = [alone["zebra"].p_value, alone["ant"].p_value]
    assert [verdicts["zebra"].p_value, verdicts["ant"].p_value] == holm(raw)
    assert verdicts["ant"].outcome == "helps"
    assert verdicts["zebra"].outcome == "no evidence"
    for name, comparison in alone.items():
        assert verdicts[name].difference == comparison.difference
        assert verdicts[name].detectable > comparison.detectable


def test_evidence_that_is_enough_for_one_class_is_not_for_the_same_in_eight():
    arm, baseline = results(accuracy=0.86, num_seeds=6), results(num_seeds=6, seed=1)
    alone = compare(arm, baseline, 0.95)
    assert alone.outcome == "helps"
    assert alone.p_value > 0.05 / 8
    verdicts = compare_classes(
        np.tile(arm, 8), np.tile(baseline, 8), np.repeat(np.arange(8), 400), "abcdefgh", 0.95
    )
    for verdict in verdicts.values():
        assert verdict.outcome == "no evidence"
        assert verdict.p_value == pytest.approx(8 * alone.p_value)
        assert verdict.difference == alone.difference
