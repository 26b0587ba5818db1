import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from factory.images import to_float
from factory.spec import Classifier, SpecError
from factory.vision.classifier import build_classifier, load_classifier
from tests.vision.checkpoints import save_tiny_resnet
from tests.vision.test_small_cnn import striped

CLASS_NAMES = ("flat", "rows", "columns")


def build(spec, *, channels=1, seed=0):
    return build_classifier(spec, channels=channels, class_names=CLASS_NAMES, seed=seed)


def small(**fields):
    return Classifier(width=8, **fields)


def train(classifier, source, *, num_steps):
    x, labels = to_float(source.images), torch.from_numpy(source.labels)
    weights = [p for p in classifier.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    for _ in range(num_steps):
        classifier.train()
        optimizer.zero_grad()
        F.cross_entropy(classifier(x), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("network", ["resnet18", "resnet50", "resnet_attention"])
def test_classifier_learns_what_it_is_shown(network):
    classifier = build(small(network=network))
    train(classifier, striped(), num_steps=30)
    unseen = striped(seed=1)
    assert (classifier.look(unseen.images)[1] == unseen.labels).mean() > 0.9


def test_classifier_of_one_seed_is_one_network_and_the_global_generator_stays():
    state = torch.get_rng_state()
    a, b, c = (build(small(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in a.state_dict().items():
        assert torch.equal(weight, b.state_dict()[name])
    x = to_float(striped().images)
    assert not torch.equal(a(x), c(x))


@pytest.mark.parametrize("channels", [1, 3])
def test_classifier_reloads_bit_equal(tmp_path, channels):
    classifier = build(small(image_size=16), channels=channels)
    source = striped(channels=channels)
    train(classifier, source, num_steps=2)
    classifier.save(tmp_path)
    again = load_classifier(tmp_path)
    assert again.config == classifier.config
    assert np.array_equal(classifier.predict(source.images), again.predict(source.images))


def test_predictions_are_probabilities_alike_in_any_batch():
    classifier = build(small())
    source = striped(1_001)
    train(classifier, striped(), num_steps=5)
    together = classifier.predict(source.images)
    assert together.dtype == np.float32
    assert np.allclose(together.sum(axis=1), 1, atol=1e-5)
    apart = np.concatenate(
        [classifier.predict(source.images[a : a + 77]) for a in range(0, 1001, 77)]
    )
    assert np.allclose(together, apart, atol=1e-4)
    features, labels = classifier.look(source.images)
    assert np.array_equal(labels, together.argmax(axis=1))
    logits = classifier.head(torch.from_numpy(features)).detach().numpy()
    assert np.allclose(
        np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), together, atol=1e-5
    )


@pytest.mark.parametrize("regime", ["fine_tune", "frozen"])
def test_frozen_training_changes_the_last_layer_alone(tmp_path, regime):
    save_tiny_resnet(tmp_path)
    classifier = build(
        Classifier(network="pretrained", weights=str(tmp_path), regime=regime), channels=3
    )
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    train(classifier, striped(channels=3), num_steps=2)
    changed = {
        name
        for name, value in classifier.state_dict().items()
        if not torch.equal(value, before[name])
    }
    if regime == "frozen":
        assert changed == {"head.weight", "head.bias"}
    else:
        assert len(changed) == len(before)


def test_image_size_is_the_side_that_the_trunk_sees():
    classifier = build(small(image_size=24), channels=1)
    x = to_float(striped().images)
    seen = classifier.prepare(x)
    assert seen.shape == (120, 1, 24, 24)
    assert seen.abs().max() <= 1
    flat = torch.full((2, 1, 12, 8), 0.25)
    assert torch.allclose(classifier.prepare(flat), torch.full((2, 1, 24, 24), 0.25))


def test_image_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="3 channels, expected 1"):
        build(small()).predict(striped(channels=3).images)


def _empty(folder):
    pass


def _of_transformers(folder):
    save_tiny_resnet(folder)


def _of_another_width(folder):
    build(small()).save(folder / "other")
    build(Classifier(width=4)).save(folder)
    save_file(load_file(folder / "other" / "model.safetensors"), folder / "model.safetensors")


def _cut_short(folder):
    build(small()).save(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("fill", [_empty, _of_transformers, _of_another_width, _cut_short])
def test_folder_of_something_else_is_refused(tmp_path, fill):
    fill(tmp_path)
    with pytest.raises(SpecError, match="holds no classifier of the factory") as refused:
        load_classifier(tmp_path)
    assert str(tmp_path) in str(refused.value)
