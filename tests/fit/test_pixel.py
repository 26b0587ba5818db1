import pytest
import torch

from factory.diffusion.edm import SIGMA_DATA
from factory.fit.kinds import make_trainee
from factory.fit.prepare import open_sources
from factory.fit.trainee import Batch
from factory.seeds import stream
from tests.striped import tiny_fit

LABELS = torch.zeros(8, dtype=torch.int64)


class Network(torch.nn.Module):
    """Says what `forward` says."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def normal(seed, *shape):
    return torch.randn(shape, generator=stream(seed))


def trainee_of(folder, **fields):
    spec = tiny_fit(folder, **fields)
    return make_trainee(spec, open_sources(spec)[0], torch.device("cpu"))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 50.0])
def test_edm_loss_of_an_untrained_network_is_one_at_every_level(tmp_path, sigma):
    images, noise = SIGMA_DATA * normal(0, 8, 1, 64, 64), normal(1, 8, 1, 64, 64)
    batch = Batch(images, LABELS, (torch.full((8,), sigma), noise))
    loss = trainee_of(tmp_path).loss(Network(lambda x, *_: torch.zeros_like(x)), batch)
    assert float(loss) == pytest.approx(1, abs=0.03)


def test_ddpm_network_sees_the_image_and_its_noise_as_the_chain_mixes_them(tmp_path):
    seen = {}

    def network(x, t, labels):
        seen.update(x=x, t=t, labels=labels)
        return noise + 1

    images, noise = normal(0, 8, 1, 8, 8), normal(1, 8, 1, 8, 8)
    t = torch.tensor([0, 1, 2, 100, 200, 300, 398, 399])
    chain = {"kind": "ddpm", "num_train_timesteps": 400}
    loss = trainee_of(tmp_path, objective=chain).loss(
        Network(network), Batch(images, LABELS, (t, noise))
    )
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 400, dtype=torch.float64), 0)[t]
    kept = kept.view(-1, 1, 1, 1)
    expected = kept.sqrt() * images + (1 - kept).sqrt() * noise
    assert torch.allclose(seen["x"].double(), expected, atol=1e-5)
    assert torch.equal(seen["t"], t)
    assert torch.equal(seen["labels"], LABELS)
    assert float(loss) == pytest.approx(1)


def test_ddpm_steps_are_uniform_over_the_whole_chain(tmp_path):
    trainee = trainee_of(tmp_path, objective={"kind": "ddpm", "num_train_timesteps": 4})
    t, noise = trainee.draw(8_000, stream(0))
    counts = torch.bincount(t)
    assert len(counts) == 4
    assert counts.sub(2_000).abs().max() < 200
    assert noise.shape == (8_000, 1, 8, 8)


@pytest.mark.parametrize("kind", ["edm", "ddpm"])
def test_unconditional_network_is_given_no_labels(tmp_path, kind):
    seen = []

    def network(x, level, labels):
        seen.append(labels)
        return torch.zeros_like(x)

    trainee = trainee_of(tmp_path, conditional=False, objective={"kind": kind})
    images, draws = normal(0, 8, 1, 8, 8), trainee.draw(8, stream(0))
    trainee.loss(Network(network), Batch(images, LABELS, draws))
    assert seen == [None]
    # The real network takes it so, and the loss reaches all of its weights.
    trainee.loss(trainee.network, Batch(images, LABELS, draws)).backward()
    assert all(weight.grad is not None for weight in trainee.network.parameters())
