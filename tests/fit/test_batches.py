import pytest
import torch

from factory.fit.batches import BatchStream, validation_batches
from factory.fit.kinds import make_trainee
from factory.fit.prepare import open_sources
from factory.fit.trainee import Batch
from tests.striped import tiny_fit

OBJECTIVES = pytest.mark.parametrize("kind", ["edm", "ddpm"])


def trainee_of(folder, kind="edm"):
    spec = tiny_fit(folder, objective={"kind": kind})
    source = open_sources(spec)[0]
    return make_trainee(spec, source, torch.device("cpu")), source


def stream_of(folder, *, kind="edm", seed=0, **training):
    trainee, source = trainee_of(folder, kind)
    return BatchStream(source, tiny_fit(folder, seed=seed, training=training), trainee)


def tensors(batch):
    return [batch.images, batch.labels, *batch.draws]


@OBJECTIVES
def test_parts_of_a_batch_make_the_whole_batch(tmp_path, kind):
    stream = stream_of(tmp_path, kind=kind, horizontal_flip=True, label_dropout=0.5)
    whole = stream.batch(3)
    parts = [stream.batch(3, part=slice(start, start + 4)) for start in range(0, 16, 4)]
    for split in (parts, list(whole.chunks(4)), list(whole.chunks(3))):
        joined = zip(*(tensors(part) for part in split), strict=True)
        for pieces, expected in zip(joined, tensors(whole), strict=True):
            assert torch.equal(torch.cat(pieces), expected)


@OBJECTIVES
def test_batch_depends_on_its_number_and_the_seed_alone(tmp_path, kind):
    forwards, backwards = stream_of(tmp_path, kind=kind), stream_of(tmp_path, kind=kind)
    ahead = [forwards.batch(step) for step in range(20)]
    behind = [backwards.batch(step) for step in reversed(range(20))][::-1]
    for a, b in zip(ahead, behind, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))
    other = stream_of(tmp_path, kind=kind, seed=1).batch(0)
    for drawn, elsewhere, later in zip(ahead[0].draws, other.draws, ahead[1].draws, strict=True):
        assert not torch.equal(drawn, elsewhere)
        assert not torch.equal(drawn, later)


def test_every_epoch_shows_each_image_once(tmp_path):
    stream = stream_of(tmp_path, batch_size=50)
    images = torch.cat([stream.batch(step).images for step in range(12)])
    for epoch in range(5):
        shown = {i.numpy().tobytes() for i in images[epoch * 120 : (epoch + 1) * 120]}
        assert len(shown) == 120


def test_share_of_hidden_labels_is_the_label_dropout(tmp_path):
    def hidden(label_dropout):
        stream = stream_of(tmp_path, batch_size=1_000, label_dropout=label_dropout)
        return float((stream.batch(0).labels == 3).float().mean())

    assert hidden(0.0) == 0
    assert hidden(1.0) == 1
    assert hidden(0.2) == pytest.approx(0.2, abs=0.05)


def test_validation_shows_every_image_once_with_its_label_and_the_same_noise(tmp_path):
    trainee, source = trainee_of(tmp_path)
    large = source.take(torch.arange(600).remainder(120).numpy())
    first, second = (list(validation_batches(large, 0, trainee)) for _ in range(2))
    assert torch.equal(torch.cat([b.labels for b in first]), torch.from_numpy(large.labels))
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))
    assert not torch.equal(first[0].draws[1], first[1].draws[1])


def test_batch_moves_with_all_of_its_draws(tmp_path):
    batch = stream_of(tmp_path).batch(0)
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}
