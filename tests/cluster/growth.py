"""A generation job on an autoscaling cluster, and who watches it; each runs in its own process.

python growth.py make MODEL ROOT MARKS
python growth.py watch
"""

import os
import sys
import time
from pathlib import Path

import ray

from factory.cluster import connect
from factory.generate.prepare import prepare
from factory.generate.run import run
from factory.generate.shard import load_sampler
from tests.datasets import small_spec

NUM_IMAGES = 160
"""Ten shards."""
FIRST_ALONE = 3
"""Shards of which none waits for a second machine."""
PATIENCE_SECONDS = 120


class WaitsForAnother:
    """A sampler that leaves a mark when it comes, and in later shards waits for a second one's.

    Its mark holds the number of shards that were recorded before it came.
    """

    def __init__(self, resolved, root, marks):
        self._sampler = load_sampler(resolved)
        self.device = self._sampler.device
        self._later = {plan_seed(resolved, shard) for shard in range(FIRST_ALONE, 10)}
        self._marks = Path(marks)
        recorded = len([*Path(root).glob("records/*/*.json")])
        (self._marks / ray.get_runtime_context().get_node_id()).write_text(str(recorded))

    def __call__(self, batch):
        if batch[0].seed in self._later:
            end = time.monotonic() + PATIENCE_SECONDS
            while len([*self._marks.iterdir()]) < 2 and time.monotonic() < end:
                time.sleep(0.05)
        return self._sampler(batch)


def plan_seed(resolved, shard):
    return next(iter(resolved.plan.batch(shard, 0))).seed


class LoadWaiting:
    def __init__(self, root, marks):
        self._root, self._marks = root, marks

    def __call__(self, resolved):
        return WaitsForAnother(resolved, self._root, self._marks)


def spec(model):
    return small_spec(model, num_images=NUM_IMAGES, resources={"num_gpus": 1})


def make(model, root, marks):
    report = run(prepare(spec(model), root), os.environ["RAY_ADDRESS"], LoadWaiting(root, marks))
    sys.stdout.write(report.digest)


def watch():
    """A line whenever the number of workers has changed: seconds and workers."""
    started, before = time.monotonic(), None
    with connect(os.environ["RAY_ADDRESS"]):
        while True:
            workers = sum(node["Alive"] for node in ray.nodes()) - 1
            if workers != before:
                sys.stdout.write(f"{time.monotonic() - started:.1f} {workers}\n")
                sys.stdout.flush()
                before = workers
            time.sleep(0.1)


if __name__ == "__main__":
    {"make": make, "watch": watch}[sys.argv[1]](*sys.argv[2:])
