"""Models are found by name or folder, pinned by content, and refused by name."""

import json
import re
import shutil

import pytest

from factory.models import open_model
from factory.resolve import resolve
from factory.sources.open import open_source
from factory.spec import EdmGenerator, SourceSpec, SpecError
from tests.conftest import CLASS_NAMES
from tests.datasets import small_spec
from tests.striped import write_source


def opened(path, **fields):
    return open_model(EdmGenerator(model=str(path), **fields))


def test_a_folder_is_pinned_by_its_content_and_not_by_its_place_or_card(tmp_path, tiny_model):
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    (moved / "README.md").write_text("a card")
    assert opened(moved).digest == opened(tiny_model).digest
    config = json.loads((moved / "model_index.json").read_text())
    config["id2label"]["0"] = "lion"
    (moved / "model_index.json").write_text(json.dumps(config))
    assert opened(moved).digest != opened(tiny_model).digest


def test_asked_names_a_folder_absolutely(tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)
    resolved = resolve(small_spec("tiny"))
    assert resolved.root_spec.asked["generator"]["model"] == str(tiny_model)


def damage_config(folder, **changes):
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: shutil.rmtree(f), ["is no folder and no embedded model", "diffusers"]),
        (lambda f: (f / "model_index.json").unlink(), ["model_index.json", "cannot be read"]),
        (lambda f: (f / "model_index.json").write_text("{"), ["describes no pixel model"]),
        (lambda f: damage_config(f, _class_name="DiTPipeline"), ["_class_name", "EdmPipeline"]),
        (lambda f: damage_config(f, id2label={"0": "a", "2": "b"}), ["id2label", "'2'"]),
        (lambda f: damage_config(f, id2label={"0": "a", "1": "a"}), ["id2label", "once"]),
        (lambda f: damage_config(f, image_size=None), ["image_size"]),
        (
            lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
            ["no weights (.safetensors", "folder of a model"],
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_by_name(tmp_path, tiny_model, change, named):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    change(folder)
    with pytest.raises(SpecError) as error:
        opened(folder)
    assert all(part in str(error.value) for part in ["generator.model", *named])


def test_a_hub_model_that_cannot_be_had_is_refused_with_the_way_out():
    with pytest.raises(SpecError, match=r"generator\.model: nobody/nothing .*give a folder"):
        opened("nobody/nothing")


def test_a_revision_of_a_local_folder_is_refused(tiny_model):
    with pytest.raises(SpecError, match=r"generator\.revision: is main"):
        opened(tiny_model, revision="main")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lion", "; it knows ['cat', 'dog'"),
        ("dogs", "; did you mean 'dog'? It knows ['cat', 'dog'"),
    ],
)
def test_an_unknown_class_is_refused_with_the_known_ones(tiny_model, name, hint):
    with pytest.raises(SpecError, match=re.escape(hint)):
        resolve(small_spec(tiny_model, class_names=("cat", name)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two sources of real images that have none in common."""
    folder = tmp_path_factory.mktemp("photos")
    return [
        write_source(folder / f"{seed}.parquet", num_images=9, seed=seed, names=CLASS_NAMES)
        for seed in (0, 1)
    ]


def near_real(real, held_out, *, channels=3):
    return {
        "kind": "near_real",
        "real": {"path": real, "channels": 3},
        "held_out": {"path": held_out, "channels": channels},
    }


def test_real_images_that_cannot_calibrate_a_filter_are_refused_before_work(tiny_model, photos):
    real, unseen = photos
    contrast = {"kind": "contrast"}
    with pytest.raises(SpecError, match=r"filters\.1\.held_out: 9 of its 9 images are in real"):
        resolve(small_spec(tiny_model, filters=[contrast, near_real(real, real)]))
    grey = near_real(real, unseen, channels=1)
    with pytest.raises(SpecError, match=r"filters\.0: real has images 8x8 RGB, held_out 8x8 grey"):
        resolve(small_spec(tiny_model, filters=[grey]))
    large = {"image_size": 16}
    with pytest.raises(SpecError, match=r"filters\.0\.real: .* are 8x8 RGB, the dataset's are 16x"):
        resolve(small_spec(tiny_model, filters=[near_real(real, unseen)], output=large))
    nowhere = near_real(real, "nowhere")
    with pytest.raises(SpecError, match=r"filters\.0\.held_out: .*nowhere"):
        resolve(small_spec(tiny_model, filters=[nowhere]))


def test_filter_for_copies_of_images_that_the_model_has_not_seen_is_told(
    tmp_path, tiny_model, photos, caplog
):
    real, unseen = photos
    model = shutil.copytree(tiny_model, tmp_path / "model")
    damage_config(model, trained_on=open_source(SourceSpec(path=real, channels=3)).seen)
    resolve(small_spec(model, filters=[near_real(real, unseen)]))
    assert not caplog.records
    resolve(small_spec(model, filters=[near_real(unseen, real)]))
    assert "filters.0.real: 9 images (photos" in caplog.text
    assert "are not what model tiny has seen (9 real images" in caplog.text
    resolve(small_spec(tiny_model, filters=[near_real(real, unseen)]))
    assert "what nobody knows" in caplog.text
