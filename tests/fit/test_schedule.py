import math

import pytest

from factory.fit.schedule import Schedule, make_schedule
from factory.spec import Training
from tests.striped import tiny_fit


def schedule_of(num_images, **training):
    return Schedule(Training(batch_size=100, **training), num_images, every_images=num_images)


def test_epochs_are_counted_in_images(tmp_path):
    epochs = {"num_images": None, "epochs": 3}
    spec = tiny_fit(tmp_path, training=epochs, metric={"every_epochs": 2})
    schedule = make_schedule(spec, 120)
    assert (schedule.num_images, schedule.every_images, schedule.num_steps) == (360, 240, 23)


def test_images_are_taken_as_given(tmp_path):
    schedule = make_schedule(tiny_fit(tmp_path), 120)
    assert (schedule.num_images, schedule.every_images, schedule.num_steps) == (96, 48, 6)


def test_learning_rate_rises_stays_and_falls_to_zero():
    schedule = schedule_of(10_000, warmup_fraction=0.1, decay_fraction=0.4, learning_rate=2.0)
    rates = [schedule.learning_rate(seen) / 2 for seen in range(0, 10_001, 100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:61] == [1.0] * 52
    assert rates[80] == pytest.approx(0.5)
    assert rates[-1] == 0
    assert min(rates[:-1]) > 0


def test_learning_rate_without_warm_up_and_fall_is_constant():
    schedule = schedule_of(10_000, warmup_fraction=0, decay_fraction=0, learning_rate=2.0)
    assert {schedule.learning_rate(seen) for seen in range(0, 10_001, 100)} == {2.0}


def test_average_forgets_half_in_its_half_life():
    schedule = schedule_of(1_000_000, ema_fraction=0.05)
    late = math.prod(schedule.ema_decay(seen) for seen in range(600_100, 650_001, 100))
    assert late == pytest.approx(0.5)
    # Early on the half-life is a tenth of the images seen: nothing of the first weights stays.
    early = math.prod(schedule.ema_decay(seen) for seen in range(100, 20_001, 100))
    assert early < 1e-10


def test_average_of_no_half_life_is_the_weights():
    assert schedule_of(1_000, ema_fraction=0).ema_decay(500) == 0
