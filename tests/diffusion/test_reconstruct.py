"""Reconstruction of the embedded source's images, through both kinds of sampler."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from factory.diffusion import ddpm, edm
from factory.diffusion.ddpm_sampler import DdpmSampler
from factory.diffusion.edm_sampler import EdmSampler
from factory.diffusion.reconstruct import Originals
from factory.models import open_model
from factory.plan import Candidate
from factory.seeds import hash_seed, seeded, stream
from factory.sources.open import open_source
from factory.spec import (
    DdpmGenerator,
    DenoiserShape,
    EdmGenerator,
    Reconstruction,
    SourceSpec,
)

STEPS = 8
SOURCE = SourceSpec(num_images=40)
KINDS = [("edm", "heun"), ("edm", "euler"), ("ddpm", "ddpm"), ("ddpm", "ddim")]


@pytest.fixture(scope="module")
def source():
    return open_source(SOURCE)


@pytest.fixture(scope="module")
def models(tmp_path_factory, source):
    """Folders of random models of the source's images, by kind."""
    shape = DenoiserShape(block_out_channels=(16, 32), layers_per_block=1, patch_size=2)
    facts = {
        "name": "tiny",
        "class_names": source.class_names,
        "image_size": 28,
        "channels": 1,
        "label_dropout": 0.0,
        "trained_on": None,
    }
    folder = tmp_path_factory.mktemp("models")
    with seeded(0):
        edm.new_pipeline(shape, **facts).save_pretrained(folder / "edm")
        chain = ddpm.new_chain(40, "linear", beta_end=0.2)
        ddpm.new_pipeline(shape, chain, **facts).save_pretrained(folder / "ddpm")
    return {kind: str(folder / kind) for kind in ("edm", "ddpm")}


@pytest.fixture(scope="module")
def load(models):
    """Loads a sampler by kind and scheduler; `t_re` None: one that draws from noise."""

    def sampler(kind, scheduler, t_re=None, model=None):
        start = None if t_re is None else Reconstruction(source=SOURCE, t_re=t_re)
        fields = {"model": model or models[kind], "scheduler": scheduler}
        fields |= {"num_inference_steps": STEPS, "guidance_scale": 1.0}
        if kind == "ddpm":
            generator = DdpmGenerator(kind="ddpm", **fields)
            return DdpmSampler(generator.model, generator, torch.device("cpu"), start)
        return EdmSampler(fields["model"], EdmGenerator(**fields), torch.device("cpu"), start)

    return sampler


def candidates(source, count=10, first=0):
    """Candidates of the source's classes in turn, from number `first` of each."""
    names = source.class_names
    return [
        Candidate(
            key=f"key-{i}",
            shard=0,
            index=i,
            label=i % len(names),
            class_name=names[i % len(names)],
            turn=first + i // len(names),
            seed=hash_seed("reconstruct", i),
        )
        for i in range(count)
    ]


def largest_difference(some, others):
    return np.abs(some.astype(int) - others.astype(int)).max()


def distances_by_t_re(load, batch):
    """Root mean square distance to the source images, in levels of uint8, by rising t_re."""
    originals = load(0)(batch).images.astype(float)
    images = [load(t_re)(batch).images for t_re in (0, 2, 5, STEPS)]
    return [float(np.sqrt(np.square(one - originals).mean())) for one in images]


@pytest.mark.parametrize(("kind", "scheduler"), KINDS)
def test_t_re_0_is_the_source_image_itself(load, source, kind, scheduler):
    drawn = load(kind, scheduler, 0)(candidates(source))
    for image, facts in zip(drawn.images, drawn.facts, strict=True):
        digest, _, index = facts["source_image"].partition(":")
        assert digest == source.digest[:12]
        np.testing.assert_array_equal(image, source.images[int(index)])


@pytest.mark.parametrize(("kind", "scheduler"), KINDS)
def test_the_last_t_re_is_what_is_drawn_from_noise(load, source, kind, scheduler):
    batch = candidates(source)
    from_noise = load(kind, scheduler)(batch).images
    np.testing.assert_array_equal(load(kind, scheduler, STEPS)(batch).images, from_noise)


@pytest.mark.parametrize(("kind", "scheduler"), KINDS)
def test_the_distance_to_the_source_image_grows_with_t_re(load, source, kind, scheduler):
    distances = distances_by_t_re(lambda t_re: load(kind, scheduler, t_re), candidates(source, 20))
    assert distances == sorted(distances)
    assert distances[-1] > 20


def test_the_embedded_model_makes_unlike_images_only_from_noisy_ones(load, source):
    model = open_model(EdmGenerator()).path
    distances = distances_by_t_re(
        lambda t_re: load("edm", "euler", t_re, model), candidates(source)
    )
    assert distances == sorted(distances)
    assert distances[1] < 25
    assert distances[-1] > 50


@pytest.mark.parametrize(("kind", "scheduler"), KINDS)
def test_images_of_a_batch_start_each_at_their_own_level(load, source, kind, scheduler):
    batch = candidates(source, 20)
    drawn = load(kind, scheduler, (0, STEPS))(batch)
    levels = [facts["t_re"] for facts in drawn.facts]
    assert len(set(levels)) > 4
    sampler = load(kind, scheduler, (0, STEPS))
    # In another order and with other batch-mates; only last bits may differ.
    backwards = sampler(batch[::-1])
    assert [facts["t_re"] for facts in backwards.facts] == levels[::-1]
    assert largest_difference(backwards.images[::-1], drawn.images) <= 1
    some = sampler(batch[3:5])
    assert largest_difference(some.images, drawn.images[3:5]) <= 1


def test_t_re_is_drawn_evenly_with_both_ends_from_an_image_s_own_stream(source):
    originals = Originals(source, (2, 5))
    batch = candidates(source, 2000)
    levels = [originals.original(one, stream(one.seed)).t_re for one in batch]
    counts = np.bincount(levels, minlength=6)
    assert counts[:2].tolist() == [0, 0]
    # 500 each; five standard deviations.
    assert np.abs(counts[2:] - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_a_class_s_images_come_in_their_order_again_and_again(source):
    originals = Originals(source, 0)
    per_class = source.class_counts[source.class_names[0]]
    seen = []
    for one in candidates(source, 2 * len(source)):
        original = originals.original(one, stream(one.seed))
        index = int(str(original.facts["source_image"]).partition(":")[2])
        assert source.class_names[source.labels[index]] == one.class_name
        assert original.facts["source_pass"] == one.turn // per_class
        np.testing.assert_array_equal(original.image, source.images[index])
        seen.append(index)
    first, second = seen[: len(source)], seen[len(source) :]
    assert sorted(first) == list(range(len(source)))
    assert first == second
    assert [i for i in first if source.labels[i] == 0] == sorted(np.flatnonzero(source.labels == 0))


def test_other_noise_makes_another_image_of_the_same_source_image(load, source):
    batch = candidates(source)
    again = [
        replace(one, seed=hash_seed("again", one.index)) for one in candidates(source, first=4)
    ]
    sampler = load("edm", "euler", 4)
    first, second = sampler(batch), sampler(again)
    assert [f["source_image"] for f in first.facts] == [f["source_image"] for f in second.facts]
    assert [f["source_pass"] for f in second.facts] == [1] * 10
    assert (
        min(largest_difference(*pair) for pair in zip(first.images, second.images, strict=True)) > 1
    )
