"""A generation job on a cluster that starts empty: Ray's own autoscaler, fake machines and GPUs."""

import subprocess
import sys

import pytest

from factory.records import dataset_digest
from tests.cluster import growth
from tests.cluster.growing import MAX_NODES, growing_head
from tests.cluster.heads import BIN, PROJECT
from tests.datasets import make_dataset

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


def start(head, *words):
    return subprocess.Popen(
        [BIN / "python", "-m", "tests.cluster.growth", *map(str, words)],
        cwd=PROJECT,
        env={**head.shell, "RAY_ADDRESS": head.address},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_job_grows_an_empty_cluster_makes_the_same_bytes_and_lets_it_go(tmp_path, tiny_model):
    marks = tmp_path / "marks"
    marks.mkdir()
    root = tmp_path / "root"
    seen = []
    with growing_head(tmp_path) as head, start(head, "watch") as watching:
        try:
            assert watching.stdout is not None
            seen.append(watching.stdout.readline())
            with start(head, "make", tiny_model, root, marks) as making:
                digest = making.communicate()[0].strip()
            for line in watching.stdout:
                seen.append(line)
                if line.split()[1] == "0":
                    break
        finally:
            watching.kill()
    sys.stdout.write(f"seconds, workers: {seen}\n")
    workers = [int(line.split()[1]) for line in seen]
    assert (workers[0], max(workers), workers[-1]) == (0, MAX_NODES, 0)
    recorded = sorted(int(mark.read_text()) for mark in marks.iterdir())
    assert len(recorded) == MAX_NODES
    assert recorded[0] == 0 < recorded[1], "the first machine works while the second starts"
    expected = make_dataset(tmp_path / "expected", tiny_model, num_images=growth.NUM_IMAGES)
    assert digest == dataset_digest(expected.inventory.records)
