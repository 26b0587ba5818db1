import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from factory.seeds import seeded
from factory.spec import Classifier, SpecError
from factory.vision.channels import to_channels
from factory.vision.classifier import build_classifier, load_classifier
from factory.vision.labeller import BATCH_SIZE, load_labeller
from factory.vision.labeller_config import labeller_class_names, labeller_trained_on
from tests.vision.checkpoints import save_settings, save_tiny_resnet
from tests.vision.test_classifier import CLASS_NAMES, train
from tests.vision.test_small_cnn import striped

CPU = torch.device("cpu")
SMALL = {"size": {"shortest_edge": 20}, "crop_pct": 1.0}


def save_factory(folder, *, channels=1, **fields):
    classifier = build_classifier(
        Classifier(width=4, **fields), channels=channels, class_names=CLASS_NAMES, seed=0
    )
    train(classifier, striped(60, channels=channels), num_steps=10)
    classifier.save(folder)


def save_tiny_vit(folder):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
    )
    with seeded(0):
        ViTForImageClassification(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    save_settings(folder, image_processor_type="ViTImageProcessor", size=size)


SAVERS = {
    "factory": save_factory,
    "factory_rgb_resized": lambda folder: save_factory(folder, channels=3, image_size=16),
    "resnet": lambda folder: save_tiny_resnet(folder, **SMALL),
    "vit": save_tiny_vit,
}


@pytest.fixture(scope="module", params=SAVERS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    SAVERS[request.param](folder)
    return folder


@pytest.fixture(scope="module")
def labeller(folder):
    return load_labeller(folder, CPU)


def test_label_and_confidence_are_those_of_the_largest_probability(labeller):
    images = striped(80).images
    labels, confidences = labeller(images)
    probabilities = labeller.probabilities(images)
    assert probabilities.shape == (80, len(labeller.class_names))
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(labels, probabilities.argmax(axis=1))
    assert np.array_equal(confidences, probabilities.max(axis=1))
    assert (labels.dtype, confidences.dtype) == (np.int64, np.float32)


@pytest.mark.usefixtures("one_thread")
def test_image_is_seen_alike_to_the_bit_in_any_company(labeller):
    images = striped(BATCH_SIZE + 20).images
    order = np.random.default_rng(0).permutation(len(images))
    for see in (labeller.probabilities, labeller.features):
        together = see(images)
        assert np.array_equal(see(images[order]), together[order])
        assert np.array_equal(see(images[7:8]), together[7:8])
        assert np.array_equal(see(images[-33:]), together[-33:])


def test_luma_is_what_pillow_makes_of_rgb():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 14, 10, 3), dtype=np.uint8)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in rgb]
    assert np.array_equal(to_channels(rgb, 1)[..., 0], expected)


def test_grey_image_is_seen_as_the_same_image_in_rgb(labeller):
    grey = striped(5).images
    assert np.array_equal(
        labeller.probabilities(grey), labeller.probabilities(grey.repeat(3, axis=3))
    )


@pytest.mark.parametrize(
    "save",
    [
        save_factory,
        lambda folder: save_tiny_resnet(
            folder, channels=1, image_mean=[0.5], image_std=[0.5], **SMALL
        ),
    ],
)
def test_network_for_grey_images_sees_the_luma_of_others(tmp_path, save):
    save(tmp_path)
    images = striped(3, channels=3).images
    labeller = load_labeller(tmp_path, CPU)
    seen = labeller.features(images)
    assert np.array_equal(seen, labeller.features(to_channels(images, 1)))
    assert not np.array_equal(seen, labeller.features(images[..., :1]))


def test_no_images_give_no_rows(labeller):
    none = np.zeros((0, 12, 8, 3), dtype=np.uint8)
    assert labeller.probabilities(none).shape == (0, len(labeller.class_names))
    assert labeller.features(none).shape[0] == 0
    assert [len(part) for part in labeller(none)] == [0, 0]


@pytest.mark.parametrize(("channels", "fields"), [(1, {}), (3, {"image_size": 16})])
def test_saved_classifier_labels_as_it_was_trained(tmp_path, channels, fields):
    save_factory(tmp_path, channels=channels, **fields)
    source, saved = striped(70, channels=channels, seed=1), load_classifier(tmp_path)
    labeller = load_labeller(tmp_path, CPU)
    assert labeller.class_names == CLASS_NAMES
    assert len(set(labeller(source.images).labels)) > 1
    assert np.allclose(
        labeller.probabilities(source.images), saved.predict(source.images), atol=1e-5
    )
    assert np.allclose(labeller.features(source.images), saved.look(source.images)[0], atol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_network_of_transformers_labels_as_transformers_does(tmp_path, name):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    SAVERS[name](tmp_path)
    images = striped(6, channels=3, height=14, width=14).images
    labeller = load_labeller(tmp_path, CPU)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    seen = processor([Image.fromarray(image) for image in images], return_tensors="pt")
    with torch.inference_mode():
        logits = theirs(**seen).logits
        last = theirs.classifier[1] if name == "resnet" else theirs.classifier
        from_features = last(torch.from_numpy(labeller.features(images)))
    assert np.allclose(labeller.probabilities(images), logits.softmax(1).numpy(), atol=1e-5)
    assert np.allclose(from_features, logits, atol=1e-5)
    assert labeller.class_names == tuple(theirs.config.id2label.values())


def test_network_that_gives_nan_is_refused_by_image(tmp_path):
    save_factory(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {"head.bias": weights["head.bias"] * torch.nan}, path)
    with pytest.raises(ValueError, match=r"images \[0, 1\] of 2"):
        load_labeller(tmp_path, CPU)(striped(2).images)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 4)])
def test_array_that_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"give uint8 \[N, H, W, 1 or 3\]"):
        to_channels(np.zeros(shape, dtype=np.uint8), 1)


def test_config_says_class_names_in_label_order_and_training_images(tmp_path):
    names = {str(label): f"class {label}" for label in (10, 2, 0, 1, *range(3, 10))}
    config = {"architectures": ["XForImageClassificationWithTeacher"], "id2label": names}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert labeller_class_names(tmp_path) == tuple(f"class {label}" for label in range(11))
    assert labeller_trained_on(tmp_path) is None
    seen = {"name": "fashion_mnist", "split": "train", "num_images": 9, "digest": "00ff"}
    classifier = build_classifier(Classifier(width=4), channels=1, class_names=CLASS_NAMES, seed=0)
    classifier.save(tmp_path)
    assert labeller_trained_on(tmp_path) is None
    classifier.config = classifier.config.model_copy(update={"trained_on": seen})
    classifier.save(tmp_path)
    assert labeller_trained_on(tmp_path) == seen
    assert load_classifier(tmp_path).config.trained_on == seen
    assert labeller_class_names(tmp_path) == CLASS_NAMES


def test_config_is_read_without_torch(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"class_names": ["cat"]}))
    script = (
        "import sys\n"
        "from factory.vision.labeller_config import labeller_class_names\n"
        f"assert labeller_class_names({str(tmp_path)!r}) == ('cat',)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


IMAGES = {"architectures": ["ResNetForImageClassification"]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("[1]", "describes no image classifier"),
        (json.dumps({"_class_name": "UNet2DModel"}), "architectures: .*; id2label: "),
        (json.dumps(IMAGES), "id2label: "),
        (json.dumps(IMAGES | {"id2label": {"0": "cat", "2": "dog"}}), r"\[0, 2\].* 0 to 1"),
        (
            json.dumps({"architectures": ["BertForTokenClassification"], "id2label": {"0": "a"}}),
            "BertForTokenClassification",
        ),
        (json.dumps({"class_names": []}), "class_names: "),
    ],
)
def test_folder_of_something_else_is_refused_by_its_config(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(SpecError, match=reason) as refused:
        labeller_class_names(tmp_path, field="filters.agreement.model")
    assert str(refused.value).startswith(f"filters.agreement.model: {tmp_path}")
    with pytest.raises(SpecError, match=reason):
        load_labeller(tmp_path, CPU)


def without_processor(folder):
    (folder / "preprocessor_config.json").unlink()


def without_last_layer(folder):
    path = folder / "model.safetensors"
    weights = {name: w for name, w in load_file(path).items() if "classifier" not in name}
    save_file(weights, path, metadata={"format": "pt"})


def without_weights(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_processor, "cannot be loaded"),
        (without_weights, "cannot be loaded"),
        (without_last_layer, "no weights for 2 parts .*classifier.1.bias"),
    ],
)
def test_incomplete_folder_of_transformers_is_refused(tmp_path, damage, reason):
    save_tiny_resnet(tmp_path)
    damage(tmp_path)
    with pytest.raises(SpecError, match=reason) as refused:
        load_labeller(tmp_path, CPU, field="labeller.model")
    assert str(refused.value).startswith(f"labeller.model: {tmp_path}")
