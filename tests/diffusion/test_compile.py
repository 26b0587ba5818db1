"""Pixel models through torch.compile, on the CPU: minutes of C++ compilation for a tiny one."""

import numpy as np
import pytest
import torch

from factory.diffusion.edm import new_pipeline
from factory.diffusion.edm_sampler import EdmSampler
from factory.records import dataset_digest
from factory.seeds import seeded
from factory.spec import DenoiserShape, EdmGenerator
from tests.conftest import CLASS_NAMES
from tests.datasets import PLAIN, make_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("one_thread")]

NAMES = ("cat", "dog", "T-shirt/top", "dog")
SEEDS = (11, 12, 13, 14)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of few kernels: they compile one by one."""
    folder = tmp_path_factory.mktemp("compile")
    with seeded(0):
        pipeline = new_pipeline(
            DenoiserShape(block_out_channels=(32,), layers_per_block=1),
            name="tiny",
            class_names=CLASS_NAMES,
            image_size=8,
            channels=3,
            label_dropout=0.1,
            trained_on=None,
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def load(model):
    """Loads a sampler with the fields given."""

    def sampler(**fields):
        generator = EdmGenerator(model=str(model), **{**PLAIN, **fields})
        return EdmSampler(str(model), generator, torch.device("cpu"))

    return sampler


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Names a folder without compiled code as inductor's."""
    folders = iter(range(9))

    def change():
        torch.compiler.reset()
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / f"inductor-{next(folders)}"))

    return change


@pytest.mark.parametrize("fields", [{}, {"guidance_scale": 2.0, "guidance_interval": (0.1, 5.0)}])
def test_compiled_and_plain_network_draw_the_same_images(load, fields):
    # Fused kernels round elsewhere: at most one step of uint8.
    plain = load(**fields).draw(NAMES, SEEDS)
    compiled = load(**fields, compile=True).draw(NAMES, SEEDS)
    assert plain.std() > 5
    assert np.abs(compiled.astype(int) - plain).max() <= 1


def test_nothing_is_compiled_after_the_first_batch(load):
    sampler = load(compile=True, guidance_scale=2.0, guidance_interval=(0.1, 5.0))
    sampler.draw(NAMES, SEEDS)
    with torch.compiler.set_stance("fail_on_recompile"):
        sampler.draw(NAMES, SEEDS[::-1])


def test_compiled_shards_are_the_same_from_an_empty_and_a_filled_cache(
    tmp_path, model, empty_cache
):
    def digest(root):
        made = make_dataset(tmp_path / root, model, generator={"compile": True})
        return dataset_digest(made.inventory.records)

    empty_cache()
    digests = [digest("empty"), digest("filled")]
    empty_cache()
    assert {*digests, digest("empty again")} == {digests[0]}
