import json

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from factory.diffusion.text_model import (
    Autoencoding,
    Encoded,
    Noised,
    TextDenoiser,
    autoencoder_loss,
    denoising_loss,
    new_autoencoder,
    new_text_pipeline,
    new_tokenizer,
    standardize_latents,
    tokenize,
)
from factory.seeds import seeded, stream
from factory.spec import DenoiserShape

WORDS = ("a", "dark", "photo", "sneaker", "sneakers", "t-shirt", "ankle")
SHAPE = DenoiserShape(block_out_channels=(8, 16), layers_per_block=1, patch_size=1)


def tiny_autoencoder(seed=0):
    with seeded(seed):
        return new_autoencoder(SHAPE, channels=3, latent_channels=4, image_size=8).eval()


def tiny_pipeline(*, attention_levels=(1,)):
    shape = SHAPE.model_copy(update={"attention_levels": attention_levels})
    with seeded(0):
        return new_text_pipeline(
            shape,
            tiny_autoencoder(),
            new_tokenizer(WORDS, max_tokens=12),
            latent_side=4,
            text_width=32,
            text_layers=1,
        )


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=stream(seed)) * 2 - 1


def normal(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed))


def test_each_word_is_one_token_and_other_text_is_spelled(tmp_path):
    new_tokenizer(WORDS, max_tokens=12).save_pretrained(tmp_path)
    tokenizer = type(new_tokenizer((), max_tokens=12)).from_pretrained(tmp_path)
    for word in set(WORDS) - {"t-shirt"}:
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    assert tokenizer.tokenize("t-shirt") == ["t</w>", "-</w>", "shirt</w>"]
    for text in ("zebra", "Ünïcode 漢字", "boot!", "<bag>"):
        places = tokenizer(text).input_ids[1:-1]
        assert tokenizer.unk_token_id not in places
        assert tokenizer.decode(places).replace(" ", "") == text.lower().replace(" ", "")


def test_tokens_are_the_same_whatever_order_the_words_come_in():
    for words in (WORDS, WORDS[::-1]):
        tokenizer = new_tokenizer(words, max_tokens=12)
        assert tokenizer.tokenize("sneakers ankle") == ["sneakers</w>", "ankle</w>"]


def test_texts_are_padded_and_cut_to_one_length():
    tokenizer = new_tokenizer(WORDS, max_tokens=6)
    tokens = tokenize(tokenizer, ["", "a photo", "a dark photo a dark photo"])
    assert tokens.shape == (3, 6)
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    assert (tokens[:, -1] == tokenizer.eos_token_id).all()


def test_standardized_latents_have_unit_deviation_and_decode_to_the_same():
    images, noise = uniform(64, 3, 8, 8), normal(64, 4, 4, 4)
    vae = tiny_autoencoder()
    # Channels that mean little, much, and far from zero.
    with torch.no_grad():
        vae.quant_conv.weight *= torch.tensor([0.01, 1, 30, 1] * 2).view(-1, 1, 1, 1)
        vae.quant_conv.bias[:4] += torch.tensor([0.0, 3, 0, -2])
        before = Autoencoding(vae)(images, noise).reconstruction
        standardize_latents(vae, images)
        after = Autoencoding(vae)(images, noise).reconstruction
        encoded = vae.encode(images).latent_dist
    drawn = encoded.mean + encoded.std * normal(64, 4, 4, 4, seed=1)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoded.mean.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(drawn.std(dim=(0, 2, 3)), torch.ones(4), rtol=0, atol=0.1)
    assert vae.config["scaling_factor"] == 1


def test_autoencoder_loss_is_its_formula():
    images = torch.zeros(2, 3, 8, 8)
    encoded = Encoded(torch.full_like(images, 0.25), torch.tensor([64.0, 192.0]))
    loss = autoencoder_loss(images, encoded, latent_size=64, kl_weight=0.5)
    assert float(loss) == pytest.approx(0.25 + 0.5 * 2)


def test_divergence_and_gradients_reach_the_encoder():
    vae = tiny_autoencoder()
    images = uniform(2, 3, 8, 8)
    encoded = Autoencoding(vae)(images, normal(2, 4, 4, 4))
    autoencoder_loss(images, encoded, latent_size=64, kl_weight=1e-3).backward()
    assert all(weight.grad is not None for weight in vae.parameters())
    assert encoded.divergence.min() > 0


class Exact(torch.nn.Module):
    """Knows the clean latents, and so the velocity of every noisy one."""

    def __init__(self, chain, clean):
        super().__init__()
        self.chain, self.clean = chain, clean

    def forward(self, latents, t, tokens):
        signal = self.chain.alphas_cumprod[t].view(-1, 1, 1, 1)
        noise = (latents - signal.sqrt() * self.clean) / (1 - signal).sqrt()
        return signal.sqrt() * noise - (1 - signal).sqrt() * self.clean


def test_exact_velocity_has_no_loss_and_zero_has_loss_one():
    chain = DDPMScheduler.from_config(tiny_pipeline().scheduler.config)
    clean, noise = normal(400, 4, 4, 4), normal(400, 4, 4, 4, seed=1)
    t = torch.randint(1000, (400,), generator=stream(2))
    noised = Noised(clean, t, noise, torch.zeros(400, 12, dtype=torch.int64))
    assert float(denoising_loss(Exact(chain, clean), chain, noised)) < 1e-6
    # The velocity has unit variance wherever latents and noise have.
    nothing = Exact(chain, clean)
    nothing.forward = lambda latents, t, tokens: torch.zeros_like(latents)
    assert float(denoising_loss(nothing, chain, noised)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("attention_levels", [(), (1,), (0, 1)])
def test_network_reads_the_text(attention_levels):
    pipeline = tiny_pipeline(attention_levels=attention_levels)
    network = TextDenoiser(pipeline.text_encoder, pipeline.unet).eval()
    tokens = tokenize(pipeline.tokenizer, ["a sneaker", "a dark sneaker"])
    latents = normal(1, 4, 4, 4).expand(2, -1, -1, -1)
    with torch.no_grad():
        one, other = network(latents, torch.tensor([500, 500]), tokens)
    assert (one - other).abs().max() > 1e-5


def test_saved_pipeline_is_diffusers_own_and_draws(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    images = loaded(
        ["a sneaker", "an ankle"],
        num_inference_steps=2,
        generator=[stream(0), stream(1)],
        output_type="pt",
    ).images
    assert images.shape == (2, 3, 8, 8)
    assert images.isfinite().all()
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"][1] == "AutoencoderKL"


def test_autoencoder_learns_one_image():
    vae = tiny_autoencoder().train()
    network, images = Autoencoding(vae), uniform(1, 3, 8, 8).expand(8, -1, -1, -1)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        encoded = network(images, normal(8, 4, 4, 4, seed=step))
        loss = autoencoder_loss(images, encoded, latent_size=64, kl_weight=1e-3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
