"""Trainings after the search: in its processes, and as a comparison would train them."""

import time
from itertools import pairwise

import pytest
import ray

from factory.classify.prepare import prepare as prepare_comparison
from factory.classify.run import run as run_comparison
from factory.tune.final import final_spec
from factory.tune.prepare import prepare
from factory.tune.results import CHOSEN_ARM, DEFAULT_ARM, REAL_ARM
from factory.tune.search import search
from factory.tune.shared import share
from factory.tune.training import _in_trained_processes, train_again, train_arms
from factory.tune.tried import Score
from tests.tune import planted

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

REAL = {"mix": {"kind": "real"}, "batches": "joint"}
"""A mix that has no images drawn."""


def train_and_tell_where(spec, root, data, images, seed):
    yield Score(0.5, 1.0, str(ray.get_runtime_context().runtime_env), 90, 0)


def test_fresh_seeds_have_the_environment_of_trials_and_so_may_go_on_in_their_processes(
    ray_cluster, striped_search, tmp_path, monkeypatch
):
    # Ray Tune hands on what opens a bucket.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    spec = striped_search(arm=REAL, space={"training.learning_rate": [0.05]})
    prepared = prepare(spec, str(tmp_path))
    shared = share(prepared, planted.make, train_and_tell_where)
    [trial], _ = search(prepared, shared)
    [(_, _, again)] = train_again(shared, [(trial.config, None)], [1])
    assert [score.fingerprint for score in trial.scores] == [again.fingerprint]
    assert "somebody" in again.fingerprint


def final_of_real_images(striped_search, root):
    """A final comparison without synthetic images, and so with one arm."""
    prepared = prepare(striped_search(arm=REAL, space={"training.learning_rate": [0.05]}), root)
    images = dict.fromkeys([CHOSEN_ARM, DEFAULT_ARM])
    return prepare_comparison(final_spec(prepared, {}, images), f"{root}/final")


def test_arms_are_trained_as_a_comparison_trains_them(ray_cluster, striped_search, tmp_path):
    final = final_of_real_images(striped_search, str(tmp_path))
    assert run_comparison(final, train_all=train_arms).made == 2
    assert run_comparison(final).made == 0


def test_an_arm_that_fails_is_named_with_its_reason(ray_cluster, striped_search, tmp_path):
    # Nothing was written into its root, as if this machine did not see the driver's.
    final = final_of_real_images(striped_search, str(tmp_path))
    [(name, why)] = train_arms(final, [(REAL_ARM, 1)])
    assert name == "real, seed 1"
    assert why.startswith("SpecError: root ")


def begin_and_end():
    begun = time.monotonic()
    time.sleep(0.2)
    return begun, time.monotonic()


def test_no_more_trainings_run_at_once_than_actors_are_allowed(ray_cluster, striped_search):
    spec = striped_search(resources={"max_actors": 1})
    asked = {("training", seed): () for seed in range(3)}
    times = sorted(times for _, times in _in_trained_processes(begin_and_end, spec, asked))
    assert len(times) == 3
    assert all(end <= begun for (_, end), (begun, _) in pairwise(times))
