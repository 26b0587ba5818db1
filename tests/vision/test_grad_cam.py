from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from factory.images import to_float
from factory.spec import Classifier, SpecError
from factory.vision.classifier import build_classifier, load_classifier
from factory.vision.grad_cam import grad_cam, overlay
from tests.vision.checkpoints import save_tiny_resnet
from tests.vision.test_extractors import noise
from tests.vision.test_labeller import save_tiny_vit

CLASS_NAMES = ("flat", "rows", "columns")


class Patches(nn.Module):
    """A trunk whose maps are the mean colours of patches of 4x4 pixels."""

    channels = num_features = 3

    def feature_map(self, x):
        return F.avg_pool2d(x, 4)

    def forward(self, x):
        return self.feature_map(x).mean(dim=(2, 3))


class LargestPatch(nn.Module):
    """A network of transformers' kind that does not pool by the mean."""

    def forward(self, pixel_values, output_hidden_states):
        maps = F.avg_pool2d(pixel_values, 4)
        return SimpleNamespace(hidden_states=(maps,), logits=maps.amax(dim=(2, 3)))


def build(**fields):
    return build_classifier(
        Classifier(**{"width": 4} | fields), channels=3, class_names=CLASS_NAMES, seed=0
    ).eval()


def planted():
    """A linear classifier: class 0 is red, class 1 is not red, class 2 is green less blue."""
    classifier = build()
    classifier.trunk = Patches()
    classifier.head = nn.Linear(3, 3, bias=False)
    weights = [[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, -1.0]]
    classifier.head.weight.data = torch.tensor(weights)
    return classifier


def labels(*values):
    return np.array(values, dtype=np.int64)


def test_evidence_in_one_corner_is_found_there():
    images = np.zeros((1, 16, 24, 3), dtype=np.uint8)
    images[:, :4, 20:, 0] = 255
    (found,) = grad_cam(planted(), images, labels(0))
    assert found.shape == (16, 24)
    assert found.dtype == np.float32
    assert found[:2, -2:].min() == found.max() == 1
    assert found[8:].max() == found[:, :16].max() == 0


def test_map_of_a_linear_network_is_its_formula():
    images = noise(4, height=12, width=8)
    classifier = planted()
    patches = (images / 127.5 - 1).reshape(4, 3, 4, 2, 4, 3).mean(axis=(2, 4))
    evidence = np.einsum("nyxk,k->nyx", patches, classifier.head.weight[2].detach().numpy())
    expected = F.interpolate(
        torch.from_numpy(evidence.clip(0))[:, None], (12, 8), mode="bilinear"
    ).numpy()[:, 0]
    expected /= expected.max(axis=(1, 2), keepdims=True)
    assert grad_cam(classifier, images, labels(2, 2, 2, 2)) == pytest.approx(expected, abs=1e-5)


def test_image_without_evidence_has_a_map_of_zeros():
    images = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    assert grad_cam(planted(), images, labels(0)).max() == 0
    assert grad_cam(planted(), images, labels(1)).min() == 1


def test_without_labels_the_likeliest_class_is_asked_for():
    images = noise(5, height=32, width=32)
    classifier = build()
    _, likeliest = classifier.look(images)
    found = grad_cam(classifier, images, None)
    assert np.array_equal(found, grad_cam(classifier, images, likeliest))
    assert not np.array_equal(found, grad_cam(classifier, images, (likeliest + 1) % 3))


@pytest.mark.parametrize("fields", [{}, {"network": "resnet_attention"}, {"image_size": 48}])
def test_maps_do_not_depend_on_batch_mates_or_training_mode(fields):
    images = noise(70, height=24, width=20)
    classifier, asked = build(**fields), np.arange(70) % 3
    found = grad_cam(classifier, images, asked)
    assert found.shape == (70, 24, 20)
    assert 0 <= found.min() < found.max() <= 1
    alone = [grad_cam(classifier.train(), images[[i]], asked[[i]])[0] for i in (0, 65)]
    assert np.allclose(found[[0, 65]], alone, atol=1e-4)
    assert all(weight.grad is None for weight in classifier.parameters())


def test_flipped_image_has_the_flipped_map():
    classifier = build(stem="small")
    with torch.no_grad():
        for module in classifier.modules():
            if isinstance(module, nn.Conv2d):
                module.weight += module.weight.flip(-1)
            # Some start at zero, which would make every block its shortcut.
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1.0)
    # With an odd width strides meet the same pixels from either side.
    images = noise(3, height=33, width=33)
    found = grad_cam(classifier, images, labels(0, 1, 2))
    flipped = grad_cam(classifier, images[:, :, ::-1], labels(0, 1, 2))
    assert np.allclose(flipped, found[:, :, ::-1], atol=1e-4)
    assert not np.allclose(flipped, found, atol=1e-2)


@pytest.mark.parametrize("regime", ["fine_tune", "frozen"])
def test_network_of_transformers_is_asked_at_its_last_stage(tmp_path, regime):
    theirs = save_tiny_resnet(tmp_path / "weights")
    fields = {"network": "pretrained", "weights": str(tmp_path / "weights"), "regime": regime}
    build(**fields).save(tmp_path / "saved")
    classifier = load_classifier(tmp_path / "saved")
    images = noise(3, height=32, width=32)
    with torch.inference_mode():
        x = classifier.prepare(to_float(images))
        maps = theirs(pixel_values=x, output_hidden_states=True).hidden_states[-1]
        evidence = torch.einsum("ndyx,d->nyx", maps, classifier.head.weight[1]).relu()[:, None]
        expected = F.interpolate(evidence, (32, 32), mode="bilinear")[:, 0]
        expected /= expected.amax(dim=(1, 2), keepdim=True)
    found = grad_cam(classifier, images, labels(1, 1, 1))
    assert found == pytest.approx(expected.numpy(), abs=1e-4)
    assert found.max() == 1


def test_maps_are_weighted_by_the_mean_of_their_gradients(tmp_path):
    save_tiny_resnet(tmp_path)
    classifier = build(network="pretrained", weights=str(tmp_path), regime="frozen")
    classifier.trunk.classifier = LargestPatch()
    classifier.head = planted().head
    images = noise(3, height=16, width=16)
    # The largest patch alone has a gradient, of the head's weight.
    maps = F.avg_pool2d(classifier.prepare(to_float(images)), 4)
    evidence = torch.einsum("nkyx,k->nyx", maps, classifier.head.weight[2].detach()).relu()
    expected = F.interpolate(evidence[:, None], (16, 16), mode="bilinear")[:, 0]
    expected /= expected.amax(dim=(1, 2), keepdim=True)
    found = grad_cam(classifier, images, labels(2, 2, 2))
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_network_without_maps_is_refused_by_name(tmp_path):
    save_tiny_vit(tmp_path)
    classifier = build(network="pretrained", weights=str(tmp_path), regime="frozen")
    with pytest.raises(SpecError, match=r"of a vit network gives \[17, 16\] .* \[D, h, w\]"):
        grad_cam(classifier, noise(2, height=16, width=16), None)


def test_lite0_is_asked_at_its_last_stage():
    classifier = build(network="efficientnet_lite0", regime="frozen", image_size=64)
    images = noise(2, height=40, width=40)
    with torch.inference_mode():
        maps = classifier.trunk.feature_map(classifier.prepare(to_float(images)))
        evidence = torch.einsum("ndyx,d->nyx", maps, classifier.head.weight[2]).relu()[:, None]
        expected = F.interpolate(evidence, (40, 40), mode="bilinear")[:, 0]
        expected /= expected.amax(dim=(1, 2), keepdim=True)
    found = grad_cam(classifier, images, labels(2, 2))
    assert found == pytest.approx(expected.numpy(), abs=1e-4)


def test_no_images_have_no_maps():
    assert grad_cam(build(), noise(0), None).shape == (0, 20, 20)


@pytest.mark.parametrize("channels", [1, 3])
def test_overlay_is_halfway_between_image_and_colour(channels):
    images = noise(2, channels=channels)
    maps = np.zeros((2, 20, 20), dtype=np.float32)
    maps[1] = 1
    found = overlay(images, maps, colormap="gray")
    assert found.shape == (2, 20, 20, 3)
    assert found.dtype == np.uint8
    rgb = images if channels == 3 else images.repeat(3, axis=3)
    assert np.array_equal(found[0], np.rint(rgb[0] / 2))
    assert np.array_equal(found[1], np.rint((rgb[1] + 255.0) / 2))
