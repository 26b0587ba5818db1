"""The stage on a real Ray: 1 and 2 actors, kills, failures, growth."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray import cloudpickle

from factory.generate import run as stage
from factory.generate.prepare import prepare
from factory.records import claim_device, dataset_digest
from factory.spec import SpecError
from factory.store import Store
from tests.datasets import SMALL, make_dataset, plain_words, small_spec
from tests.generate import killers
from tests.generate.killers import LoadKiller

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

# The planted samplers below travel to actors, which cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(killers)

JOB = Path(__file__).parents[2] / "jobs" / "generate.py"


@pytest.fixture(scope="module")
def expected(tmp_path_factory, tiny_model):
    """Digest of the small dataset, made in one process."""
    made = make_dataset(tmp_path_factory.mktemp("expected"), tiny_model)
    return dataset_digest(made.inventory.records)


def run(model, root, load=stage.load_sampler, **fields):
    return stage.run(prepare(small_spec(model, **fields), str(root)), load=load)


def files(root):
    return {p.relative_to(root).as_posix() for p in Path(root).rglob("*") if p.is_file()}


def assert_clean(root, report):
    """Nothing is there but the counted records, their shards, and the root's own files."""
    own = {"spec.json", "device.json", "report.json", "contact-sheet.png"}
    assert report.missing == []
    assert len(files(root) - own) == 2 * report.num_shards


@pytest.mark.parametrize("actors", [1, 2])
def test_number_of_actors_does_not_change_the_digest(
    ray_cluster, tmp_path, tiny_model, expected, actors
):
    resources = {"min_actors": actors, "max_actors": actors, "num_cpus": 1}
    report = run(tiny_model, tmp_path, resources=resources)
    assert report.digest == expected
    assert (report.made, report.skipped, report.num_images) == (3, 0, 40)
    assert report.class_counts == {"cat": 14, "dog": 13, "T-shirt/top": 13}
    assert_clean(tmp_path, report)


def test_growing_and_asking_for_less(ray_cluster, tmp_path, tiny_model, expected):
    assert run(tiny_model, tmp_path, num_images=20).made == 2
    grown = run(tiny_model, tmp_path)
    assert (grown.digest, grown.made, grown.skipped) == (expected, 2, 1)
    assert_clean(tmp_path, grown)
    before = files(tmp_path)
    whole = (tmp_path / "report.json").read_bytes()
    less = run(tiny_model, tmp_path, num_images=10)
    assert (tmp_path / "report.json").read_bytes() == whole
    assert (less.digest, less.made, less.skipped, less.num_images) == (expected, 0, 1, 10)
    assert files(tmp_path) == before


def test_what_another_driver_makes_meanwhile_does_not_count_as_made(
    ray_cluster, tmp_path, tiny_model, expected
):
    prepared = prepare(small_spec(tiny_model), str(tmp_path))
    make_dataset(tmp_path, tiny_model, num_images=32)
    report = stage.run(prepared)
    assert (report.made, report.images_made, report.skipped) == (1, 8, 2)
    assert (report.digest, report.num_images) == (expected, 40)
    assert_clean(tmp_path, report)


def test_a_killed_actor_changes_nothing(ray_cluster, tmp_path, tiny_model, expected):
    marker = tmp_path / "killed"
    report = run(tiny_model, tmp_path / "root", load=LoadKiller(marker, batch=4))
    assert marker.exists()
    assert report.digest == expected
    assert_clean(tmp_path / "root", report)


class KillsAlways:
    """A sampler whose process dies whenever it reaches a certain image."""

    def __init__(self, resolved, marker):
        self._sampler = stage.load_sampler(resolved)
        self.device = self._sampler.device
        self._marker = Path(marker)

    def __call__(self, batch):
        if int(self._marker.read_text()) in {candidate.seed for candidate in batch}:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._sampler(batch)


class LoadAlwaysKiller:
    def __init__(self, marker):
        self._marker = marker

    def __call__(self, resolved):
        return KillsAlways(resolved, self._marker)


def test_a_shard_that_kills_its_process_is_given_up_and_the_others_are_made(
    ray_cluster, tmp_path, tiny_model
):
    plan = prepare(small_spec(tiny_model), str(tmp_path / "root")).resolved.plan
    marker = tmp_path / "seed"
    marker.write_text(str(next(iter(plan.batch(1, 0))).seed))
    report = run(tiny_model, tmp_path / "root", load=LoadAlwaysKiller(str(marker)))
    assert (report.made, report.missing) == (2, [1])
    assert [failure.shard for failure in report.failures] == [1]
    assert "died 3 times" in report.failures[0].error


class Fails:
    def __init__(self, bad_seeds, marker=None):
        self._bad = bad_seeds
        self._marker = marker

    def __call__(self, resolved):
        sampler = stage.load_sampler(resolved)

        class Sampler:
            device = sampler.device

            def __call__(_, batch):
                if self._bad & {candidate.seed for candidate in batch}:
                    raise RuntimeError("planted failure")
                return sampler(batch)

        return Sampler()


def test_a_failing_shard_is_named_and_the_others_are_made(
    ray_cluster, tmp_path, tiny_model, expected
):
    plan = prepare(small_spec(tiny_model), str(tmp_path)).resolved.plan
    report = run(tiny_model, tmp_path, load=Fails({plan.candidate(1, 2).seed}))
    assert (report.made, report.missing) == (2, [1])
    assert [failure.shard for failure in report.failures] == [1]
    assert "planted failure" in report.failures[0].error
    mended = run(tiny_model, tmp_path)
    assert (mended.digest, mended.made) == (expected, 1)


def test_the_run_stops_early_when_the_first_shards_all_fail(ray_cluster, tmp_path, tiny_model):
    plan = prepare(small_spec(tiny_model, num_images=400), str(tmp_path)).resolved.plan
    every = {plan.candidate(shard, 0).seed for shard in plan.shards()}
    report = run(tiny_model, tmp_path, load=Fails(every), num_images=400)
    assert report.made == 0
    assert 3 <= len(report.failures) <= 5
    assert len(report.missing) == 25


def test_the_run_stops_when_no_more_shards_can_be_made(ray_cluster, tmp_path, tiny_model):
    plan = prepare(small_spec(tiny_model, num_images=640), str(tmp_path)).resolved.plan
    later = {plan.candidate(shard, 0).seed for shard in plan.shards() if shard >= 4}
    # With a second actor, what it makes late would begin the count again.
    alone = {"max_actors": 1}
    report = run(tiny_model, tmp_path, load=Fails(later), num_images=640, resources=alone)
    assert report.made == 4
    assert len(report.failures) == 10
    assert len(report.missing) == 36


def test_the_run_stops_at_a_machine_whose_device_is_of_another_kind(
    ray_cluster, tmp_path, tiny_model
):
    claim_device(Store(str(tmp_path)), "NVIDIA Imagined")
    report = run(tiny_model, tmp_path, num_images=400)
    assert (report.made, len(report.missing)) == (0, 25)
    assert [failure.ends_run for failure in report.failures] == [True]
    assert "NVIDIA Imagined" in report.failures[0].error


class SmallDevice:
    """A sampler on a device without memory for half a batch, which counts its whole batches."""

    def __init__(self, marker):
        self._marker = Path(marker)

    def __call__(self, resolved):
        sampler, marker = stage.load_sampler(resolved), self._marker

        class Sampler:
            device = sampler.device

            def __call__(_, batch):
                if len(batch) == resolved.spec.batch_size:
                    with marker.open("a") as file:
                        file.write(f"{batch[0].shard}\n")
                if len(batch) > 2:
                    raise torch.OutOfMemoryError("planted")
                return sampler(batch)

        return Sampler()


def test_a_batch_that_does_not_fit_is_tried_once_a_shard_and_a_size_that_fits_is_named(
    ray_cluster, tmp_path, tiny_model
):
    marker = tmp_path / "tried"
    report = run(tiny_model, tmp_path / "root", load=SmallDevice(marker))
    assert (report.made, report.missing) == (0, [0, 1, 2])
    assert sorted(marker.read_text().split()) == ["0", "1", "2"]
    for failure in report.failures:
        assert "BatchTooLarge: batch_size: is 6, " in failure.error
        assert "give batch_size=1, " in failure.error


class Elsewhere(Store):
    """A root of which the driver alone sees another folder than the actors."""

    @contextmanager
    def shown(self):
        with Store(f"{self.url}-of-the-driver").shown() as name:
            yield name


def test_the_run_stops_at_a_machine_that_sees_another_folder(ray_cluster, tmp_path, tiny_model):
    prepared = prepare(small_spec(tiny_model, num_images=400), str(tmp_path / "root"))
    report = stage.run(replace(prepared, store=Elsewhere(prepared.store.url)))
    assert (report.made, len(report.missing)) == (0, 25)
    assert [failure.ends_run for failure in report.failures] == [True]
    assert "all machines share" in report.failures[0].error


def test_memory_root_is_refused(tiny_model):
    with pytest.raises(SpecError, match="memory://"):
        run(tiny_model, "memory://nowhere")


def command(model, root, *overrides):
    small = [f"{name}={value}" for name, value in SMALL.items()]
    return [sys.executable, JOB, *plain_words(model), *small, *overrides, "--root", root]


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_run_killed_at_a_random_moment_and_run_again_equals_a_clean_one(
    ray_cluster, tmp_path, tiny_model, expected, seed
):
    # The driver is a process of its own that uses the suite's Ray.
    address = ray_cluster.get_runtime_context().gcs_address
    words = [*command(tiny_model, tmp_path), "--address", address]
    victim = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    moment = random.Random(seed).uniform(0, 1)
    deadline = time.monotonic() + 60
    # From the first file in the root on, a driver lives about a second longer.
    while not (tmp_path / "spec.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moment * 4)
    victim.kill()
    victim.communicate()
    again = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    finished = prepare(small_spec(tiny_model), str(tmp_path))
    assert dataset_digest(finished.inventory.records) == expected
    assert finished.num_pending == 0
    report = stage.GenerateReport.model_validate_json(again.stdout)
    assert_clean(tmp_path, report)
