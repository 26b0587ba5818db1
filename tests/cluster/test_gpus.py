"""GPUs that actors share, and let go of when the stage ends though the connection lives on."""

import json
import subprocess
import sys

import pytest

from tests.cluster.heads import PROJECT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def said(tmp_path_factory, tiny_model):
    """What happened on a machine with one GPU; see `tests.cluster.gpus`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.gpus", tiny_model, tmp_path_factory.mktemp("gpus")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=220,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_half_a_gpu_an_actor_puts_two_on_one_at_once(said):
    assert said["made"] == 6
    assert len(said["gpus"]) == 2
    assert said["gpus"][0] == said["gpus"][1] != []


def test_every_task_with_a_gpu_has_a_process_of_its_own(said):
    assert len(said["processes"]) == len(set(said["processes"])) == 3


def test_gpus_are_free_again_when_all_is_made(said):
    assert said["free_after_all"] == 1


def test_gpus_are_free_again_after_an_early_stop(said):
    assert said["failed"] >= 3
    assert said["free_after_early_stop"] == 1
