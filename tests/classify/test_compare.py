"""From trainings to the report: what is compared, what is warned of, what is refused."""

import pytest

from factory.classify.compare import make_report
from factory.classify.prepare import record_name
from factory.spec import JobError
from tests.classify.comparisons import fake_comparison, put_trial


def remake(prepared):
    return make_report(prepared, zero_shot=None, made=0, failures={"b, seed 0": "why"}, seconds=1.0)


def test_baseline_that_has_learned_nothing_is_warned_of(tmp_path):
    _, blind = fake_comparison(tmp_path / "blind", skills=(0.0, 2.4, 1.2))
    assert len(blind.warnings) == 1
    assert "baseline" in blind.warnings[0]
    _, seeing = fake_comparison(tmp_path / "seeing")
    assert seeing.warnings == ()


def test_baseline_whose_trainings_may_have_learned_nothing_is_warned_of(tmp_path):
    prepared, _ = fake_comparison(tmp_path)
    for trial, skill in enumerate((0.0, 1.0, 4.0)):
        put_trial(prepared, "real", trial, skill)
    luck = remake(prepared)
    assert luck.arms["real"].top1.mean > 0.5
    (warning,) = luck.warnings
    assert "reaches down to that" in warning


def test_only_seeds_that_both_arms_have_are_compared(tmp_path):
    prepared, whole = fake_comparison(tmp_path)
    arm = prepared.arms[whole.verdicts[0].arm]
    (tmp_path / record_name(arm.fingerprint, 0)).unlink()
    report = remake(prepared)
    assert report.arms[arm.name].top1.num_seeds == 2
    assert report.verdicts[0].overall.difference.num_seeds == 2
    assert report.verdicts[1] == whole.verdicts[1]


def test_arm_without_a_finished_training_is_left_out_of_the_report(tmp_path):
    prepared, whole = fake_comparison(tmp_path)
    arm = prepared.arms[whole.verdicts[0].arm]
    for trial in range(3):
        (tmp_path / record_name(arm.fingerprint, trial)).unlink()
    report = remake(prepared)
    assert arm.name not in report.arms
    assert [verdict.arm for verdict in report.verdicts] == [whole.verdicts[1].arm]


def test_predictions_that_are_not_what_their_record_says_are_refused(tmp_path):
    prepared, _ = fake_comparison(tmp_path)
    record = next(iter(prepared.records().values()))
    file = tmp_path / record.predictions
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(JobError, match=record.predictions):
        remake(prepared)
