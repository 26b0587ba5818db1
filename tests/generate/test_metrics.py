"""What Ray's metrics tell of a run, and that the dashboard asks for nothing else."""

import json
import multiprocessing
import re
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray import cloudpickle

from factory.diffusion.draw import load_sampler
from factory.generate import run as stage
from factory.generate.prepare import prepare
from tests.datasets import small_spec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
NAME = "measured"
LOADING = ("ray_factory_seconds_total", "load")


class Picky:
    """Rejects the first image of every batch, and fails at one."""

    def __init__(self, resolved, bad_seed):
        self._sampler = load_sampler(resolved)
        self.device = self._sampler.device
        self._bad = bad_seed

    def __call__(self, batch):
        if self._bad in {candidate.seed for candidate in batch}:
            raise RuntimeError("planted failure")
        drawn = self._sampler(batch)
        return drawn._replace(rejected=("safety", *drawn.rejected[1:]))


class LoadPicky:
    def __init__(self, bad_seed):
        self._bad = bad_seed

    def __call__(self, resolved):
        return Picky(resolved, self._bad)


def spec_of(model):
    return small_spec(model, name=NAME, images_per_class={"cat": 16, "dog": 16, "T-shirt/top": 8})


def drive(address, model, root) -> tuple[stage.GenerateReport, Counter]:
    """Make a dataset whose first shard fails; its report, and what was told once all was."""
    ray.init(address, logging_level="ERROR", log_to_driver=False)
    spec = spec_of(model)
    asked = prepare(spec, str(root))
    shards = list(asked.resolved.plan.shards())
    bad_seed = asked.resolved.plan.batch(shards[0], 0)[0].seed
    report = stage.run(asked, load=LoadPicky(bad_seed))
    wanted = expected(prepare(spec, str(root)), report)
    # Processes tell their numbers a moment later.
    sums, deadline = told(NAME), time.monotonic() + 30
    while time.monotonic() < deadline:
        if {name: sums[name] for name in wanted} == wanted and sums[LOADING]:
            break
        time.sleep(0.1)
        sums = told(NAME)
    return report, sums


def told(dataset) -> Counter:
    """(name, step or reason) -> sum over processes, as the port of Ray's metrics says it now."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    sums = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("dataset") == dataset:
                tag = sample.labels.get("step") or sample.labels.get("reason") or ""
                sums[sample.name, tag] += sample.value
    return sums


def expected(prepared, report) -> dict:
    records = prepared.inventory.records.values()
    rejected = sum(reasons["safety"] for reasons in report.rejected.values())
    counts = {
        "shards_made_total": report.made,
        "shards_failed_total": len(report.failures),
        "images_accepted_total": report.images_made,
        "candidates_drawn_total": report.num_candidates,
        "bytes_written_total": sum(record.num_bytes for record in records),
        "images_planned": prepared.resolved.plan.num_images,
        "images_done": report.num_images,
    }
    return {(f"ray_factory_{name}", ""): count for name, count in counts.items()} | {
        ("ray_factory_candidates_rejected_total", "safety"): rejected
    }


def test_metrics_equal_the_report_and_the_dashboard_shows_all_of_them(
    ray_cluster, tmp_path, tiny_model
):
    address = ray_cluster.get_runtime_context().gcs_address
    # A driver of its own, as a job is: the suite's has told other numbers for minutes.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as driver:
        report, sums = driver.submit(drive, address, tiny_model, tmp_path).result()
    assert (report.made, len(report.failures)) == (2, 1)
    now = prepare(spec_of(tiny_model), str(tmp_path))
    wanted = expected(now, report)
    assert {name: sums[name] for name in wanted} == wanted
    steps = Counter()
    for record in now.inventory.records.values():
        steps.update(record.seconds)
    for step, seconds in steps.items():
        assert sums["ray_factory_seconds_total", step] == pytest.approx(seconds)
    assert sums[LOADING] > 0
    queries = re.findall(r"ray_factory_\w+", json.dumps(json.loads(DASHBOARD.read_text())))
    assert set(queries) == {name for name, _ in sums}
