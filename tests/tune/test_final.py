"""The test of the chosen mix: what cannot be trained is named, and the next one is chosen."""

import pytest

from factory.classify.compare import make_report
from factory.classify.prepare import Prepared
from factory.classify.train import TrainingFailed
from factory.spec import JobError
from factory.tune.final import choose, final_of, final_spec
from factory.tune.prepare import prepare
from factory.tune.results import CHOSEN_ARM, DEFAULT_ARM, REAL_ARM
from tests.classify.comparisons import ARMS, fake_comparison, put_trial
from tests.tune.searches import RATIO, fake_confirmed, fake_report

MIXES = dict(zip((REAL_ARM, CHOSEN_ARM, DEFAULT_ARM), ARMS.values(), strict=True))
FAILURES = {"one, seed 0": "TrainingFailed: the loss is <nan>"}


def final_without(root, *arms):
    """A final comparison in which no training of `arms` was finished."""
    prepared, _ = fake_comparison(root / "whole", arms=MIXES)
    lacking = Prepared(
        prepared.spec, str(root / "lacking"), prepared.sources, prepared.arms, prepared.overlap
    )
    for arm in MIXES.keys() - set(arms):
        for trial in range(prepared.spec.num_seeds):
            put_trial(lacking, arm, trial, 2.0)
    report = make_report(lacking, zero_shot=None, made=6, failures=FAILURES, seconds=1)
    return final_of(lacking, report, None)


def test_real_images_alone_are_augmented_as_the_chosen_mix_is(striped_search, tmp_path):
    space = {"arm.augmentation": ["flip", "crop"]}
    prepared = prepare(striped_search(space=space), str(tmp_path))
    chosen = {"arm.augmentation": "flip"}
    spec = final_spec(prepared, chosen, {CHOSEN_ARM: "images", DEFAULT_ARM: "images"})
    used = {name: arm.augmentation for name, arm in spec.arms.items()}
    assert used == {REAL_ARM: "flip", CHOSEN_ARM: "flip", DEFAULT_ARM: None}


def test_final_trainings_share_no_seed_with_a_search_of_the_next_seed(striped_search, tmp_path):
    space = {"arm.mix.multiplier": [1.0]}
    prepared = prepare(striped_search(space=space, seed=4), str(tmp_path))
    spec = final_spec(prepared, {}, {CHOSEN_ARM: "images", DEFAULT_ARM: "images"})
    assert spec.seed not in (4, 5)


def test_a_whole_comparison_has_both_verdicts(tmp_path):
    final = final_without(tmp_path)
    assert final.against_default is not None
    assert (final.against_default.arm, final.against_default.baseline) == (CHOSEN_ARM, DEFAULT_ARM)
    assert not final.default_was_chosen


def test_a_chosen_mix_without_a_training_is_an_error_that_names_it(tmp_path):
    with pytest.raises(TrainingFailed, match=rf"{CHOSEN_ARM}.*one, seed 0.*<nan>"):
        final_without(tmp_path, CHOSEN_ARM)


def test_a_default_mix_without_a_training_leaves_the_verdict_against_real_images(tmp_path):
    final = final_without(tmp_path, DEFAULT_ARM)
    assert final.against_default is None
    assert not final.default_was_chosen
    assert [verdict.arm for verdict in final.comparison.verdicts] == [CHOSEN_ARM]


def trained_unless(failing):
    def compare(config):
        if config[RATIO] in failing:
            raise TrainingFailed(f"ratio {config[RATIO]}")
        return config

    return compare


def test_the_next_best_is_chosen_where_the_best_cannot_be_trained():
    best, *others = confirmed = fake_confirmed(fake_report().trials)
    first = best.model_copy(update={"config": {RATIO: 0.1}})
    left, final, failures = choose([first, *others], trained_unless({0.1}))
    assert left == tuple(others)
    assert final == others[0].config
    [(name, why)] = failures.items()
    assert name.startswith(f"{best.number}: synthetic_ratio 0.1")
    assert why == "ratio 0.1"
    assert choose(confirmed, trained_unless({}))[::2] == (confirmed, {})


def test_none_that_can_be_trained_is_an_error_that_names_all():
    confirmed = [
        trial.model_copy(update={"config": {RATIO: place / 10}})
        for place, trial in enumerate(fake_confirmed(fake_report().trials))
    ]
    with pytest.raises(JobError, match=r"ratio 0.0.*ratio 0.1.*ratio 0.2"):
        choose(confirmed, trained_unless({0.0, 0.1, 0.2}))
