import numpy as np
import pytest

from factory.adapt.images import open_concepts, open_prior, square
from factory.adapt.prepare import dry_run, prepare
from factory.images import encode_png
from factory.records import claim_root
from factory.spec import AdaptSpec, Concepts, PriorPreservation, SpecError, load_spec, validate
from factory.store import Store
from tests.adapt.adaptations import LORA, WORD, tiny_adapt
from tests.datasets import make_dataset
from tests.striped import write_source
from tests.tiny_text_to_image import save_tiny_pipeline


def write_pictures(folder, count, *, size=(20, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = np.full((*size, 1 + 2 * (index % 2)), 40 * index, dtype=np.uint8)
        (folder / f"{index}.png").write_bytes(encode_png(image, mark=None, compress_level=1))
    return str(folder)


def test_images_of_a_class_depend_on_its_name_and_a_smaller_number_lies_within_a_larger(tmp_path):
    source = {"path": write_source(tmp_path / "train.parquet")}

    def images(**fields):
        opened = open_concepts(Concepts.model_validate({"source": source, **fields}), 16)
        return {name: part.images for name, part in opened.items()}

    few, many = images(num_images=3, classes=["rows"]), images(num_images=9)
    assert list(few) == ["rows"]
    assert list(many) == ["flat", "rows", "columns"]
    assert many["rows"].shape == (9, 16, 16, 3)
    larger = {image.tobytes() for image in many["rows"]}
    assert {image.tobytes() for image in few["rows"]} < larger


def test_folders_of_any_size_and_colour_become_squares_of_the_model(tmp_path):
    folders = {"bag": write_pictures(tmp_path / "a", 3), "boot": write_pictures(tmp_path / "b", 2)}
    opened = open_concepts(Concepts(folders=folders, num_images=2), 16)
    assert {name: part.images.shape for name, part in opened.items()} == {
        "bag": (2, 16, 16, 3),
        "boot": (2, 16, 16, 3),
    }
    assert opened["bag"].images[1].mean() == 40


def test_square_is_cut_around_the_centre():
    image = np.zeros((4, 12, 1), dtype=np.uint8)
    image[:, 4:8] = 200
    assert (square(image, 4) == 200).all()


def test_prior_images_are_the_first_of_the_root_whatever_it_grows_to(tiny_model, tmp_path):
    prior = PriorPreservation(images=str(tmp_path / "root"), num_images=2)
    make_dataset(tmp_path / "root", tiny_model, num_images=16)
    before = open_prior(prior, ["dog"], 16)["dog"]
    make_dataset(tmp_path / "root", tiny_model, num_images=32)
    after = open_prior(prior, ["dog"], 16)["dog"]
    assert before.images.shape == (2, 16, 16, 3)
    assert before.digest == after.digest
    with pytest.raises(SpecError, match="400 images of each class"):
        open_prior(prior.model_copy(update={"num_images": 400}), ["dog"], 16)


def test_dry_run_says_words_and_what_is_pending(tiny_base, tmp_path):
    spec = tiny_adapt(tiny_base, tmp_path, class_words={"rows": "cat"})
    report = dry_run(prepare(spec, str(tmp_path / "root")))
    assert report.phrases == {"rows": "<rows>"}
    assert (report.pending, report.done, report.resolution) == (["rows"], [], 16)
    assert not (tmp_path / "root").exists()
    rare = tiny_adapt(tiny_base, tmp_path, method=LORA, class_words={"rows": "striped cat"})
    assert dry_run(prepare(rare, str(tmp_path / "root"))).phrases == {"rows": "sks striped cat"}


def test_another_class_joins_the_root_and_another_training_is_refused(tiny_base, tmp_path):
    store = Store(str(tmp_path / "root"))
    first = prepare(tiny_adapt(tiny_base, tmp_path), store.url)
    claim_root(store, first.root_spec)
    source = {"source": {"path": str(tmp_path / "train.parquet")}, "num_images": 3}
    both = prepare(tiny_adapt(tiny_base, tmp_path, concepts=source), store.url)
    rows = {concept.class_name: concept for concept in both.concepts}["rows"]
    assert rows.fingerprint == first.concepts[0].fingerprint
    with pytest.raises(SpecError, match=r"training\.learning_rate: 0\.03 -> 0\.5"):
        prepare(tiny_adapt(tiny_base, tmp_path, training={"learning_rate": 0.5}), store.url)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"concepts": {"classes": ["rows", "dots"], "num_images": 3}},
            r"\['dots'\] are no classes",
        ),
        (
            {"concepts": {"classes": ["rows"], "num_images": 200}},
            "200 images of each class are asked for, but there are 40 of 'rows'",
        ),
        ({"method": {"initializer_token": "flat"}}, r"'flat' of 'rows' is 4 \("),
        ({"method": {}}, "'rows' of 'rows' is"),
        ({"method": {**WORD, "placeholder_token": "an"}}, "'rows': 'an'.*tokenizer already"),
        ({"method": {**WORD, "placeholder_token": "<My rows>"}}, "lower-case words without spaces"),
        ({"method": {**WORD, "placeholder_token": {"dots": "<x>"}}}, r"names \['dots'\]"),
        (
            {
                "concepts": {"classes": ["rows", "flat"], "num_images": 3},
                "method": {**WORD, "placeholder_token": "<x>"},
            },
            r"\['rows', 'flat'\].*<x>",
        ),
        ({"class_words": {"dots": "dot"}}, r"class_words: names \['dots'\]"),
        ({"resolution": 18}, "18 px, but .* multiples of 4 px"),
        (
            {"method": {**LORA, "prior_preservation": {"images": "nowhere"}}},
            "nowhere: holds no spec.json",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused_by_name(tiny_base, tmp_path, fields, message):
    source = {"path": write_source(tmp_path / "train.parquet")}
    if "concepts" in fields:
        fields = {**fields, "concepts": {"source": source, **fields["concepts"]}}
    with pytest.raises(SpecError, match=message):
        prepare(tiny_adapt(tiny_base, tmp_path, **fields), str(tmp_path / "root"))


def test_folders_that_do_not_do_are_refused_by_name(tmp_path):
    folders = {
        "bag": write_pictures(tmp_path / "a", 3),
        "boot": write_pictures(tmp_path / "b", 1),
    }
    with pytest.raises(SpecError, match="there are 1 of 'boot'"):
        open_concepts(Concepts(folders=folders, num_images=2), 16)
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    (tmp_path / "b" / "0.png").write_bytes(b"nor this")
    with pytest.raises(SpecError, match=r"2 images cannot be decoded: .*a/0\.png.*b/0\.png"):
        open_concepts(Concepts(folders=folders, num_images=1), 16)
    with pytest.raises(SpecError, match=r"absent.* are no folders"):
        open_concepts(Concepts(folders={"bag": str(tmp_path / "absent")}), 16)


def test_model_of_another_kind_is_refused(tiny_model, tmp_path):
    with pytest.raises(SpecError, match="EdmPipeline; give a text-to-image model"):
        prepare(tiny_adapt(tiny_model, tmp_path), str(tmp_path / "root"))
    large = save_tiny_pipeline(tmp_path / "xl", kind="xl")
    with pytest.raises(SpecError, match="StableDiffusionXLPipeline; give"):
        prepare(tiny_adapt(large, tmp_path), str(tmp_path / "root"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"concepts": {}}, "give one of the two"),
        ({"concepts": {"source": {}, "folders": {"a": "b"}}}, "give one of the two"),
        ({"concepts": {"folders": {"a": "b"}, "classes": ["a"]}}, "leave classes out"),
        ({"concepts": {"source": {}, "classes": ["a", "a"]}}, "more than once"),
        ({"method": {"instance_prompts": ["a photo", "a {concept}"]}}, r"holds \['a photo'\]"),
        (
            {
                "method": {
                    "kind": "dreambooth",
                    "prior_preservation": {"images": "a", "class_prompt": "a {concept}"},
                }
            },
            "it needs {class_name}",
        ),
        ({"training": {"batch_size": 2, "gradient_accumulation_steps": 3}}, "3 and batch_size 2"),
        ({"method": {"kind": "lora"}}, "known kinds: 'textual_inversion', 'dreambooth'"),
    ],
)
def test_spec_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(SpecError, match=message):
        validate(AdaptSpec, fields, "spec")


def test_method_without_kind_is_textual_inversion():
    assert load_spec(AdaptSpec, None, ["method.num_vectors=3"]).method.num_vectors == 3
