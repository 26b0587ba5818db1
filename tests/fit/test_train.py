import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from factory.diffusion.draw import EdmSampler
from factory.diffusion.edm import SIGMA_DATA, EdmPipeline
from factory.fit.prepare import open_sources
from factory.fit.train import Batch, BatchStream, Trainer, edm_loss, ema_decay, learning_rate
from factory.spec import EdmGenerator, Training
from tests.striped import tiny_fit


def new_trainer(folder, **fields):
    spec = tiny_fit(folder, **fields)
    parts = spec.training.gradient_accumulation_steps
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
    return Trainer(spec, open_sources(spec)[0], accelerator)


def start_from(folder, source, **fields):
    """A trainer that goes on from the model in `folder`."""
    return Trainer(tiny_fit(folder, **fields), source, Accelerator(cpu=True), folder / "model")


def advance(trainer, num_steps):
    for _ in range(num_steps):
        trainer.advance()
        if trainer.step % 2 == 0:
            trainer.close_row()
    return trainer


def tensors(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tensor for value in values for tensor in tensors(value)]


@pytest.fixture
def source(tmp_path):
    return open_sources(tiny_fit(tmp_path))[0]


def stream_of(source, *, seed=0, **fields):
    return BatchStream(source, Training(**{"batch_size": 16, **fields}), seed=seed)


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    # Dropout too: its masks must not depend on what was drawn before.
    shape = {"block_out_channels": [16, 32], "layers_per_block": 1, "patch_size": 2, "dropout": 0.2}
    whole = advance(new_trainer(tmp_path, shape=shape), 6)
    first = advance(new_trainer(tmp_path, shape=shape), 4)
    first.save(tmp_path / "state.pt")
    second = new_trainer(tmp_path, shape=shape)
    second.load(tmp_path / "state.pt")
    advance(second, 2)
    pairs = list(zip(tensors(whole.state()), tensors(second.state()), strict=True))
    assert len(pairs) > 100
    assert all(torch.equal(a, b) for a, b in pairs)
    assert second.done
    losses = [[row.loss for row in trainer.history] for trainer in (whole, second)]
    assert losses[0] == losses[1]


def test_loss_falls_on_a_tiny_source(tmp_path):
    trainer = new_trainer(tmp_path, training={"num_images": 16 * 60, "warmup_fraction": 0})
    advance(trainer, 60)
    losses = [row.loss for row in trainer.history]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    assert trainer.done


def test_accumulated_parts_of_a_batch_are_the_batch(tmp_path):
    whole = advance(new_trainer(tmp_path), 3)
    parts = advance(new_trainer(tmp_path, training={"gradient_accumulation_steps": 2}), 3)
    for a, b in zip(whole.state()["average"], parts.state()["average"], strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_snapshot_holds_the_average_in_half_precision_and_draws_equally_twice(tmp_path):
    trainer = advance(new_trainer(tmp_path), 3)
    trainer.snapshot(tmp_path / "model")
    saved = EdmPipeline.from_pretrained(tmp_path / "model", dtype=torch.float16)
    average = trainer.state()["average"]
    for weight, mean in zip(saved.unet.parameters(), average, strict=True):
        assert torch.equal(weight, mean.half())
    assert saved.config["trained_on"]["num_images"] == 120
    generator = EdmGenerator(model="model", num_inference_steps=2)
    images = [
        EdmSampler(str(tmp_path / "model"), generator, torch.device("cpu"))(["rows"], [7])
        for _ in range(2)
    ]
    assert np.array_equal(*images)
    assert images[0].shape == (1, 8, 8, 1)


def test_training_starts_from_the_averaged_weights_of_a_model(tmp_path):
    first = advance(new_trainer(tmp_path), 4)
    first.snapshot(tmp_path / "model")
    saved = EdmPipeline.from_pretrained(tmp_path / "model").unet.float()
    second = start_from(tmp_path, open_sources(tiny_fit(tmp_path))[0])
    for weight, expected in zip(second.pipeline.unet.parameters(), saved.parameters(), strict=True):
        assert torch.equal(weight, expected)


def test_model_that_goes_on_says_all_that_it_has_seen(tmp_path):
    first = new_trainer(tmp_path)
    first.snapshot(tmp_path / "model")
    source = open_sources(tiny_fit(tmp_path))[0]
    seen = first.pipeline.config["trained_on"]
    assert seen["digest"] == source.digest
    same = start_from(tmp_path, source)
    assert same.pipeline.config["trained_on"] == seen
    other = source.take(np.arange(60))
    again = start_from(tmp_path, other)
    assert again.pipeline.config["trained_on"]["digest"] == other.digest
    assert again.pipeline.config["trained_on"]["before"] == seen
    drawn = replace(other, trained_on={"digest": "of the images behind it"})
    assert start_from(tmp_path, drawn).pipeline.config["trained_on"]["before"] == {
        **seen,
        "before": {"digest": "of the images behind it"},
    }


def test_training_goes_on_unmoved_by_a_snapshot(tmp_path):
    plain, disturbed = new_trainer(tmp_path), new_trainer(tmp_path)
    advance(plain, 2)
    advance(disturbed, 1).snapshot(tmp_path / "model")
    advance(disturbed, 1)
    for a, b in zip(tensors(plain.state()), tensors(disturbed.state()), strict=True):
        assert torch.equal(a, b)


def test_parts_of_a_batch_make_the_whole_batch(source):
    stream = stream_of(source, horizontal_flip=True, label_dropout=0.5)
    whole = stream.batch(3)
    parts = [stream.batch(3, part=slice(start, start + 4)) for start in range(0, 16, 4)]
    for name in Batch._fields:
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name))


def test_batch_depends_on_its_number_and_the_seed_alone(source):
    forwards, backwards = stream_of(source), stream_of(source)
    ahead = [forwards.batch(step) for step in range(20)]
    behind = [backwards.batch(step) for step in reversed(range(20))][::-1]
    for a, b in zip(ahead, behind, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    other = stream_of(source, seed=1).batch(0)
    assert not torch.equal(ahead[0].sigma, other.sigma)
    assert not torch.equal(ahead[0].noise, ahead[1].noise)


def test_every_epoch_shows_each_image_once(source):
    stream = stream_of(source, batch_size=50)
    images = torch.cat([stream.batch(step).images for step in range(12)])
    for epoch in range(5):
        shown = {i.numpy().tobytes() for i in images[epoch * 120 : (epoch + 1) * 120]}
        assert len(shown) == 120


def test_share_of_hidden_labels_is_the_label_dropout(source):
    def hidden(label_dropout):
        stream = stream_of(source, batch_size=1_000, label_dropout=label_dropout)
        return float((stream.batch(0).labels == 3).float().mean())

    assert hidden(0.0) == 0
    assert hidden(1.0) == 1
    assert hidden(0.2) == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 50.0])
def test_loss_of_an_untrained_network_is_one_at_every_level(sigma):
    generator = torch.Generator().manual_seed(0)
    images = SIGMA_DATA * torch.randn((8, 1, 64, 64), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    batch = Batch(images, noise, torch.full((8,), sigma), torch.zeros(8, dtype=torch.int64))
    assert float(edm_loss(lambda x, *_: torch.zeros_like(x), batch)) == pytest.approx(1, abs=0.03)


def test_learning_rate_rises_stays_and_falls_to_zero():
    training = Training(num_images=10_000, batch_size=100, warmup_fraction=0.1, decay_fraction=0.4)
    rates = [
        learning_rate(training, seen) / training.learning_rate for seen in range(0, 10_001, 100)
    ]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:61] == [1.0] * 52
    assert rates[80] == pytest.approx(0.5)
    assert rates[-1] == 0
    assert min(rates[:-1]) > 0


def test_average_forgets_half_in_its_half_life():
    training = Training(num_images=1_000_000, batch_size=100, ema_fraction=0.05)
    late = math.prod(ema_decay(training, seen) for seen in range(600_100, 650_001, 100))
    assert late == pytest.approx(0.5)
    # Early on the half-life is a tenth of the images seen: nothing of the first weights stays.
    early = math.prod(ema_decay(training, seen) for seen in range(100, 20_001, 100))
    assert early < 1e-10
