import pytest

from factory.fit.prepare import claim, dry_run, prepare
from factory.spec import SpecError
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
