import pytest
import torch

from factory.diffusion.edm import SIGMA_DATA, EdmPipeline, denoise, new_pipeline
from factory.diffusion.pixel import RawNetwork
from factory.seeds import seeded
from factory.spec import DenoiserShape

LABELS = torch.zeros(3, dtype=torch.int64)
X = torch.randn((3, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def made(seed=0, class_names=("b", "a"), **fields):
    shape = DenoiserShape(block_out_channels=(16, 32), layers_per_block=1, **fields)
    with seeded(seed):
        return new_pipeline(
            shape,
            name="tiny",
            class_names=class_names,
            image_size=8,
            channels=1,
            label_dropout=0.1,
            trained_on=None,
        )


def test_denoised_image_of_no_noise_is_the_image_itself():
    sigma = torch.full((3,), 1e-4)
    assert torch.allclose(denoise(lambda x, *_: 9 * x, X, sigma, LABELS), X, atol=1e-2)


def test_denoised_image_of_endless_noise_is_what_the_network_says():
    sigma = torch.full((3,), 1e5)
    said = torch.ones_like(X)
    denoised = denoise(lambda *_: said, X * 1e5, sigma, LABELS)
    assert torch.allclose(denoised, SIGMA_DATA * said, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_network_sees_unit_variance_at_every_level(sigma):
    seen = []
    generator = torch.Generator().manual_seed(0)
    clean = SIGMA_DATA * torch.randn((3, 1, 64, 64), generator=generator)
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)

    def network(x, c_noise, labels):
        seen.append((x.std().item(), c_noise[0].item()))
        return x

    denoise(network, noisy, torch.full((3,), sigma), LABELS)
    assert seen[0][0] == pytest.approx(1, abs=0.03)
    assert abs(seen[0][1]) < 2


def test_each_image_has_a_level_and_a_label_of_its_own():
    pipeline = made(patch_size=2)
    network = RawNetwork(pipeline.unet.eval(), 2)
    sigma, labels = torch.tensor([0.1, 1.0, 10.0]), torch.tensor([0, 1, 2])
    with torch.no_grad():
        together = denoise(network, X, sigma, labels)
        for index in range(3):
            one = slice(index, index + 1)
            alone = denoise(network, X[one], sigma[one], labels[one])
            assert torch.allclose(together[one], alone, atol=1e-5)
        assert not torch.allclose(together, denoise(network, X, sigma, labels.flip(0)))


def test_saved_model_reloads_with_equal_weights_names_and_images(tmp_path):
    pipeline = made(patch_size=2)
    pipeline.save_pretrained(tmp_path)
    again = EdmPipeline.from_pretrained(tmp_path)
    names = again.config["id2label"]
    assert [names["0"], names["1"]] == ["b", "a"]
    with torch.no_grad():
        images = [
            denoise(RawNetwork(p.unet.eval(), p.config["patch_size"]), X, torch.ones(3), LABELS)
            for p in (pipeline, again)
        ]
    assert torch.equal(*images)


def test_image_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"image_size is 8; .* multiple of 16"):
        made(patch_size=8)


def test_unconditional_model_takes_no_labels_and_reloads(tmp_path):
    pipeline = made(class_names=(), patch_size=2)
    pipeline.save_pretrained(tmp_path)
    again = EdmPipeline.from_pretrained(tmp_path)
    assert again.config["id2label"] == {}
    with torch.no_grad():
        images = [
            denoise(RawNetwork(p.unet.eval(), 2), X, torch.ones(3), None) for p in (pipeline, again)
        ]
    assert torch.equal(*images)
