"""Trainings after the search: in its processes, and as a comparison would train them."""

import pytest
import ray

from factory.classify.prepare import prepare as prepare_comparison
from factory.classify.run import run as run_comparison
from factory.tune.final import final_spec
from factory.tune.prepare import prepare
from factory.tune.results import CHOSEN_ARM, DEFAULT_ARM
from factory.tune.search import search
from factory.tune.shared import share
from factory.tune.training import train_again, trial_env
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


def test_arms_are_trained_as_a_comparison_trains_them(ray_cluster, striped_search, tmp_path):
    # Without synthetic images, and so with one arm.
    prepared = prepare(
        striped_search(arm=REAL, space={"training.learning_rate": [0.05]}), str(tmp_path)
    )
    images = dict.fromkeys([CHOSEN_ARM, DEFAULT_ARM])
    final = prepare_comparison(final_spec(prepared, {}, images), f"{tmp_path}/final")
    assert run_comparison(final, runtime_env=trial_env()).made == 2
    assert run_comparison(final).made == 0
