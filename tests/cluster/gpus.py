"""Generation jobs on one machine with one GPU, which is only a number; runs in its own process.

python -m tests.cluster.gpus MODEL FOLDER
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import ray

from factory.cluster import run_tasks
from factory.generate.prepare import prepare
from factory.generate.run import run
from factory.generate.shard import load_sampler
from factory.spec import Resources
from tests.datasets import small_spec

PATIENCE_SECONDS = 60
TASKS = dict.fromkeys(range(3), ())


class Meeting:
    """A sampler that waits until two processes hold a GPU at once, and writes down which."""

    def __init__(self, resolved, folder):
        self._sampler = load_sampler(resolved)
        self.device = self._sampler.device
        self._marks = Path(folder)
        (self._marks / str(os.getpid())).write_text(json.dumps(ray.get_gpu_ids()))

    def __call__(self, batch):
        end = time.monotonic() + PATIENCE_SECONDS
        while len([*self._marks.iterdir()]) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        return self._sampler(batch)


class LoadMeeting:
    def __init__(self, folder):
        self._folder = str(folder)

    def __call__(self, resolved):
        return Meeting(resolved, self._folder)


def own_pid():
    return os.getpid()


def load_nothing(resolved):
    raise RuntimeError("planted failure")


def gpus_free_in_the_end() -> float:
    """GPUs that nobody holds, once all are free or patience is gone."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (free := ray.available_resources().get("GPU", 0.0)) < 1 and time.monotonic() < end:
        time.sleep(0.1)
    return free


def main(model: str, folder: str) -> None:
    marks = Path(folder, "marks")
    marks.mkdir()
    ray.init(
        address="local",
        namespace="factory-private",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        object_store_memory=2**27,
        # Unix sockets in the folder limit its path to about 60 characters.
        _temp_dir=tempfile.mkdtemp(prefix="ray-"),
    )
    half = {"num_gpus": 0.5, "num_cpus": 1}
    shared = prepare(small_spec(model, num_images=96, resources=half), f"{folder}/shared")
    made = run(shared, load=LoadMeeting(marks)).made
    free_after_all = gpus_free_in_the_end()
    whole = {"num_gpus": 1, "num_cpus": 1}
    hopeless = prepare(small_spec(model, num_images=400, resources=whole), f"{folder}/hopeless")
    failed = len(run(hopeless, load=load_nothing).failures)
    one_gpu = Resources(num_gpus=1, num_cpus=1)
    said = {
        "processes": [pid for _, pid in run_tasks(own_pid, TASKS, resources=one_gpu, threads=1)],
        "made": made,
        "gpus": [json.loads(mark.read_text()) for mark in marks.iterdir()],
        "free_after_all": free_after_all,
        "failed": failed,
        "free_after_early_stop": gpus_free_in_the_end(),
    }
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
