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
PATIENCE_SECONDS = 120


class WaitsForAnother:
    """A sampler on the first machine begins at once; on another, once a shard is recorded.

    A mark, left when it is loaded, holds the number of shards that were recorded by then. Once one
    is, no machine draws without a second one.
    """

    def __init__(self, resolved, root, marks):
        self._sampler = load_sampler(resolved)
        self.device = self._sampler.device
        self._root, self._marks = Path(root), Path(marks)
        try:
            Path(f"{marks}-first").touch(exist_ok=False)
        except FileExistsError:
            wait_until(self._num_recorded)
        mark = self._marks / ray.get_runtime_context().get_node_id()
        mark.write_text(str(self._num_recorded()))

    def __call__(self, batch):
        if self._num_recorded():
            wait_until(lambda: len([*self._marks.iterdir()]) > 1)
        return self._sampler(batch)

    def _num_recorded(self):
        return len([*self._root.glob("records/*/*.json")])


def wait_until(is_true):
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_true() and time.monotonic() < end:
        time.sleep(0.05)


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
