"""Searches through Ray: nothing drawn twice, resumed, and right about a planted optimum."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median

import pytest
import ray

from factory.classify.prepare import prepare as prepare_comparison
from factory.generate.prepare import prepare as prepare_images
from factory.spec import (
    ClassifySpec,
    GenerateSpec,
    JobError,
    Resources,
    SpecError,
    TuneSpec,
    load_spec,
)
from factory.tune.make import make_images
from factory.tune.prepare import count_images, prepare
from factory.tune.run import run
from factory.tune.search import search
from factory.tune.shared import share
from factory.tune.space import combinations, values, with_config
from factory.tune.trial import train
from tests.datasets import make_here
from tests.tune import planted

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
GUIDANCE = "generate.generator.guidance_scale"


@pytest.fixture(scope="module")
def searched(ray_cluster, tmp_path_factory):
    """The smoke search, finished, with its spec and root."""
    root = tmp_path_factory.mktemp("searched")
    smoke = load_spec(TuneSpec, str(PROJECT / "jobs" / "specs" / "tune_smoke.yaml"))
    prices = Resources(price_per_hour=3600.0)
    images = smoke.generate.model_copy(update={"resources": prices})
    spec = smoke.model_copy(update={"resources": prices, "generate": images})
    return spec, root, run(prepare(spec, str(root)))


def test_smoke_search_is_small(searched):
    spec, _, report = searched
    # 41 to 45 s on two quiet cores, nearly all of it the start of processes; here other work may
    # go on beside it.
    assert report.seconds < 250
    assert report.num_drawn <= 200
    trained = 4 * spec.search.num_seeds + 2 * spec.confirm.num_seeds + 3 * spec.num_seeds
    assert trained * spec.training.num_steps * spec.training.batch_size < 15_000


def test_all_trials_read_one_dataset_that_is_drawn_once(searched):
    spec, root, report = searched
    assert len(report.trials) == 4
    assert not report.failures
    (dataset,) = report.datasets
    # 100 real images, and twice as many synthetic ones at most.
    assert report.num_images == report.num_drawn == dataset.num_images == 200
    assert report.num_images_asked == dataset.num_asked == 2 * (100 + 200)
    (prepared,) = prepare(spec, str(root)).datasets.values()
    assert count_images(prepared) == 200


def test_chosen_is_the_best_of_the_confirmed_and_tested_once(searched):
    spec, _, report = searched
    means = [trial.accuracy.mean for trial in report.confirmed]
    assert means == sorted(means, reverse=True)
    assert report.chosen == report.confirmed[0].config
    finished = sorted((trial.accuracy for trial in report.trials), reverse=True)
    for trial in report.confirmed:
        assert len(trial.accuracies) == spec.confirm.num_seeds
        assert report.trials[trial.number - 1].accuracy >= finished[1]
    assert next(iter(report.final.arms)) == "real"
    assert report.final.arms["chosen mix"].mean > 0.15  # 0.1 is chance
    assert report.final.against_real.arm == "chosen mix"
    if report.final.against_default is not None:
        assert report.final.against_default.baseline == "default mix"


def test_chosen_specs_are_taken_as_they_are(searched):
    _, root, report = searched
    comparison = load_spec(ClassifySpec, report.chosen_classify)
    assert not prepare_comparison(comparison, str(root / "final")).pending()
    images = load_spec(GenerateSpec, report.chosen_generate)
    assert prepare_images(images, comparison.synthetic["chosen"].path).num_pending == 0


def test_costs_are_those_of_trainings_and_images(searched):
    _, _, report = searched
    seconds = report.training_seconds + report.drawing_seconds
    assert report.cost == pytest.approx(seconds, abs=0.2)  # a unit of money a second
    assert report.training_seconds > sum(trial.training_seconds for trial in report.trials)
    for trial in report.trials:
        dataset = next(d for d in report.datasets if d.fingerprint == trial.dataset)
        share = trial.num_synthetic / dataset.num_images
        assert trial.drawing_seconds == pytest.approx(share * dataset.device_seconds, abs=0.02)


def test_second_run_draws_and_trains_nothing(searched):
    spec, root, report = searched
    before = {path: path.stat().st_mtime_ns for path in root.glob("search/trials/*")}
    before |= {path: path.stat().st_mtime_ns for path in root.glob("datasets/*/data/*")}
    again = run(prepare(spec, str(root)))
    assert again.num_drawn == 0
    assert (again.trials, again.confirmed, again.chosen) == (
        report.trials,
        report.confirmed,
        report.chosen,
    )
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert json.loads((root / "report.json").read_text()) == again.model_dump(mode="json")


def shared_by(prepared, make, train):
    return prepared, share(prepared, make, train)


def find(striped_search, tmp_path, **settings):
    """Trials of a search for the planted optimum."""
    spec = striped_search(space=planted.SPACE, search=settings)
    prepared = prepare(spec, str(tmp_path))
    tried, failures = search(*shared_by(prepared, planted.make, planted.train))
    assert not failures
    return tried


def test_grid_finds_the_planted_optimum_and_draws_the_union_of_what_trials_ask(
    ray_cluster, striped_search, tmp_path
):
    spec = striped_search(
        space={
            "arm.synthetic_ratio": [0.4, 0.6],
            GUIDANCE: [1.0, 2.5],
            "arm.mix.multiplier": [2.0, 3.0],
        }
    )
    prepared = prepare(spec, str(tmp_path))
    shared = share(prepared, make_here, planted.train)
    tried, _ = search(prepared, shared)
    assert len(tried) == 8
    best = max(tried, key=lambda trial: trial.accuracy)
    assert (best.config, best.accuracy) == (planted.BEST, 1.0)
    # Three times 90 real images of each guidance; the default one is not asked for.
    drawn = {
        dataset.config.get(GUIDANCE): count_images(dataset)
        for dataset in prepared.datasets.values()
    }
    assert drawn == {1.0: 270, 2.5: 270}
    assert ray.get(shared.maker.drawn.remote()) == 540


@pytest.mark.slow
def test_optuna_finds_the_planted_optimum_and_stays_near_it(ray_cluster, striped_search, tmp_path):
    tried = find(striped_search, tmp_path, searcher="optuna", num_trials=40, max_concurrent=1)
    assert len(tried) == 40
    assert max(trial.accuracy for trial in tried) == 1.0
    # The 84 configurations have a mean of 0.84. Of 30 seeds of Optuna the last 20 trials never had
    # one below 0.88, and one in a hundred random searches has.
    assert fmean(trial.accuracy for trial in tried[20:]) > 0.88


@pytest.mark.slow
def test_random_configurations_are_of_the_space_and_a_function_of_the_seed(
    ray_cluster, striped_search, tmp_path
):
    def configs(folder, **fields):
        spec = striped_search(
            space=planted.SPACE | {"training.learning_rate": {"low": 0.01, "high": 0.1}},
            search={"searcher": "random", "num_trials": 4},
            **fields,
        )
        prepared = prepare(spec, str(tmp_path / folder))
        tried, failures = search(*shared_by(prepared, planted.make, planted.train))
        assert not failures
        return spec, [trial.config for trial in tried]

    spec, drawn = configs("first")
    assert len(drawn) == 4
    for path, parameter in spec.space.items():
        found = [config[path] for config in drawn]
        if values(parameter) is None:
            assert all(0.01 <= value <= 0.1 for value in found)
            assert len(set(found)) == 4
        else:
            assert set(found) <= set(values(parameter))
    assert configs("again")[1] == drawn
    assert configs("other seed", seed=1)[1] != drawn


def test_asha_stops_those_that_are_behind_the_better_half_before_them(
    ray_cluster, striped_search, tmp_path
):
    # The best is neither the first, which is never stopped, nor the last.
    spec = striped_search(
        space={"arm.synthetic_ratio": [0.8, 0.2, 0.6, 0.4], "arm.mix.multiplier": [1.0, 2.0]},
        search={"scheduler": "asha", "grace": 0.5, "reduction_factor": 2, "max_concurrent": 1},
    )
    prepared = prepare(spec, str(tmp_path))
    tried, _ = search(*shared_by(prepared, planted.make, planted.train))
    assert len(tried) == 8
    before: list[float] = []
    for trial in tried:
        found = planted.accuracy(with_config(spec, trial.config)) / 2
        is_behind = bool(before) and found < median(before)
        assert (trial.percent, bool(trial.scores)) == ((50, False) if is_behind else (100, True))
        before.append(found)
    best = max((trial for trial in tried if trial.scores), key=lambda trial: trial.accuracy)
    assert best.config == {"arm.synthetic_ratio": 0.6, "arm.mix.multiplier": 2.0}


def test_a_configuration_that_fails_is_named_and_the_others_go_on(
    ray_cluster, striped_search, tmp_path
):
    spec = striped_search(
        space={"training.learning_rate": [0.05, 1e30]}, training={"num_steps": 60, "batch_size": 16}
    )
    tried, failures = search(*shared_by(prepare(spec, str(tmp_path)), make_images, train))
    assert list(failures) == ["2: learning_rate 1e+30"]
    assert "TrainingFailed" in failures["2: learning_rate 1e+30"]
    assert [trial.config for trial in tried] == [{"training.learning_rate": 0.05}]
    everything = striped_search(space={"training.learning_rate": [1e30]})
    with pytest.raises(JobError, match="no configuration"):
        run(prepare(everything, str(tmp_path)))


def test_workers_that_do_not_fit_are_refused_before_any_work(ray_cluster, striped_search, tmp_path):
    spec = striped_search(num_workers=8, space={"arm.synthetic_ratio": [0.5]})
    with pytest.raises(SpecError, match=r"num_workers: is 8.*room for 2"):
        run(prepare(spec, str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_killed_search_goes_on_without_repeating_what_is_done(
    ray_cluster, striped_search, tmp_path
):
    """The job in processes of its own, SIGKILL between two trials."""
    spec = striped_search()
    file, root = tmp_path / "spec.yaml", tmp_path / "root"
    file.write_text(json.dumps(spec.model_dump(mode="json", exclude_unset=True)))
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "jobs" / "tune.py"), str(file), "--root", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.poll() is None and len(list(root.glob("search/trials/*.json"))) < 3:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # Records are created, never replaced: a training that is repeated shows in its predictions.
    records = [json.loads(path.read_bytes()) for path in root.glob("search/trials/*.json")]
    done = {path: path.stat().st_mtime_ns for path in predictions(root, records)}
    assert 3 <= len(done) < 8
    report = run(prepare(spec, str(root)))
    configs = [trial.config for trial in report.trials]
    assert sorted(configs, key=str) == sorted(combinations(spec.space), key=str)
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert report.num_there + report.num_drawn == report.num_images


def predictions(root, records):
    return [root / "search" / record["predictions"] for record in records]


@pytest.mark.slow
def test_two_workers_train_a_trial(ray_cluster, striped_search, tmp_path):
    spec = striped_search(
        space={"arm.synthetic_ratio": [0.25, 0.5]},
        num_workers=2,
        search={"scheduler": "asha", "grace": 0.5},
        resources={"num_cpus": 0.5},
        confirm={"top": 1, "num_seeds": 1},
        num_seeds=1,
    )
    report = run(prepare(spec, str(tmp_path)))
    assert len(report.trials) == 2
    assert any(trial.is_finished for trial in report.trials)
