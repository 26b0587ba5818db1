import pytest
from pydantic import ValidationError

from factory.fit.prepare import claim, dry_run, open_sources, prepare
from factory.spec import DenoiserShape, FitSpec, SpecError, load_spec
from tests.striped import CLASS_NAMES, tiny_fit, write_source


def test_fingerprint_pins_content_and_leaves_out_places_and_placement(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    root = str(tmp_path / "root")

    def fingerprint(folder="a", **fields):
        return prepare(tiny_fit(tmp_path / folder, **fields), root).root_spec.fingerprint

    assert fingerprint() == fingerprint("b", num_workers=2, resources={"num_cpus": 3})
    assert fingerprint() != fingerprint(seed=1)
    spec = tiny_fit(tmp_path / "c")
    write_source(tmp_path / "c" / "train.parquet", seed=7)
    assert prepare(spec, root).root_spec.fingerprint != fingerprint()
    assert not (tmp_path / "root").exists()


def test_root_of_another_fit_is_refused_with_the_difference(tmp_path):
    root = str(tmp_path / "root")
    claim(prepare(tiny_fit(tmp_path), root))
    claim(prepare(tiny_fit(tmp_path), root))
    with pytest.raises(SpecError, match=r"training\.learning_rate: 0\.002 -> 0\.005"):
        prepare(tiny_fit(tmp_path, training={"learning_rate": 5e-3}), root)


def test_dry_run_says_what_would_be_done(tmp_path):
    report = dry_run(prepare(tiny_fit(tmp_path), str(tmp_path / "root")))
    assert (report.num_steps, report.images_seen, report.done) == (6, 0, False)
    assert report.class_counts == dict.fromkeys(CLASS_NAMES, 40)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ({"names": ("flat", "rows", "dots")}, "images of the same classes"),
        ({"size": 16}, r"images are \[16, 16, 1\]"),
        ({"num_images": 60}, "60 held out"),
    ],
)
def test_held_out_images_that_do_not_fit_are_refused(tmp_path, held_out, message):
    spec = tiny_fit(tmp_path)
    write_source(tmp_path / "test.parquet", **held_out)
    with pytest.raises(SpecError, match=message):
        prepare(spec, str(tmp_path / "root"))


def test_model_to_start_from_is_pinned_by_its_content(tmp_path):
    shape = {"block_out_channels": [64, 128], "layers_per_block": 2, "patch_size": 2}
    clothes = {"path": "fashion_mnist_small"}
    fields = {"shape": shape, "source": clothes, "held_out": None}
    plain = prepare(tiny_fit(tmp_path, **fields), str(tmp_path / "root"))
    started = prepare(
        tiny_fit(tmp_path, start_from="fashion_mnist", **fields), str(tmp_path / "root")
    )
    assert plain.start is None
    assert started.start is not None
    assert started.root_spec.identity["start_from"] == {"digest": started.start.digest}
    assert started.root_spec.fingerprint != plain.root_spec.fingerprint


def test_model_of_another_kind_is_refused_with_every_difference(tmp_path):
    spec = tiny_fit(tmp_path, start_from="fashion_mnist")
    with pytest.raises(SpecError) as caught:
        prepare(spec, str(tmp_path / "root"))
    message = str(caught.value)
    for part in ("start_from", "class_names", "image_size: 28 -> 8", "block_out_channels"):
        assert part in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": {"block_out_channels": [8, 8, 8], "patch_size": 4}}, "multiple of 16 px"),
        ({"num_workers": 3}, "training.batch_size: is 16, but .* is 3"),
    ],
)
def test_shape_that_does_not_fit_is_refused(tmp_path, fields, message):
    with pytest.raises(SpecError, match=message):
        prepare(tiny_fit(tmp_path, **fields), str(tmp_path / "root"))


def test_class_without_images_is_refused(tmp_path):
    spec = tiny_fit(tmp_path)
    for name in ("train", "test"):
        write_source(tmp_path / f"{name}.parquet", names=(*CLASS_NAMES, "dots"), num_images=3)
    with pytest.raises(SpecError, match=r"no images of \['dots'\]"):
        prepare(spec, str(tmp_path / "root"))


@pytest.mark.parametrize("fraction", [None, 0.2])
def test_share_of_the_source_is_held_out_where_no_other_images_are(tmp_path, fraction):
    spec = tiny_fit(tmp_path, held_out=None, validation_fraction=fraction)
    source, held_out = open_sources(spec)
    assert len(held_out) == {None: 12, 0.2: 24}[fraction]
    assert len(source) + len(held_out) == 120
    shown = {image.tobytes() for image in source.images}
    assert not any(image.tobytes() in shown for image in held_out.images)


def test_lengths_in_epochs_are_counted_out(tmp_path):
    spec = tiny_fit(tmp_path, training={"num_images": None, "epochs": 4})
    assert dry_run(prepare(spec, str(tmp_path / "root"))).num_steps == 4 * 120 // 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training": {"epochs": 3}}, "num_images is 96 and epochs 3; give one"),
        ({"metric": {"every_images": 5, "every_epochs": 1}}, "every_images is 5 and every_epochs"),
        ({"validation_fraction": 0.2}, "held_out is .* and validation_fraction 0.2; give one"),
        (
            {"conditional": False, "training": {"label_dropout": 0.1}},
            "label_dropout is 0.1, but conditional is false",
        ),
        (
            {"objective": {"kind": "ddpm", "beta_start": 0.03}},
            "beta_start is 0.03 and beta_end 0.02",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, fields, message):
    with pytest.raises(ValidationError, match=message):
        tiny_fit(tmp_path, **fields)


def test_objective_without_a_kind_is_edm_and_an_unknown_one_is_refused_by_name():
    assert load_spec(FitSpec, None, ["objective={}"]) == FitSpec()
    with pytest.raises(SpecError, match=r"objective\.kind: is 'gan'; known kinds: .*ddpm"):
        load_spec(FitSpec, None, ["objective.kind=gan"])
    with pytest.raises(SpecError, match="did you mean 'num_train_timesteps'"):
        load_spec(FitSpec, None, ["objective.kind=ddpm", "objective.train_timesteps=400"])


def test_spec_survives_its_own_dump():
    overrides = ["objective.kind=ddpm", "conditional=false", "training.epochs=3"]
    spec = load_spec(FitSpec, None, overrides)
    assert FitSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.label_dropout == 0
    assert FitSpec().label_dropout == 0.1


def save_ddpm(folder, **fields):
    """The untrained model of a tiny fit."""
    from factory.diffusion.ddpm import new_chain, new_pipeline

    shape = DenoiserShape(block_out_channels=(16, 32), layers_per_block=1, patch_size=1)
    facts = {"name": "tiny", "image_size": 8, "channels": 1, "label_dropout": 0.1}
    facts |= {"trained_on": None, "class_names": CLASS_NAMES, **fields}
    new_pipeline(shape, new_chain(400, "cosine"), **facts).save_pretrained(folder)
    return str(folder)


def test_ddpm_goes_on_from_a_model_of_its_chain_alone(tmp_path):
    model, root = save_ddpm(tmp_path / "model"), str(tmp_path / "root")
    chain = {"kind": "ddpm", "num_train_timesteps": 400, "beta_schedule": "cosine"}
    start = prepare(tiny_fit(tmp_path, start_from=model, objective=chain), root).start
    assert start is not None
    assert start.class_names == CLASS_NAMES
    other = tiny_fit(tmp_path, start_from=model, objective=chain | {"num_train_timesteps": 300})
    with pytest.raises(SpecError, match=r"chain\.num_train_timesteps: 400 -> 300"):
        prepare(other, root)
    with pytest.raises(SpecError, match="of kind ddpm, not edm"):
        prepare(tiny_fit(tmp_path, start_from=model), root)


def test_unconditional_model_goes_on_without_classes_alone(tmp_path):
    model = save_ddpm(tmp_path / "model", class_names=(), label_dropout=0.0)
    chain = {"kind": "ddpm", "num_train_timesteps": 400, "beta_schedule": "cosine"}
    fields = {"start_from": model, "objective": chain}
    start = prepare(tiny_fit(tmp_path, conditional=False, **fields), str(tmp_path / "root")).start
    assert start is not None
    assert start.class_names == ()
    with pytest.raises(SpecError, match=r"class_names: \[\] -> "):
        prepare(tiny_fit(tmp_path, **fields), str(tmp_path / "root"))
