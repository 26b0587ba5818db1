"""Guidance by exact arithmetic, and what it does to the embedded model."""

import numpy as np
import pytest
import torch

from factory.diffusion.edm_sampler import EdmSampler
from factory.diffusion.guidance import GuidedNetwork
from factory.models import open_model
from factory.sources.open import open_source
from factory.spec import DdpmGenerator, EdmGenerator, SourceSpec

NULL = 3


class Linear:
    """F(x, label) = label, whatever x; counts its evaluations."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, level, labels):
        self.batches.append(len(x))
        return labels.view(-1, 1, 1, 1).expand_as(x).to(x.dtype)


def guide(levels, labels, **guidance):
    """Outputs of the guided network, one number an image, and the sizes of its evaluations."""
    network = Linear()
    guided = GuidedNetwork(network, null_label=NULL, **guidance)
    x = torch.zeros(len(levels), 1, 2, 2)
    out = guided(x, torch.tensor(levels), torch.tensor(labels))
    assert out.shape == x.shape
    return out[:, 0, 0, 0].tolist(), network.batches


def test_scale_1_costs_no_evaluation_of_the_null_class():
    assert guide([5.0, 0.1], [0, 1], scale=1.0) == ([0, 1], [2])


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_scale_moves_from_the_null_class_through_the_class(scale):
    outputs, batches = guide([5.0, 0.1], [0, 1], scale=scale)
    assert outputs == [NULL + scale * (0 - NULL), NULL + scale * (1 - NULL)]
    assert batches == [4]


@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.5, 3.0])
def test_weight_w_is_the_papers_1_plus_w_with_the_class_less_w_without(weight):
    generator = DdpmGenerator(kind="ddpm", model="m", guidance_weight=weight)
    outputs, _ = guide([5.0, 0.1], [0, 1], scale=generator.scale)
    assert outputs == [(1 + weight) * label - weight * NULL for label in (0, 1)]


def test_scale_applies_inside_the_interval_only_and_its_bounds_are_inside():
    levels = [80.0, 2.0, 1.0, 0.5, 0.1]
    outputs, _ = guide(levels, [0] * 5, scale=2.0, interval=(0.5, 2.0))
    assert outputs == [0, -NULL, -NULL, -NULL, 0]


def test_a_batch_outside_the_interval_costs_no_evaluation_of_the_null_class():
    assert guide([80.0, 0.1], [0, 1], scale=2.0, interval=(0.5, 2.0)) == ([0, 1], [2])


def test_an_unconditional_network_is_asked_without_labels():
    network = GuidedNetwork(lambda x, level, labels: (labels, x)[1], null_label=0, scale=1.0)
    x = torch.ones(2, 1, 2, 2)
    assert network(x, torch.zeros(2), None) is x


def test_guidance_raises_agreement_with_the_wanted_class():
    real = open_source(SourceSpec())
    means = np.stack([real.images[real.labels == label].mean(axis=0) for label in range(10)])
    wanted = np.arange(60) % 10
    agreement: list[float] = []
    for scale in (0.0, 1.0, 2.0):
        generator = EdmGenerator(
            num_inference_steps=4, guidance_scale=scale, guidance_interval=None
        )
        sampler = EdmSampler(open_model(generator).path, generator, torch.device("cpu"))
        images = sampler.draw([real.class_names[label] for label in wanted], range(60))
        distances = np.square(images[:, None] - means).mean(axis=(2, 3, 4))
        agreement.append(np.mean(distances.argmin(axis=1) == wanted))
    assert agreement[0] < 0.3
    assert agreement[0] < agreement[1] < agreement[2]
