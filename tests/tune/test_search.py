"""Trials on Ray: stopped, retried, and followed from the first epoch to the score."""

import os
import signal
import time
from pathlib import Path

import pytest
import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, TaskCancelledError
from ray.tune.experiment import Trial as TuneTrial

from factory.tune.make import make_images
from factory.tune.prepare import prepare
from factory.tune.search import _Log, search
from factory.tune.shared import share
from factory.tune.space import with_config
from factory.tune.training import follow_training
from factory.tune.trial import train
from factory.tune.tried import Progress, Score
from tests.tune import planted

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

REAL = {"mix": {"kind": "real"}, "batches": "joint"}
"""A mix that has no images drawn."""
LEARNS = 0.05
RATES = {"training.learning_rate": [LEARNS, 1e-9, 2e-9, 3e-9]}
"""After the first no training learns anything, so `ASHA` stops each at its first look."""
ASHA = {"scheduler": "asha", "grace": 0.5, "max_concurrent": 1}


def searched(spec, root, make=make_images, train=train):
    """What a search tried, and what failed."""
    prepared = prepare(spec, str(root))
    return search(prepared, share(prepared, make, train))


def test_the_line_of_a_trial_needs_no_more_than_ray_train_reports(striped_search, caplog):
    spec = striped_search(space=RATES, search=ASHA)
    trial = TuneTrial("trial", stub=True, config={"training.learning_rate": 1e-9})
    # `TuneReportCallback` hands on what the workers report.
    trial.run_metadata.last_result = {"percent": 50, "accuracy": 0.25}
    with caplog.at_level("INFO"):
        _Log(spec).on_trial_complete(1, [trial], trial)
    assert "1 of 4 configurations: 25.00 %" in caplog.text
    assert "learning_rate 1e-09, stopped at 50 %" in caplog.text


def train_for_ever_unless_stopped(spec, root, data, images, seed):
    """The first configuration has a score; the others never end by themselves."""
    rate = spec.training.learning_rate
    yield Progress(50, rate, 0.5)
    while rate < LEARNS:
        time.sleep(0.02)
    yield Score(rate, 1.0, str(rate), 90, 0)


@pytest.mark.slow
def test_stopped_trainings_leave_their_cpus_to_others(ray_cluster, striped_search, tmp_path):
    # More of them than the cluster has CPUs.
    spec = striped_search(arm=REAL, space=RATES, search=ASHA)
    tried, failures = searched(spec, tmp_path, planted.make, train_for_ever_unless_stopped)
    assert not failures
    assert [bool(trial.scores) for trial in tried] == [True, False, False, False]


def train_some_found(spec, root, data, images, seed):
    """All but the first are behind it; one was finished before, and one looked at in the end."""
    rate = spec.training.learning_rate
    yield Progress(100 if rate == 3e-9 else 50, rate, 0.5, is_found=rate == 2e-9)
    yield Score(rate, 1.0, str(rate), 90, 0)


def test_trainings_that_are_done_are_not_stopped(ray_cluster, striped_search, tmp_path, caplog):
    spec = striped_search(arm=REAL, space=RATES, search=ASHA)
    with caplog.at_level("INFO", logger="factory"):
        tried, _ = searched(spec, tmp_path, planted.make, train_some_found)
    assert [bool(trial.scores) for trial in tried] == [True, False, True, True]
    lines = [line for line in caplog.messages if "on the validation images" in line]
    found = [line.partition("learning_rate ")[2] for line in lines]
    assert found == ["0.05)", "1e-09, stopped at 50 %)", "2e-09, trained before)", "3e-09)"]


def test_a_search_says_how_far_it_is_where_no_trial_ends_for_long(striped_search, caplog):
    trial = TuneTrial("trial", stub=True, config={})
    trial.status = TuneTrial.RUNNING
    log = _Log(striped_search(space=RATES, search=ASHA), silent_seconds=0.2)
    with caplog.at_level("INFO", logger="factory"):
        log.on_step_begin(0, [])
        log.on_step_begin(1, [trial])
        time.sleep(0.2)
        log.on_step_begin(2, [trial])
    assert caplog.messages == [
        "0 of 4 configurations, starting",
        "0 of 4 configurations, 1 at work or waiting for their images",
    ]


def train_where_others_are_counted(spec, root, data, images, seed):
    """As good as no other training is under way beside it."""
    own = Path(root, f"busy-{spec.training.learning_rate}")
    own.touch()
    time.sleep(0.5)
    beside = len(list(Path(root).glob("busy-*"))) - 1
    own.unlink()
    yield Score(1 / (1 + beside), 1.0, str(spec.training.learning_rate), 90, 0)


def test_no_more_trainings_are_under_way_than_actors_are_allowed(
    ray_cluster, striped_search, tmp_path
):
    spec = striped_search(arm=REAL, space=RATES, resources={"max_actors": 1})
    tried, _ = searched(spec, tmp_path, planted.make, train_where_others_are_counted)
    assert [trial.accuracy for trial in tried] == [1.0] * 4


@ray.remote(num_returns="streaming")
def follow_where_interrupts_are_ignored(shared, spec):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield from follow_training(shared, spec, None, 0)


def test_a_training_is_cancelled_where_interrupts_are_ignored(
    ray_cluster, striped_search, tmp_path
):
    spec = striped_search(arm=REAL, space=RATES)
    shared = share(prepare(spec, str(tmp_path)), make_images, train_for_ever_unless_stopped)
    never_ends = with_config(spec, {"training.learning_rate": 1e-9})
    rows = follow_where_interrupts_are_ignored.remote(shared, never_ends)
    assert ray.get(next(rows)) == Progress(50, 1e-9, 0.5)
    ray.cancel(rows)
    with pytest.raises(TaskCancelledError):
        ray.get(next(rows))


@pytest.mark.slow
def test_a_stopped_training_leaves_no_record(ray_cluster, striped_search, tmp_path):
    spec = striped_search(
        arm=REAL,
        space=RATES,
        training={"num_steps": 300, "batch_size": 16, "schedule": "constant"},
        search=ASHA | {"grace": 0.05},
    )
    tried, failures = searched(spec, tmp_path)
    assert not failures
    assert [bool(trial.scores) for trial in tried] == [True, False, False, False]
    assert len(list(tmp_path.glob("search/trials/*.json"))) == 1


@pytest.mark.parametrize("lost", [NodeDiedError, OutOfMemoryError])
def test_a_training_that_loses_its_machine_is_begun_again(
    ray_cluster, striped_search, tmp_path, lost
):
    def train_at_the_second_attempt(spec, root, data, images, seed):
        begun = Path(root, "begun")
        yield Progress(50, 0.25, 0.5)
        if not begun.exists():
            begun.touch()
            raise lost("gone")
        yield Score(0.5, 1.0, "", 90, 0)

    spec = striped_search(arm=REAL, space={"training.learning_rate": [LEARNS]})
    [trial], failures = searched(spec, tmp_path, planted.make, train_at_the_second_attempt)
    assert not failures
    assert trial.accuracy == 0.5


def test_images_are_asked_for_again_where_their_maker_dies(ray_cluster, striped_search, tmp_path):
    def die_at_first(spec, root):
        begun = tmp_path / "begun"
        if not begun.exists():
            begun.touch()
            os._exit(1)
        return planted.make(spec, root)

    spec = striped_search(space={"arm.synthetic_ratio": [0.6]})
    [trial], failures = searched(spec, tmp_path / "root", die_at_first, planted.train)
    assert not failures
    assert trial.accuracy == planted.accuracy(with_config(spec, trial.config))
