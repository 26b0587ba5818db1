"""Comparisons through Ray: side by side, resumed, and on two workers of Ray Train."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from factory.classify.prepare import classifier_folder, prepare
from factory.classify.run import _side_by_side, run
from factory.spec import JobError, SpecError
from factory.store import Store
from factory.vision.classifier import load_classifier

PROJECT = Path(__file__).parents[2]
HALF = {"kind": "replace", "fraction": 0.5}


def test_arms_are_trained_compared_and_reported(ray_cluster, comparison, tmp_path, caplog):
    caplog.set_level("INFO", logger="factory")
    spec = comparison(arms={"real": {}, "half": {"mix": HALF}}, training={"epochs": 5})
    report = run(prepare(spec, str(tmp_path)))
    assert (report.made, report.skipped, report.failures) == (4, 0, {})
    assert list(report.arms) == ["real", "half"]
    assert report.arms["real"].top1.mean > 0.9
    verdict = report.verdicts[0]
    assert (verdict.arm, verdict.baseline) == ("half", "real")
    assert "not known" in verdict.leakage
    # Synthetic stripes are as good as real ones: a difference would be a false alarm.
    assert verdict.overall.outcome == "no evidence"
    store = Store(str(tmp_path))
    assert json.loads(store.get("report.json")) == report.model_dump(mode="json")
    assert b"no evidence" in store.get("report.html")
    assert "no evidence that half differs from real" in caplog.text
    assert report.html in caplog.text


def test_second_run_trains_nothing_and_more_seeds_train_only_those(
    ray_cluster, comparison, tmp_path
):
    spec = comparison(arms={"real": {}}, num_seeds=1, training={"epochs": 1})
    first = run(prepare(spec, str(tmp_path)))
    again = run(prepare(spec, str(tmp_path)))
    assert (again.made, again.skipped) == (0, 1)
    assert again.arms == first.arms
    more = run(prepare(spec.model_copy(update={"num_seeds": 3}), str(tmp_path)))
    assert (more.made, more.skipped) == (2, 1)


def test_one_and_two_workers_agree_without_batch_norm(ray_cluster, comparison, tmp_path):
    def weights(num_workers):
        spec = comparison(
            arms={"real": {}},
            classifier={"width": 4, "norm": "group"},
            num_seeds=1,
            num_workers=num_workers,
            save_classifiers=True,
            training={"epochs": 1, "learning_rate": 0.01},
        )
        root = tmp_path / str(num_workers)
        report = run(prepare(spec, str(root)))
        folder = classifier_folder(report.arms["real"].fingerprint, 0)
        return load_classifier(root / folder).state_dict()

    one, two = weights(1), weights(2)
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-5


@pytest.mark.slow
def test_two_workers_train_a_network_with_batch_norm(ray_cluster, comparison, tmp_path):
    spec = comparison(arms={"real": {}}, num_seeds=1, num_workers=2, training={"epochs": 6})
    assert run(prepare(spec, str(tmp_path))).arms["real"].top1.mean > 0.9


def test_comparison_without_a_trained_baseline_is_an_error(ray_cluster, comparison, tmp_path):
    spec = comparison(
        arms={"real": {}},
        num_seeds=1,
        training={"epochs": 1, "learning_rate": 1e30, "schedule": "constant"},
    )
    with pytest.raises(JobError, match=r"real.*learning_rate"):
        run(prepare(spec, str(tmp_path)))
    assert not (tmp_path / "report.json").exists()


def test_an_arm_that_fails_is_named_with_its_reason(ray_cluster, comparison, tmp_path):
    # Nothing was written into its root, as if this machine did not see the driver's.
    prepared = prepare(comparison(arms={"real": {}}), str(tmp_path))
    [(name, why)] = _side_by_side(prepared, [("real", 1)], None)
    assert name == "real, seed 1"
    assert why.startswith("SpecError: root ")


def test_arms_of_the_same_images_share_their_trainings(ray_cluster, comparison, tmp_path):
    none = {"mix": {"kind": "replace", "fraction": 0.0}}
    spec = comparison(arms={"real": {}, "none replaced": none}, training={"epochs": 1})
    report = run(prepare(spec, str(tmp_path)))
    assert (report.made, report.skipped) == (2, 0)
    assert report.arms["real"].seed_top1 == report.arms["none replaced"].seed_top1
    assert report.verdicts[0].overall.difference.mean == 0


def test_memory_root_is_refused(comparison):
    with pytest.raises(SpecError, match="memory"):
        run(prepare(comparison(arms={"real": {}}), "memory://results"))


def test_killed_job_goes_on_and_gives_the_same_predictions(ray_cluster, comparison, tmp_path):
    """The job in processes of its own, SIGKILL between two trainings."""
    spec = comparison(arms={"real": {}, "half": {"mix": HALF}}, training={"epochs": 2})
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(spec.model_dump(mode="json")))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(prepare(spec, str(whole)))
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "jobs" / "classify.py"), str(file), "--root", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list(killed.glob("trials/*.json")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(list(killed.glob("trials/*.json"))) < 4
    # A worker may outlive the job by a record; what is there is not made again.
    assert 0 < run(prepare(spec, str(killed))).made < 4
    assert predictions(killed) == predictions(whole)


def predictions(root):
    return {path.name: path.read_bytes() for path in root.glob("trials/*.npy")}
