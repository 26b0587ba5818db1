"""Measurements of datasets of known quality: real images themselves, others, and noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from factory.evaluate.findings import NUM_PAIRS
from factory.evaluate.measure import Measure
from factory.evaluate.prepare import Prepared, prepare
from factory.evaluate.report import make_report
from factory.evaluate.work import Worker, read_look
from factory.records import ASKED_NAME
from factory.sources.open import open_source
from factory.spec import SourceSpec
from factory.spec.evaluate import HELD_OUT
from factory.store import Store

CPU = torch.device("cpu")
OTHER = SourceSpec(num_images=120, seed=3)


def fill(prepared: Prepared) -> None:
    """Do all that actors would do, in this process."""
    Store(prepared.root).put(ASKED_NAME, b"{}")
    worker = Worker(prepared, CPU)
    for number, blocks in enumerate(prepared.pending().values()):
        for block in blocks:
            worker.look(number, block.dataset, block.start, block.name)


@pytest.fixture(scope="module")
def noise():
    real = open_source(OTHER)
    drawn = np.random.default_rng(0).integers(0, 256, real.images.shape, dtype=np.uint8)
    return replace(real, images=drawn)


@pytest.fixture
def prepared(small_spec, noise, tmp_path):
    real = SourceSpec(num_images=120)
    synthetic = dict.fromkeys(("copied", "noise"), real)
    spec = small_spec(synthetic, detection={"test_fraction": 0.9}, confidence=0.6)
    opened = prepare(spec, str(tmp_path))
    seen = opened.sources["real"].seen
    copied = replace(opened.sources["copied"], trained_on=seen)
    sources = opened.sources | {"copied": copied, "noise": replace(noise, trained_on=seen)}
    filled = replace(opened, sources=sources)
    fill(filled)
    return filled


def test_real_images_measured_against_themselves_are_perfect_and_copies(prepared):
    found = Measure(prepared, CPU)("copied")
    alike = next(iter(found.extractors.values())).overall
    assert alike.frechet_distance == pytest.approx(0, abs=1e-6)
    assert (alike.precision, alike.recall) == (1, 1)
    assert found.memorisation is not None
    assert found.memorisation.verdict == "copies"
    assert found.memorisation.num_exact == 120
    assert [pair.image for pair in found.memorisation.pairs] == [
        pair.real for pair in found.memorisation.pairs
    ]
    assert len(found.memorisation.pairs) == NUM_PAIRS
    assert all(gap.difference.value == 0 for gap in found.statistics.values())


def test_noise_is_farther_away_than_other_real_images_and_no_copy(prepared):
    measure = Measure(prepared, CPU)
    noise, held_out = measure("noise"), measure(HELD_OUT)
    for name, far in noise.extractors.items():
        near = held_out.extractors[name].overall
        assert far.overall.frechet_distance > 2 * near.frechet_distance
        assert far.overall.kernel_distance.value > near.kernel_distance.value
        assert far.overall.precision < near.precision
    assert noise.memorisation.verdict == "no evidence"
    assert noise.detection["pixel"].accuracy.value > 0.9
    assert held_out.memorisation is None
    assert held_out.is_real
    assert noise.statistics["high_frequencies"].difference.low > 0


def test_held_out_images_that_were_seen_are_left_out_of_the_search_for_copies(prepared):
    real, held_out = (prepared.sources[name].images for name in ("real", HELD_OUT))
    found = {}
    for num_seen in (1, 60):
        images = np.concatenate([real[:num_seen], held_out[num_seen:]])
        mixed = replace(prepared.sources[HELD_OUT], images=images)
        changed = replace(prepared, sources=prepared.sources | {HELD_OUT: mixed})
        found[num_seen] = Measure(changed, CPU)("noise").memorisation
    assert found[1].verdict == "no evidence"
    assert (found[1].num_held_out, found[1].num_shared) == (59, 1)
    assert (found[60].verdict, found[60].num_held_out) == ("not checked", 0)
    assert "it has seen all held-out images" in found[60].reason


def test_a_collapsed_dataset_is_measured_but_for_what_its_equal_images_do_not_tell(prepared):
    noise = prepared.sources["noise"]
    collapsed = replace(noise, images=noise.images[:1].repeat(len(noise), axis=0))
    prepared = replace(prepared, sources=prepared.sources | {"noise": collapsed})
    fill(prepared)
    measure = Measure(prepared, CPU)
    measured = {name: measure(name) for name in prepared.sources if name != "real"}
    assert measured["noise"].detection == {}
    assert next(iter(measured["noise"].extractors.values())).overall.recall == 0
    report = make_report(prepared, measured, num_extracted=0, seconds=1.0)
    told = "noise can be told from real images cannot be said: too few of the images differ"
    assert any(told in warning for warning in report.warnings)


def test_classes_are_measured_by_the_first_extractor_alone(prepared, looker):
    found = Measure(prepared, CPU)("noise")
    per_class = next(iter(found.extractors.values())).per_class
    assert {name: alike.num_images for name, alike in per_class.items()} == dict.fromkeys(
        prepared.sources["real"].class_names, 12
    )
    assert all(alike.is_biased for alike in per_class.values())


def test_agreement_counts_what_the_classifier_says(prepared):
    found = Measure(prepared, CPU)(HELD_OUT).classifier
    source = prepared.sources[HELD_OUT]
    probabilities = read_look(prepared, prepared.looks[-1], HELD_OUT)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    agrees = probabilities.argmax(axis=1) == source.labels
    assert found.agreement.value == pytest.approx(agrees.mean())
    assert found.agreement.low <= found.agreement.value <= found.agreement.high
    assert np.mean([own.value for own in found.per_class_agreement.values()]) == pytest.approx(
        agrees.mean()
    )
    assert 0 < found.entropy.value <= np.log(10)


def test_nothing_is_said_of_labels_where_they_are_not_looked_at(small_spec, tmp_path):
    spec = small_spec({"other": OTHER}, per_class=False, classifier=None)
    prepared = prepare(spec, str(tmp_path))
    fill(prepared)
    found = Measure(prepared, CPU)("other")
    assert found.classifier is None
    assert all(not extractor.per_class for extractor in found.extractors.values())
    assert found.memorisation.verdict == "not checked"
    assert "not known" in found.memorisation.reason


def test_warnings_say_what_cannot_be_compared(small_spec, tmp_path):
    spec = small_spec({"large": SourceSpec(num_images=150)}, held_out=SourceSpec(num_images=60))
    prepared = prepare(spec.model_copy(update={"detection": None}), str(tmp_path))
    fill(prepared)
    measure = Measure(prepared, CPU)
    measured = {name: measure(name) for name in (HELD_OUT, "large")}
    report = make_report(prepared, measured, num_extracted=0, seconds=1.0)
    warnings = " ".join(report.warnings)
    assert "held-out real 60, large 150" in warnings
    assert "held-out images are among the real ones" in warnings
    assert list(report.datasets) == [HELD_OUT, "large"]
    assert report.num_cached == 2 * (120 + 60 + 150)


def test_a_class_without_images_is_named_and_left_out(small_spec, tmp_path):
    prepared = prepare(small_spec({"lacking": OTHER}), str(tmp_path))
    lacking = prepared.sources["lacking"]
    rest = lacking.take(np.flatnonzero(lacking.labels != 3))
    prepared = replace(prepared, sources=prepared.sources | {"lacking": rest})
    fill(prepared)
    measure = Measure(prepared, CPU)
    measured = {name: measure(name) for name in (HELD_OUT, "lacking")}
    found = measured["lacking"]
    assert "Dress" not in next(iter(found.extractors.values())).per_class
    assert "Dress" not in found.classifier.per_class_agreement
    warnings = make_report(prepared, measured, num_extracted=0, seconds=1.0).warnings
    assert "lacking has no images of Dress, which are left out of the classes." in warnings
