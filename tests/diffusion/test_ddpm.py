import pytest
import torch
from diffusers import DDPMScheduler

from factory.diffusion.ddpm import DdpmPipeline, new_chain, new_pipeline
from factory.diffusion.pixel import RawNetwork
from factory.seeds import seeded, stream
from factory.spec import DenoiserShape

X = torch.randn((3, 1, 8, 8), generator=stream(0))
T = torch.tensor([0, 5, 9])
LABELS = torch.tensor([0, 1, 2])


def made(class_names, chain):
    shape = DenoiserShape(block_out_channels=(16, 32), layers_per_block=1, patch_size=2)
    with seeded(0):
        return new_pipeline(
            shape,
            chain,
            name="tiny",
            class_names=class_names,
            image_size=8,
            channels=1,
            label_dropout=0.1,
            trained_on=None,
        )


def test_linear_chain_is_that_of_the_paper():
    betas = new_chain(400, "linear").betas
    assert len(betas) == 400
    assert float(betas[0]) == pytest.approx(1e-4)
    assert float(betas[-1]) == pytest.approx(0.02)
    assert torch.allclose(betas.diff(), betas.diff().mean(), atol=1e-6)


def test_cosine_chain_is_that_of_improved_ddpm():
    # Nichol and Dhariwal 2021, Eq. 17, with s = 0.008, and beta at most 0.999.
    t = torch.arange(1001, dtype=torch.float64) / 1000
    f = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
    kept = new_chain(1000, "cosine").alphas_cumprod.double()
    assert torch.allclose(kept[:-1], (f / f[0])[1:-1], rtol=1e-3)


@pytest.mark.parametrize(("class_names", "labels"), [(("b", "a"), LABELS), ((), None)])
def test_saved_model_reloads_with_its_chain_names_and_outputs(tmp_path, class_names, labels):
    pipeline = made(class_names, new_chain(10, "cosine"))
    pipeline.save_pretrained(tmp_path)
    again = DdpmPipeline.from_pretrained(tmp_path)
    assert list(again.config["id2label"].values()) == list(class_names)
    assert isinstance(again.scheduler, DDPMScheduler)
    assert torch.equal(again.scheduler.betas, pipeline.scheduler.betas)
    assert again.scheduler.config["prediction_type"] == "epsilon"
    assert not again.scheduler.config["clip_sample"]
    with torch.no_grad():
        outputs = [RawNetwork(p.unet.eval(), 2)(X, T, labels) for p in (pipeline, again)]
    assert torch.equal(*outputs)
    assert outputs[0].shape == X.shape


def test_network_has_a_null_class_beside_its_classes_and_none_without():
    assert made(("b", "a"), new_chain(10, "linear")).unet.config["num_class_embeds"] == 3
    assert made((), new_chain(10, "linear")).unet.config["num_class_embeds"] is None
