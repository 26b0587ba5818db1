"""Lengths and learning rates: exact arithmetic."""

import itertools

import pytest

from factory.classify.schedule import (
    epoch_steps,
    images_per_step,
    learning_rate,
    num_steps,
    step_sizes,
)
from factory.spec import Arm, ClassifierTraining, MultiplierMix


def training(**fields):
    return ClassifierTraining.model_validate({"epochs": 10, "batch_size": 32, **fields})


def rates(steps=100, **fields):
    spec = training(**fields)
    return [learning_rate(spec, step, num_steps=steps, num_epochs=10) for step in range(steps)]


def test_epochs_become_whole_steps():
    assert num_steps(training(epochs=3), epoch_steps=320 / 32) == 30
    assert num_steps(training(epochs=1), epoch_steps=5 / 32) == 1
    assert num_steps(training(epochs=None, num_steps=7), epoch_steps=10) == 7


def test_paired_batches_see_twice_as_many_images():
    paired = Arm(mix=MultiplierMix(multiplier=1), batches="paired")
    assert images_per_step(training(), paired) == 2 * images_per_step(training(), Arm())


def test_an_epoch_ends_when_the_part_that_takes_longest_has_been_seen():
    quarter = Arm(mix=MultiplierMix(multiplier=1), batches="paired", synthetic_ratio=0.25)
    assert step_sizes(training(), quarter) == (24, 8)
    assert images_per_step(training(), quarter) == 32
    assert epoch_steps([240, 240], step_sizes(training(), quarter)) == 30
    assert epoch_steps([960, 240], step_sizes(training(), quarter)) == 40


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
