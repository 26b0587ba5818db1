"""Facts are what records, specs, models and reports say, of the very images of a root."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from factory.generate.prepare import prepare
from factory.publish.facts import Facts, gather_facts
from factory.publish.measured import find_classification, find_evaluation
from factory.publish.model_licence import read_model_licence
from factory.records import read_root
from factory.sources.open import open_source
from factory.sources.promise import open_dataset
from factory.spec import GenerateSpec, PublishSpec, SourceSpec, SpecError, load_spec
from factory.store import Store
from tests.conftest import CLASS_NAMES, save_tiny_model
from tests.datasets import SMALL, make_dataset
from tests.publish.reports import make_classification, make_evaluation, put_results
from tests.striped import write_source

TABLE = {"cat": 10, "T-shirt/top": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("facts") / "root"
    make_dataset(folder, tiny_model)
    return folder


def facts_of(root: Path, **fields) -> Facts:
    dataset, inventory, _ = open_dataset(str(root))
    spec = PublishSpec(root=str(root), **({"evaluate": None} | fields))
    return gather_facts(spec, dataset.store, inventory.records, dataset.plan)


def records_of(root: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(root.glob("records/*/*.json"))]


def test_numbers_are_sums_over_the_records(root):
    facts, records = facts_of(root), records_of(root)
    assert facts.num_shards == len(records) == 3
    assert facts.num_images == SMALL["num_images"] == sum(facts.class_counts.values())
    assert list(facts.class_counts.items()) == [("cat", 14), ("dog", 13), ("T-shirt/top", 13)]
    assert facts.num_bytes == sum(path.stat().st_size for path in root.glob("data/*"))
    assert facts.yields.num_candidates == sum(record["num_candidates"] for record in records)
    (device,) = facts.devices
    assert (device.kind, device.num_images) == (records[0]["device"]["kind"], facts.num_images)
    for step, seconds in device.seconds.items():
        assert seconds == pytest.approx(sum(record["seconds"][step] for record in records))
    assert facts.versions == records[0]["device"]["versions"]


def test_image_and_model_are_those_of_the_samples(root):
    facts, identity = facts_of(root), read_root(Store(str(root))).identity
    assert (facts.image_size, facts.channels, facts.seen) == ((8, 8), 3, None)
    assert (facts.model.name, facts.model.hub_id) == ("tiny", None)
    assert facts.model.digest == identity["generator"]["digest"]


def test_rejected_candidates_add_up_by_class(tmp_path, tiny_model):
    filters = [{"kind": "contrast", "min_deviation": 71}, {"kind": "duplicate"}]
    make_dataset(tmp_path / "root", tiny_model, num_images=12, filters=filters)
    yields = facts_of(tmp_path / "root").yields
    assert yields.rejected["contrast"] > 0
    assert yields.num_candidates == 12 + sum(yields.rejected.values())
    assert yields.num_candidates == sum(yields.candidates_by_class.values())
    assert list(yields.candidates_by_class) == list(CLASS_NAMES)


def test_trained_on_is_told_link_by_link(tmp_path, root):
    shutil.copytree(root, tmp_path / "root")
    path = tmp_path / "root" / "spec.json"
    first = {"name": "photos", "split": "train", "num_images": 80, "digest": "0" * 64}
    chain = {**first, "before": {"name": "model sd"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trained_on": chain}))
    seen = facts_of(tmp_path / "root").seen
    assert seen is not None
    assert [link.model_dump(exclude_none=True) for link in seen] == [first, {"name": "model sd"}]


# --- making it again


def made_again(root: Path, model: Path, tmp_path: Path) -> tuple[Facts, GenerateSpec]:
    """The spec of the card as a reader would save it, who has the model elsewhere."""
    facts = facts_of(root)
    text = yaml.safe_dump(facts.again, sort_keys=False)
    assert str(root.parent) not in text
    assert str(model.parent) not in text
    (tmp_path / "spec.yaml").write_text(text)
    return facts, load_spec(GenerateSpec, tmp_path / "spec.yaml", [f"generator.model={model}"])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"images_per_class": TABLE},
        {"images_per_class": 5, "layout": "by_class"},
        {"num_images": 7, "filters": [{"kind": "contrast", "min_deviation": 71}]},
        {"num_images": 9, "output": {"format": "webdataset"}, "seed": 3},
    ],
    ids=["plain", "table", "by class", "filtered", "tars"],
)
def test_spec_of_the_card_has_the_same_fingerprint_and_counts(tmp_path, tiny_model, fields):
    make_dataset(tmp_path / "root", tiny_model, **fields)
    facts, spec = made_again(tmp_path / "root", tiny_model, tmp_path)
    again = prepare(spec, str(tmp_path / "again")).resolved
    assert again.fingerprint == facts.fingerprint
    assert again.plan.counts == tuple(facts.class_counts.values())


def test_root_that_grew_is_made_again_as_large_as_it_is(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, num_images=10)
    make_dataset(tmp_path / "root", tiny_model, num_images=20)
    facts, spec = made_again(tmp_path / "root", tiny_model, tmp_path)
    again = prepare(spec, str(tmp_path / "again")).resolved
    assert (facts.num_images, again.plan.num_images) == (20, 20)
    assert again.fingerprint == facts.fingerprint


def test_reconstruction_that_grew_is_made_again_with_its_passes(tmp_path, tiny_model):
    real = tmp_path / "private" / "photos.parquet"
    real.parent.mkdir()
    write_source(real, num_images=6, names=CLASS_NAMES)
    for passes in (1, 2):
        start = {"source": {"path": str(real), "channels": 3}, "t_re": 2, "passes": passes}
        make_dataset(tmp_path / "root", tiny_model, num_images=None, reconstruct=start)
    facts, spec = made_again(tmp_path / "root", tiny_model, tmp_path)
    assert spec.reconstruct is not None
    assert (spec.reconstruct.source.path, spec.reconstruct.passes) == ("private/photos.parquet", 2)
    source = spec.reconstruct.source.model_copy(update={"path": str(real)})
    reconstruct = spec.reconstruct.model_copy(update={"source": source})
    spec = spec.model_copy(update={"reconstruct": reconstruct})
    again = prepare(spec, str(tmp_path / "again")).resolved
    assert again.fingerprint == facts.fingerprint
    assert again.plan.counts == tuple(facts.class_counts.values())


# --- the licence of a model


def write_card(folder: Path, front: str) -> None:
    (folder / "README.md").write_text(f"---\n{front}\n---\n\n# a model\n")


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: mit", "mit"),
        ("license: other\nlicense_name: house-1.0", "house-1.0"),
        ("library_name: diffusers", None),
        ("license: [", None),
        ("license: [mit, apache-2.0]", None),
        ("license: 1.0", None),
        ("license: unknown", None),
        ("license: other", None),
        ("license: other\nlicense_name: [house]", None),
        ("- a list", None),
    ],
)
def test_licence_is_what_the_models_own_card_says(tmp_path, front, licence):
    model = save_tiny_model(tmp_path / "model")
    write_card(model, front)
    make_dataset(tmp_path / "root", model, num_images=3)
    assert facts_of(tmp_path / "root").model.licence == licence


def test_licence_of_a_folder_with_other_weights_does_not_count(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    write_card(model, "license: mit")
    make_dataset(tmp_path / "root", model, num_images=3)
    save_tiny_model(model, seed=1)
    assert facts_of(tmp_path / "root").model.licence is None
    shutil.rmtree(model)
    assert facts_of(tmp_path / "root").model.licence is None


def test_licence_of_a_hub_model_is_that_of_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    snapshot = tmp_path / "models--acme--net" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    write_card(snapshot, "license: mit")
    assert read_model_licence("acme/net", commit, digest=commit) == "mit"
    assert read_model_licence("acme/net", "1" * 40, digest="1" * 40) is None


# --- reports


def is_part(part: object, whole: object) -> bool:
    """Whether all that `part` says `whole` says, too."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(is_part(value, whole.get(name, ...)) for name, value in part.items())
    return part == whole


def test_evaluation_is_found_by_the_content_of_the_images(tmp_path, root):
    report = make_evaluation(root)
    folder = put_results(tmp_path / "results", report, synthetic=Path("elsewhere"))
    found = find_evaluation(str(folder), str(root))
    assert found is not None
    assert is_part(found.found.model_dump(), report.datasets["synthetic"].model_dump())
    assert found.held_out is not None
    assert found.held_out.source == report.datasets["held-out real"].source
    assert found.real == report.real


def test_evaluation_of_a_part_is_found_by_what_was_asked(tmp_path, root):
    part = SourceSpec(path=str(root), num_images=9, seed=5)
    report = make_evaluation(root)
    measured = report.datasets["synthetic"]
    summary = measured.source.model_copy(
        update={"num_images": 9, "digest": open_source(part).digest}
    )
    datasets = {"synthetic": measured.model_copy(update={"source": summary})}
    report = report.model_copy(update={"datasets": report.datasets | datasets})
    folder = put_results(tmp_path / "results", report, synthetic=part)
    assert find_evaluation(str(folder), str(root)) is not None
    other = put_results(tmp_path / "other", report, synthetic=part.model_copy(update={"seed": 6}))
    assert find_evaluation(str(other), str(root)) is None


def test_evaluation_of_a_root_that_grew_since_is_of_other_images(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, num_images=20)
    report = make_evaluation(tmp_path / "root")
    folder = put_results(tmp_path / "results", report, synthetic=tmp_path / "root")
    make_dataset(tmp_path / "root", tiny_model, num_images=30)
    assert find_evaluation(str(folder), str(tmp_path / "root")) is None
    assert facts_of(tmp_path / "root", evaluate=str(folder)).evaluation is None


def test_classification_of_the_first_images_holds_for_a_root_that_grew(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model, num_images=30)
    report = make_classification(tmp_path / "root", tmp_path / "results")
    folder = put_results(tmp_path / "results", report, synthetic=tmp_path / "root")
    make_dataset(tmp_path / "root", tiny_model, num_images=40)
    found = facts_of(tmp_path / "root", classify=str(folder)).classification
    assert found is not None
    assert (list(found.arms), found.baseline) == (["real", "both", "drawn"], "real")
    assert [verdict.overall for verdict in found.verdicts] == [v.overall for v in report.verdicts]


def test_classification_leaves_out_arms_with_images_of_others(tmp_path, root):
    report = make_classification(root, tmp_path / "results")
    arm = report.arms["drawn"]
    foreign = arm.model_copy(update={"arm": arm.arm.model_copy(update={"synthetic": "foreign"})})
    summary = report.synthetic["synthetic"].model_copy(update={"digest": "0" * 64})
    report = report.model_copy(
        update={
            "arms": report.arms | {"drawn": foreign},
            "synthetic": report.synthetic | {"foreign": summary},
        }
    )
    folder = put_results(tmp_path / "results", report, synthetic=root, foreign=root)
    found = find_classification(str(folder), str(root))
    assert found is not None
    assert list(found.arms) == ["real", "both"]
    assert [verdict.arm for verdict in found.verdicts] == ["both"]


def test_classification_of_other_images_is_refused(tmp_path, tiny_model, root):
    make_dataset(tmp_path / "other", tiny_model, num_images=30, seed=1)
    report = make_classification(tmp_path / "other", tmp_path / "results")
    folder = put_results(tmp_path / "results", report, synthetic=root)
    assert find_classification(str(folder), str(root)) is None
    with pytest.raises(SpecError, match="of none of the images"):
        facts_of(root, classify=str(folder))


def test_results_that_cannot_be_read_are_refused_by_field_and_folder(tmp_path, root):
    report = make_evaluation(root)
    with pytest.raises(
        SpecError, match=f"evaluate: {tmp_path / 'none'} lacks report.json and asked.json; give"
    ):
        find_evaluation(str(tmp_path / "none"), str(root))
    folder = put_results(tmp_path / "results", report, synthetic=root)
    with pytest.raises(SpecError, match=r"classify: .*no report of jobs/classify.py \(.*network"):
        find_classification(str(folder), str(root))
    (folder / "report.json").write_text("{")
    with pytest.raises(SpecError, match=r"evaluate: .*no report"):
        find_evaluation(str(folder), str(root))
