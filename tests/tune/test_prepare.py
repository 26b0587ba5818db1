"""What a search may draw is known before it starts, shared, and bounded."""

from dataclasses import replace

import pytest

from factory.records import chain_trained_on
from factory.spec import EvaluateSpec, SpecError
from factory.tune.point import images_needed, images_spec
from factory.tune.prepare import dry_run, images_ahead, images_key, in_whole_shards, prepare
from factory.tune.space import combinations, with_config
from tests.conftest import save_tiny_model
from tests.striped import CLASS_NAMES, write_source

RATIO, GUIDANCE = "arm.synthetic_ratio", "generate.generator.guidance_scale"


def refused(spec, tmp_path):
    with pytest.raises(SpecError) as caught:
        prepare(spec, str(tmp_path / "root"))
    assert not (tmp_path / "root").exists()
    return str(caught.value)


def test_validation_is_cut_class_by_class_and_the_whole_stays_for_the_end(striped_search, tmp_path):
    prepared = prepare(striped_search(), str(tmp_path))
    assert prepared.whole.class_counts == dict.fromkeys(CLASS_NAMES, 50)
    assert prepared.data.real.class_counts == dict.fromkeys(CLASS_NAMES, 30)
    assert prepared.data.validation.class_counts == dict.fromkeys(CLASS_NAMES, 20)
    assert prepare(striped_search(), str(tmp_path)).data.validation.digest == (
        prepared.data.validation.digest
    )


def test_datasets_are_one_for_each_setting_of_the_images(striped_search, tmp_path):
    prepared = prepare(striped_search(), str(tmp_path))
    spec = prepared.spec
    assert len(prepared.datasets) == 2  # the default's guidance is one of the two
    for config in combinations(spec.space):
        dataset = prepared.dataset_of(config)
        for source in (prepared.data.real, prepared.whole):
            configured = with_config(spec, config)
            needed = images_needed(configured, source.class_counts)
            asked = images_spec(configured, needed)
            assert asked.images_per_class == needed["flat"]
            assert asked.images_per_class * 3 <= dataset.most_images == 300
    report = dry_run(prepared)
    assert (report.num_trials, report.num_trainings) == (8, 8 + 4 + 6)
    assert report.most_images == 600
    assert not list(tmp_path.iterdir())


def test_every_request_of_a_dataset_has_its_fingerprint(striped_search, tmp_path):
    from factory.resolve import resolve

    spec = striped_search(space={"arm.mix.multiplier": {"low": 0.5, "high": 2.0, "step": 0.5}})
    prepared = prepare(spec, str(tmp_path))
    for config in combinations(spec.space):
        configured = with_config(prepared.spec, config)
        needed = images_needed(configured, prepared.data.real.class_counts)
        resolved = resolve(images_spec(configured, needed))
        assert resolved.fingerprint == prepared.dataset_of(config).fingerprint


def test_shards_are_cut_so_that_a_larger_dataset_keeps_them_whole(striped_search, tmp_path):
    # 30 and 50 real images of a class, twice and four times as many synthetic ones.
    fields = {
        "arm": {"mix": {"kind": "multiplier", "multiplier": 5}},
        "space": {"arm.mix.multiplier": [5.0, 10.0]},
    }
    assert prepare(striped_search(**fields), str(tmp_path)).spec.generate.shard_size == 50
    own = prepare(striped_search(**fields, generate={"shard_size": 7}), str(tmp_path))
    assert own.spec.generate.shard_size == 7


def test_other_content_of_a_model_or_of_weights_is_another_search(striped_search, tmp_path):
    model, weights = tmp_path / "model", tmp_path / "weights"
    weights.mkdir()
    generator = {"model": str(model), "num_inference_steps": 2, "guidance_scale": 1.0}
    classifier = {"network": "pretrained", "weights": str(weights), "regime": "frozen"}
    drawn = striped_search(generate={"generator": generator}, space={RATIO: [0.25, 0.75]})
    tuned = striped_search(classifier=classifier)

    def fingerprints(seed):
        save_tiny_model(model, class_names=CLASS_NAMES, seed=seed)
        (weights / "weights.bin").write_bytes(bytes([seed]))
        return [prepare(spec, str(tmp_path / "root")).fingerprint for spec in (drawn, tuned)]

    before, after = fingerprints(0), fingerprints(1)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert fingerprints(0) == before


def test_requests_of_a_search_without_a_plan_are_whole_shards_within_the_dataset(
    striped_search, tmp_path
):
    spec = striped_search(
        space={"arm.mix.multiplier": {"low": 0.5, "high": 2.0}},
        search={"searcher": "random", "num_trials": 2},
        generate={"shard_size": 40},
    )
    # Twice 50 real images of each class at most.
    dataset = prepare(spec, str(tmp_path)).dataset_of({})
    for asked, drawn in ((15, 40), (40, 40), (41, 80), (81, 100)):
        counts = dict.fromkeys(CLASS_NAMES, asked)
        assert in_whole_shards(counts, dataset) == dict.fromkeys(CLASS_NAMES, drawn)


def test_long_tailed_sources_get_tables_of_counts(striped_search, tmp_path):
    files = striped_search()
    real = {"path": files.real.path, "channels": 3, "long_tail": {"factor": 0.2}}
    spec = striped_search(real=real, arm={"mix": {"kind": "fill"}}, space={GUIDANCE: [1.0, 2.0]})
    prepared = prepare(spec, str(tmp_path))
    needed = images_needed(prepared.spec, prepared.whole.class_counts)
    assert needed == {"flat": 0, "rows": 50 - 22, "columns": 50 - 10}
    assert images_spec(prepared.spec, needed).images_per_class == needed
    assert prepared.dataset_of({GUIDANCE: 2.0}).most_images == 28 + 40


def test_bound_on_images_names_what_would_be_drawn(striped_search, tmp_path):
    message = refused(striped_search(max_images=599), tmp_path)
    assert "max_images: is 599" in message
    assert "600 images" in message
    assert "guidance_scale 2: 300" in message
    prepare(striped_search(max_images=600), str(tmp_path))


def test_a_default_outside_of_the_space_counts_with_its_own_mix(striped_search, tmp_path):
    # 50 real images of each of 3 classes; the default takes as many synthetic ones.
    space = {GUIDANCE: [2.0, 3.0], "arm.mix.multiplier": [3.0, 4.0]}
    prepared = prepare(striped_search(space=space, max_images=150 + 2 * 600), str(tmp_path))
    assert prepared.dataset_of({}).most_images == 150
    assert prepared.dataset_of({GUIDANCE: 2.0}).most_images == 600
    assert dry_run(prepared).most_images == 150 + 2 * 600
    counts = prepared.data.real.class_counts
    assert images_ahead(prepared.spec, counts) == {
        images_key({GUIDANCE: guidance}): dict.fromkeys(CLASS_NAMES, 4 * 30)
        for guidance in (2.0, 3.0)
    }


def test_a_search_draws_no_more_datasets_than_it_has_trials(striped_search, tmp_path):
    space = {GUIDANCE: [1.0, 2.0, 3.0, 4.0], "arm.mix.multiplier": [1.0, 2.0]}
    search = {"searcher": "random", "num_trials": 2}
    # The default's guidance is 1, and the trials may have others.
    prepare(striped_search(space=space, search=search, max_images=900), str(tmp_path / "root"))
    spec = striped_search(space=space, search=search, max_images=899)
    assert "may draw 900" in refused(spec, tmp_path)


def test_guidance_of_a_model_without_it_is_refused(striped_search, tmp_path):
    model = save_tiny_model(tmp_path / "plain", class_names=CLASS_NAMES, label_dropout=0.0)
    generator = {"model": str(model), "num_inference_steps": 2, "guidance_scale": 1.0}
    message = refused(striped_search(generate={"generator": generator}), tmp_path)
    assert "guidance_scale 2" in message
    assert "takes no guidance" in message


def test_images_that_cannot_be_had_are_refused_by_the_setting(striped_search, tmp_path):
    space = {"generate.generator.model": ["fashion_mnist", "no_such_model"]}
    message = refused(striped_search(space=space), tmp_path)
    assert "generate (model " in message or "generate:" in message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"space": {RATIO: [0.5, 0.01]}}, ["synthetic_ratio 0.01", "arm.synthetic_ratio", "16"]),
        ({"space": {"arm.mix": [{"kind": "real"}]}}, ["real", "arm.batches is paired"]),
        ({"num_workers": 3, "space": {GUIDANCE: [1.0]}}, ["spec: ", "batch_size is 16", "3"]),
        (
            {"space": {"training.batch_size": [16, 17]}, "num_workers": 2},
            ["batch_size 17", "num_workers 2"],
        ),
        (
            {"space": {"training.batch_size": [16, 32], RATIO: [0.03]}},
            ["synthetic_ratio 0.03", "batch_size 16", "at least one image"],
        ),
        (
            {
                "space": {RATIO: {"low": 0.25, "high": 0.75}},
                "search": {"searcher": "random", "num_trials": 2},
                "num_workers": 2,
            },
            [RATIO, "num_workers is 2", "give a step"],
        ),
    ],
)
def test_configurations_that_no_comparison_takes_are_refused(
    striped_search, tmp_path, fields, named
):
    message = refused(striped_search(**fields), tmp_path)
    assert all(words in message for words in named), message


@pytest.mark.parametrize("field", ["real", "test"])
def test_validation_images_that_are_used_elsewhere_are_refused(striped_search, tmp_path, field):
    spec = striped_search()
    same = getattr(spec, field).model_dump()
    message = refused(striped_search(validation=same), tmp_path)
    assert message.startswith("validation:")
    assert f"among those of {field}" in message


def test_test_images_among_the_real_ones_are_refused(striped_search, tmp_path):
    same = striped_search().real.model_dump()
    assert "test:" in refused(striped_search(test=same), tmp_path)


def test_generator_that_saw_the_test_images_is_refused(striped_search, tmp_path, monkeypatch):
    import factory.tune.prepare as module

    spec = striped_search()
    seen = module.open_named("test", spec.test).seen
    resolve = module.resolve

    def leaky(asked):
        resolved = resolve(asked)
        root_spec = resolved.root_spec.model_copy(update={"trained_on": chain_trained_on(seen)})
        return replace(resolved, root_spec=root_spec)

    monkeypatch.setattr(module, "resolve", leaky)
    message = refused(spec, tmp_path)
    assert "generate (guidance_scale 1)" in message
    assert "trained on" in message


def test_other_classes_are_refused(striped_search, tmp_path):
    other = write_source(tmp_path / "other.parquet", names=("flat", "rows", "dots"))
    test = {"path": other, "channels": 3}
    assert "dots" in refused(striped_search(test=test), tmp_path)


def test_root_of_a_dataset_is_refused(striped_search, tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(SpecError, match="holds a dataset"):
        prepare(striped_search(), str(tmp_path))


def test_root_of_other_results_is_refused(striped_search, tmp_path):
    (tmp_path / "asked.json").write_text(EvaluateSpec().model_dump_json())
    with pytest.raises(SpecError, match="results of another job"):
        prepare(striped_search(), str(tmp_path))
