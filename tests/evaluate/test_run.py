"""An evaluation on a real Ray: what is computed once, and what is left in the root."""

import json

import numpy as np
import pytest

from factory.evaluate.prepare import prepare
from factory.evaluate.results import EvaluateReport
from factory.evaluate.run import run
from factory.evaluate.work import read_look
from factory.spec import JobError, SourceSpec
from factory.spec.evaluate import HELD_OUT
from factory.vision.labeller import load_labeller
from tests.evaluate.test_measure import CPU, fill

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

OTHER = SourceSpec(num_images=60, seed=3)


def test_features_are_computed_once_and_the_report_is_the_same(
    ray_cluster, small_spec, looker, tmp_path
):
    root = str(tmp_path / "root")
    first = run(prepare(small_spec({"one": OTHER}), root))
    assert (first.num_extracted, first.num_cached) == (2 * 240, 0)
    again = run(prepare(small_spec({"one": OTHER}), root))
    assert (again.num_extracted, again.num_cached) == (0, 2 * 240)
    assert again.datasets == first.datasets

    # More datasets cost their own images alone; one whose pixels are known, nothing.
    more = {"one": OTHER, "two": SourceSpec(num_images=60, seed=4), "same": OTHER}
    grown = run(prepare(small_spec(more), root))
    assert grown.num_extracted == 2 * 60
    assert grown.datasets["one"] == first.datasets["one"]
    assert grown.datasets["same"].extractors == first.datasets["one"].extractors

    # What actors left is what the network says in this process, to the bit.
    prepared = prepare(small_spec({"one": OTHER}), root)
    features = load_labeller(looker, CPU).features(prepared.sources["one"].images)
    np.testing.assert_array_equal(read_look(prepared, prepared.looks[0], "one"), features)

    assert grown.classifier.startswith("the classifier looker ")
    saved = EvaluateReport.model_validate_json((tmp_path / "root/report.json").read_bytes())
    assert saved == grown
    assert (tmp_path / "root/report.html").stat().st_size < 5e6
    assert list((tmp_path / "root/pictures").glob("*.png"))


@pytest.mark.slow
def test_the_small_classifier_is_trained_once_and_sees_classes(ray_cluster, small_spec, tmp_path):
    spec = small_spec({"one": OTHER}, classifier=None, real=SourceSpec(num_images=400))
    root = str(tmp_path)
    report = run(prepare(spec, root))
    own = report.datasets[HELD_OUT].classifier
    assert own is not None
    assert own.agreement.value > 0.5  # 0.1 is chance
    (weights,) = (tmp_path / "classifier").iterdir()
    written = weights.stat().st_mtime_ns
    run(prepare(spec.model_copy(update={"confidence": 0.9}), root))
    assert weights.stat().st_mtime_ns == written


def test_a_killed_evaluation_goes_on_from_what_is_there(ray_cluster, small_spec, tmp_path):
    prepared = prepare(small_spec({"one": OTHER}), str(tmp_path))
    fill(prepared)
    lost = sorted((tmp_path / prepared.looks[0]).iterdir())[0]
    lost.unlink()
    report = run(prepared)
    assert 0 < report.num_extracted < 240
    assert lost.exists()


def test_a_network_that_fails_is_named(ray_cluster, small_spec, looker, tmp_path):
    prepared = prepare(small_spec({"one": OTHER}, classifier=None), str(tmp_path / "root"))
    config = json.loads((looker / "config.json").read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "model.safetensors").write_bytes(b"no weights")
    (extractor,) = prepared.extractors
    spec = prepared.spec.model_copy(
        update={"extractors": (extractor.spec.model_copy(update={"model": str(broken)}),)}
    )
    with pytest.raises(JobError, match=r"look .*model\.safetensors"):
        run(prepare(spec, str(tmp_path / "root")))
