"""What an evaluation refuses before any work, and what it plans."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from factory.evaluate import prepare as module
from factory.evaluate.prepare import BLOCK, dry_run, prepare
from factory.sources.open import open_source
from factory.spec import Arm, ClassifySpec, EvaluateSpec, SourceSpec, SpecError
from factory.spec.evaluate import HELD_OUT, Memorisation

TEST = SourceSpec(split="test", num_images=60, seed=3)


def test_every_block_is_planned_once(small_spec, tmp_path):
    spec = small_spec({"one": TEST, "again": TEST})
    prepared = prepare(spec, str(tmp_path / "root"))
    plan = dry_run(prepared)
    # An extractor and a classifier look at 120 + 60 + 60 + 60 images; those of `again` are there.
    assert plan.num_images == 2 * 300
    assert plan.num_pending == 2 * 240
    assert not (tmp_path / "root").exists()


def test_blocks_hold_all_images_of_a_dataset_in_order(small_spec, tmp_path):
    spec = small_spec({"all": SourceSpec()}, held_out=None)
    prepared = prepare(spec, str(tmp_path))
    starts = [b.start for b in prepared.blocks(prepared.looks[0]) if b.dataset == "all"]
    assert starts == list(range(0, len(prepared.sources["all"]), BLOCK))


def test_a_file_of_features_is_named_by_pixels_and_network_alone(small_spec, tmp_path):
    names = []
    for root, name, fields in (("a", "one", {}), ("b", "other", {"seed": 5, "confidence": 0.9})):
        prepared = prepare(small_spec({name: TEST}, **fields), str(tmp_path / root))
        names.append([block.name for block in prepared.blocks(prepared.looks[0])])
    assert names[0] == names[1]


def test_other_class_names_are_named_with_the_way_out(small_spec, tmp_path):
    folder = tmp_path / "pets"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
    for number in range(12):
        Image.new("L", (28, 28), number).save(folder / ("cat", "dog")[number % 2] / f"{number}.png")
    pets = SourceSpec(path=str(folder))
    with pytest.raises(SpecError, match=r"synthetic\.pets: .*cat.*per_class=false"):
        prepare(small_spec({"pets": pets}), str(tmp_path / "root"))
    spec = small_spec({"pets": pets}, per_class=False, classifier=None)
    assert len(prepare(spec, str(tmp_path / "root")).sources["pets"]) == 12


def test_other_sizes_are_named(small_spec, tmp_path):
    small = SourceSpec(split="test", image_size=16)
    with pytest.raises(SpecError, match=r"synthetic\.small: .*16x16.*28x28.*image_size"):
        prepare(small_spec({"small": small}), str(tmp_path))


def test_too_few_images_are_named_with_the_number_needed(small_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FEWEST", 70)
    with pytest.raises(SpecError, match=r"held-out real has 60 images, one has 60.*at least 70"):
        prepare(small_spec({"one": TEST}), str(tmp_path))


def test_a_dataset_that_is_not_there_names_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"synthetic\.synthetic: .*make generate"):
        prepare(EvaluateSpec(), str(tmp_path / "root"))


def test_a_classifier_of_other_classes_is_refused(small_spec, looker, tmp_path):
    config = json.loads((looker / "config.json").read_text())
    config["class_names"][0] = "cat"
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").write_bytes((looker / "model.safetensors").read_bytes())
    with pytest.raises(SpecError, match=r"classifier: .*T-shirt/top.*cat"):
        prepare(small_spec({"one": TEST}, classifier=str(other)), str(tmp_path / "root"))


def test_the_root_of_a_dataset_is_refused(small_spec, tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(SpecError, match="--root of their own"):
        prepare(small_spec({"one": TEST}), str(tmp_path))


def test_the_root_of_other_results_is_refused_before_anything_there_is_lost(small_spec, tmp_path):
    asked = ClassifySpec(arms={"real": Arm()}).model_dump_json()
    (tmp_path / "asked.json").write_text(asked)
    with pytest.raises(SpecError, match=r"results of another job.*asked\.json.*--root of their"):
        prepare(small_spec({"one": TEST}), str(tmp_path))
    assert (tmp_path / "asked.json").read_text() == asked


def test_copies_are_looked_for_among_all_that_the_generator_saw_alone(
    small_spec, tmp_path, monkeypatch
):
    real = open_source(SourceSpec(num_images=120))
    seen = {
        "unknown": None,
        "all": real.seen,
        "more": real.seen | {"digest": "0" * 64, "num_images": 60_000},
        "before": real.seen | {"before": {"name": "somebody's model"}},
    }
    sources = {name: replace(open_source(TEST), trained_on=what) for name, what in seen.items()}
    prepared = prepare(small_spec(dict.fromkeys(seen, TEST)), str(tmp_path))
    prepared = replace(prepared, sources=prepared.sources | sources)
    assert prepared.why_unchecked("all") == ""
    assert "not known" in prepared.why_unchecked("unknown")
    assert "60,000 real images" in prepared.why_unchecked("more")
    assert "somebody's model" in prepared.why_unchecked("before")
    larger = replace(prepared, seen=replace(real, images=255 - real.images))
    assert "120 images" in larger.why_unchecked("all")
    without = {name: s for name, s in prepared.sources.items() if name != HELD_OUT}
    assert "calibrate" in replace(prepared, sources=without).why_unchecked("all")


def test_what_no_generator_may_have_seen_cannot_be_what_it_saw(small_spec, tmp_path):
    # The whole split that held_out is a part of, and that part itself.
    for test in (SourceSpec(split="test"), SourceSpec(split="test", num_images=60)):
        spec = small_spec({"one": TEST}, memorisation={"seen": test})
        with pytest.raises(SpecError, match=r"memorisation\.seen: .* all 60 images of held_out"):
            prepare(spec, str(tmp_path))
    for fields in ({"held_out": None}, {"held_out": SourceSpec(num_images=60)}):
        spec = small_spec({"one": TEST}, memorisation={"seen": SourceSpec(split="test")}, **fields)
        prepare(spec, str(tmp_path))


def test_what_will_not_be_judged_for_copies_is_said_beforehand(small_spec, tmp_path):
    prepared = prepare(small_spec(dict.fromkeys("abcd", TEST)), str(tmp_path))
    real = prepared.sources["real"]
    more = real.seen | {"digest": "0" * 64, "num_images": 60_000}
    seen = {"a": more, "b": real.seen, "c": more, "d": None}
    sources = {name: replace(prepared.sources[name], trained_on=seen[name]) for name in seen}
    prepared = replace(prepared, sources=prepared.sources | sources)
    together, unknown = dry_run(prepared).warnings
    assert together.startswith("a, c: will not be judged for copies: ")
    assert "saw 60,000 real images" in together
    assert "and not just the 120 images (fashion_mnist_small train) given as real" in together
    assert unknown.startswith("d: ")
    given = prepared.spec.model_copy(update={"memorisation": Memorisation(seen=SourceSpec())})
    warned = replace(prepared, spec=given).warnings[0]
    assert "just the 120 images (fashion_mnist_small train) given as memorisation.seen;" in warned
    unasked = prepared.spec.model_copy(update={"memorisation": None})
    assert replace(prepared, spec=unasked).warnings == ()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"synthetic": {"real": {}}}, "rename"),
        ({"series": {"parameter": "t", "values": {"a": 1, "b": 2}}}, r"\['a', 'b'\]"),
        (
            {
                "synthetic": {"a": {}, "b": {}, "c": {}},
                "series": {"parameter": "t", "values": {"a": 1, "b": 2, "c": 1.0}},
            },
            r"\['a', 'c'\] numbers that they share \(\[1\.0\]\)",
        ),
        ({"extractors": [{"kind": "clip"}]}, "file, folder or Hub id"),
        ({"extractors": [{"model": "x"}]}, "leave model out"),
        ({"per_class": False, "classifier": "x"}, "leave one of them out"),
    ],
)
def test_contradictions_of_a_spec_are_named(fields, named):
    with pytest.raises(ValueError, match=named):
        EvaluateSpec.model_validate(fields)
