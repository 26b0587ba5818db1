import numpy as np
import pytest
import torch

from factory.sources.source import Source
from factory.vision.small_cnn import NUM_FEATURES, SmallCnn, train_small_cnn

CPU = torch.device("cpu")


def striped(num_images=120, *, channels=1, height=12, width=8, seed=0):
    """Images of three kinds that a convolution tells apart: flat, rows, columns."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % 3
    images = generator.integers(0, 60, (num_images, height, width, channels), dtype=np.uint8)
    images[labels == 1, ::2] += 150
    images[labels == 2, :, ::2] += 150
    return Source("striped", "train", images, labels, ("flat", "rows", "columns"))


IMAGES = striped().images


@pytest.fixture(scope="module")
def trained():
    return train_small_cnn(striped(), num_images=128 * 40, seed=0, device=CPU)


def test_classifier_learns_what_it_is_shown(trained):
    unseen = striped(seed=1)
    features, labels = trained.look(unseen.images)
    assert (labels == unseen.labels).mean() > 0.9
    assert features.shape == (120, NUM_FEATURES)
    assert features.dtype == np.float32


def test_classifier_sees_an_image_alike_in_any_company(trained):
    alone, together = trained.look(IMAGES[7:8])[0], trained.look(IMAGES)[0]
    assert np.allclose(alone[0], together[7], atol=1e-4)


def test_classifier_reloads_bit_equal(trained, tmp_path):
    trained.save(tmp_path / "judge.pt")
    again = SmallCnn.load(tmp_path / "judge.pt")
    for before, after in zip(trained.look(IMAGES), again.look(IMAGES), strict=True):
        assert np.array_equal(before, after)


def test_classifier_of_one_seed_is_one_network():
    source = striped(channels=3)
    a, b, c = (
        train_small_cnn(source, num_images=256, seed=seed, device=CPU).head.weight
        for seed in (5, 5, 6)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
