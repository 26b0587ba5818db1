"""Lengths and learning rates: exact arithmetic."""

import itertools

import pytest

from factory.classify.schedule import images_per_step, learning_rate, num_steps
from factory.spec import Arm, ClassifierTraining, MultiplierMix


def training(**fields):
    return ClassifierTraining.model_validate({"epochs": 10, "batch_size": 32, **fields})


def rates(steps=100, **fields):
    spec = training(**fields)
    return [learning_rate(spec, step, num_steps=steps, num_epochs=10) for step in range(steps)]


def test_epochs_become_whole_steps():
    assert num_steps(training(epochs=3), num_images=320) == 30
    assert num_steps(training(epochs=1), num_images=5) == 1
    assert num_steps(training(epochs=None, num_steps=7), num_images=320) == 7


def test_paired_batches_see_twice_as_many_images():
    paired = Arm(mix=MultiplierMix(multiplier=1), batches="paired")
    assert images_per_step(training(), paired) == 2 * images_per_step(training(), Arm())


def test_step_schedule_falls_only_at_its_epochs():
    row = rates(schedule="step", step_epochs=3, step_factor=0.1, learning_rate=1.0)
    assert row[:30] == [1.0] * 30
    assert row[30:60] == pytest.approx([0.1] * 30)
    assert row[90:] == pytest.approx([0.001] * 10)


def test_cosine_falls_from_the_highest_rate_towards_zero():
    row = rates(schedule="cosine", learning_rate=2.0)
    assert row[0] == 2.0
    assert row[50] == pytest.approx(1.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(row))
    assert row[-1] < 0.01


def test_one_cycle_rises_over_three_tenths_and_then_falls():
    row = rates(schedule="one_cycle", learning_rate=1.0)
    peak = row.index(max(row))
    assert row[0] == pytest.approx(1 / 25)
    assert peak == 30
    assert row[peak] == pytest.approx(1.0)
    assert row == row[:30] + sorted(row[30:], reverse=True)
    assert row[:31] == sorted(row[:31])


def test_constant_is_constant():
    assert set(rates(schedule="constant", learning_rate=0.3)) == {0.3}
