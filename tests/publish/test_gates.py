"""Each thing that stands against publishing is said by name, with what overrides it."""

import json
import shutil

import pytest

from factory.publish.prepare import prepare
from factory.publish.run import run
from factory.spec import PublishSpec, SpecError, VerifySpec
from factory.verify.prepare import prepare as prepare_verify
from tests.datasets import make_dataset
from tests.publish.roots import LICENCES, published, save_evaluation
from tests.tampering import put_samples, read_samples, with_provenance, without_mark


@pytest.fixture(scope="module")
def clean(tmp_path_factory, tiny_model):
    """A root, and results about it that say nothing against it."""
    folder = tmp_path_factory.mktemp("gates")
    make_dataset(folder / "root", tiny_model)
    save_evaluation(folder / "results", folder / "root", verdict="no evidence")
    return folder


@pytest.fixture
def root(clean, tmp_path):
    return shutil.copytree(clean / "root", tmp_path / "root")


@pytest.fixture
def gates(root, clean, tmp_path):
    """The report of a root with clean results and licences, but for the fields given."""

    def report(**fields):
        given = {"evaluate": str(clean / "results"), "accept": [], **fields}
        return published(root, tmp_path / "folder", **given)

    return report


def tamper(root, change):
    prepared = prepare_verify(VerifySpec(), str(root))
    samples = read_samples(prepared, 0)
    put_samples(prepared, 0, [change(samples[0]), *samples[1:]])


def flip_a_byte(root):
    file = min((root / "data").iterdir())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_whole_root_with_clean_results_and_licences_is_refused_nothing(gates):
    assert gates().refused == {}


def test_shard_that_was_changed_fails_verification_and_is_missing(root, gates):
    flip_a_byte(root)
    report = gates()
    assert list(report.refused) == ["verification", "counts", "memorisation_missing"]
    assert "sha256" in report.refused["verification"]
    assert "6 of 14 of cat" in report.refused["counts"]
    assert report.refused["counts"].endswith("this root and recheck=true")


def test_sample_that_is_not_as_planned_fails_verification(root, gates):
    tamper(root, lambda sample: with_provenance(sample, seed=1))
    assert "seed is 1" in gates().refused["verification"]


def test_record_that_cannot_be_used_fails_verification(root, gates):
    record = min((root / "records/00000").iterdir())
    record.write_text("{}")
    report = gates()
    assert record.name in report.refused["verification"]
    assert "counts" in report.refused


def test_missing_shard_falls_short(root, gates):
    for folder in ("data", "records/00000"):
        sorted((root / folder).iterdir())[1].unlink()
    report = gates()
    assert "verification" not in report.refused
    assert report.refused["counts"].startswith("images are missing, 5 of 14 of cat, 6 of 13 of dog")
    assert "recheck" not in report.refused["counts"]


def test_image_without_its_mark_is_refused_by_the_gate_of_marks_alone(root, clean, gates):
    tamper(root, without_mark)
    report = gates()
    assert list(report.refused) == ["marks"]
    assert report.refused["marks"].startswith("1 images")


@pytest.mark.parametrize(
    ("found", "gate", "said"),
    [
        ({}, "memorisation_missing", "without looking for copies"),
        ({"verdict": "not checked", "reason": "it is a test"}, "memorisation_not_valid", "a test"),
        ({"verdict": "copies", "share": {"value": 0.25}}, "copies", "25.00% of the images"),
        ({"num_exact": 2}, "copies", "2 images have the very pixels"),
    ],
)
def test_what_evaluate_says_of_copies_is_a_gate(root, gates, tmp_path, found, gate, said):
    results = save_evaluation(tmp_path / "found", root, **found)
    report = gates(evaluate=str(results))
    assert list(report.refused) == [gate]
    assert said in report.refused[gate]


def test_search_for_copies_in_a_part_does_not_hold_for_the_whole(root, gates, tmp_path):
    results = save_evaluation(tmp_path / "found", root, num_images=9, verdict="no evidence")
    report = gates(evaluate=str(results))
    assert list(report.refused) == ["memorisation_not_valid"]
    assert "among 9 of the 40 images" in report.refused["memorisation_not_valid"]
    assert "of 9 images searched lie" in (tmp_path / "folder/README.md").read_text()


def test_no_results_are_a_gate_be_it_asked_or_by_default(root, gates, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_default = run(prepare(PublishSpec(root=str(root)), str(tmp_path / "folder")))
    for report in (gates(evaluate=None), by_default):
        assert "memorisation_missing" in report.refused


def test_named_results_that_are_not_there_are_refused_before_the_root_is_looked_at(tmp_path):
    fields = {name: str(tmp_path / name) for name in ("root", "evaluate", "classify")}
    with pytest.raises(SpecError) as caught:
        prepare(PublishSpec.model_validate(fields), str(tmp_path / "folder"))
    for word in ("evaluate: there are no results", "classify: there are no results"):
        assert word in str(caught.value)
    assert "Errno" not in str(caught.value)


def test_licences_that_are_none_of_the_hub_are_refused_with_the_nearest(tmp_path):
    more = {
        "photos": {"kind": "real", "source": {}, "licence": "my-own"},
        "scans": {"kind": "real", "source": {}, "licence": "unknown"},
    }
    fields = {"licence": "CC-BY-4", "model_licence": "mitt", "source_licence": "mit", "more": more}
    spec = PublishSpec.model_validate({"root": str(tmp_path / "none"), **fields})
    with pytest.raises(SpecError) as caught:
        prepare(spec, str(tmp_path / "folder"))
    for word in ("did you mean 'cc-by-4.0'", "did you mean 'mit'", "more.photos.licence: 'my-own'"):
        assert word in str(caught.value)
    assert "more.scans.licence: 'unknown' names no licence" in str(caught.value)
    assert "source_licence:" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"licence": "other"}, "lacks licence_name and licence_link"),
        ({"licence": "mit", "licence_name": "mine"}, "licence_name go with licence other"),
    ],
)
def test_other_licence_and_its_name_need_each_other(fields, said):
    with pytest.raises(ValueError, match=said):
        PublishSpec.model_validate(fields)


def test_card_of_a_damaged_root_says_what_is_missing_and_overridden(root, gates, tmp_path):
    gates()
    asked = "num_images: 40\n"
    assert asked in (tmp_path / "folder/README.md").read_text()
    assert "overridden" not in (tmp_path / "folder/README.md").read_text()
    flip_a_byte(root)
    gates(accept=["verification", "counts"])
    card = (tmp_path / "folder/README.md").read_text()
    assert "it was to have 40 images, and 24 are here" in card
    assert "left out: shard 0." in card
    assert "For the shards that are here 24 images were drawn" in card
    for gate in ("verification", "counts"):
        assert f"overridden the check \u201c{gate}\u201d" in card
    assert asked in card
    assert "makes all 40 images" in card


def test_what_stands_against_publishing_is_said_in_the_log(gates, caplog):
    gates(licence=None)
    said = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert [line for line in said if line.startswith("stands against publishing: licence: ")]


def test_results_of_other_images_are_a_gate(root, tiny_model, gates):
    make_dataset(root, tiny_model, num_images=60)
    assert list(gates().refused) == ["memorisation_missing"]


def test_licences_are_never_guessed(root, gates):
    spec = json.loads((root / "spec.json").read_text())
    seen = {"name": "photos", "split": "train", "num_images": 9, "digest": "0" * 64}
    (root / "spec.json").write_text(json.dumps({**spec, "trained_on": seen}))
    report = gates(licence=None, model_licence=None)
    assert list(report.refused) == ["licence", "model_licence", "source_licence"]
    assert "photos" in report.refused["source_licence"]
    assert gates(source_licence="mit").refused == {}


def test_push_is_refused_with_all_gates_at_once_and_nothing_written(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    tamper(root, without_mark)
    fields = {**LICENCES, "licence": None, "evaluate": None, "repo_id": "alice/images"}
    spec = PublishSpec.model_validate({"root": str(root), "export": str(tmp_path / "e"), **fields})
    with pytest.raises(SpecError) as caught:
        run(prepare(spec, str(tmp_path / "folder")))
    for word in ("marks:", "memorisation_missing:", "licence:", "alice/images"):
        assert word in str(caught.value)
    assert "accept=[marks, memorisation_missing]; a licence must be given" in str(caught.value)
    assert not (tmp_path / "folder").exists()
    assert not (tmp_path / "e").exists()


def test_accepted_gate_is_reported_and_no_longer_refuses(root, gates, tmp_path):
    gates()
    promise = "Each PNG carries the IPTC digital source type `trainedAlgorithmicMedia`"
    assert promise in (tmp_path / "folder/README.md").read_text()
    tamper(root, without_mark)
    report = gates(evaluate=None, accept=["marks", "memorisation_missing", "copies"])
    assert report.refused == {}
    assert set(report.accepted) == {"marks", "memorisation_missing"}
    assert promise not in (tmp_path / "folder/README.md").read_text()
    assert "but some carry none or another" in (tmp_path / "folder/README.md").read_text()


def test_licence_cannot_be_accepted_away():
    with pytest.raises(ValueError, match="accept"):
        PublishSpec.model_validate({"accept": ["licence"]})
