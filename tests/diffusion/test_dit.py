"""Drawing from a DiT: against DiTPipeline itself, and against networks that are exactly known."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
)

from factory.diffusion.dit import DitSampler, guide, sample_latents
from factory.images import to_uint8
from factory.plan import Candidate
from factory.resolve import resolve
from factory.seeds import seeded, stream
from factory.spec import GenerateSpec

SEEDS = (11, 12, 13)
MAPPING = {
    "truck": [{"name": "tow truck"}, {"name": "class 3, third", "index": 3}],
    "ship": [{"name": "class 1"}],
}
CPU = torch.device("cpu")


def new_transformer(num_classes, *, learned_variance=True):
    channels = 4
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=channels,
        out_channels=2 * channels if learned_variance else channels,
        num_layers=1,
        sample_size=4,
        patch_size=2,
        norm_num_groups=4,
        num_embeds_ada_norm=num_classes,
    )


def save_dit(folder, transformer, scheduler=None):
    """Save a random DiT of 8 px RGB images, with class names, as diffusers' checkpoints have it."""
    with seeded(1):
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=8,
        )
    chain = scheduler or DDIMScheduler(clip_sample=False)
    DiTPipeline(transformer, vae, chain).save_pretrained(folder)
    # diffusers reads the names from here, and does not write them.
    path = folder / "model_index.json"
    names = [f"class {label}, third" for label in range(transformer.config.num_embeds_ada_norm)]
    names[2] = "tow truck, wrecker"
    index = json.loads(path.read_text()) | {"id2label": dict(enumerate(names))}
    path.write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five classes, and 1,000 classes of which the first five and the null class are the same."""
    root = tmp_path_factory.mktemp("dit")
    with seeded(0):
        five = new_transformer(5)
        thousand = new_transformer(1000)
    weights = five.state_dict()
    for name in [name for name in weights if name.endswith("embedding_table.weight")]:
        rows = thousand.state_dict()[name].clone()
        rows[:5], rows[1000] = weights[name][:5], weights[name][5]
        weights[name] = rows
    thousand.load_state_dict(weights)
    return {
        "five": save_dit(root / "five", five),
        "thousand": save_dit(root / "thousand", thousand),
    }


def load(folder, **generator):
    settings = {"num_inference_steps": 4, "mapping": MAPPING, **generator}
    spec = {"generator": {"kind": "dit", "model": str(folder), **settings}, "num_images": 6}
    return DitSampler(resolve(GenerateSpec.model_validate(spec)), CPU)


def candidate(class_name, turn, seed):
    return Candidate(
        key="",
        shard=0,
        index=0,
        label=list(MAPPING).index(class_name),
        class_name=class_name,
        turn=turn,
        seed=seed,
    )


def pipeline_images(folder, labels, *, scheduler, scale, **own):
    """What DiTPipeline itself draws from the same streams, in [-1, 1]."""
    pipeline = DiTPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **own)
    generator = [stream(seed) for seed in SEEDS]
    drawn = pipeline(
        list(labels), scale, generator, num_inference_steps=4, output_type="pt", return_dict=False
    )
    return drawn[0] * 2 - 1


@pytest.mark.parametrize("model", ["five", "thousand"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("ddim", DDIMScheduler), ("dpm_solver_multistep", DPMSolverMultistepScheduler)],
)
def test_images_are_those_of_the_pipeline(folders, model, scale, name, scheduler):
    labels = (2, 4, 1)
    drawn = load(folders[model], scheduler=name, guidance_scale=scale).draw(labels, SEEDS)
    # The pipeline knows 1,000 classes only; of five it would miss the null class.
    expected = pipeline_images(folders["thousand"], labels, scheduler=scheduler, scale=scale)
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(drawn.clamp(-1, 1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_multistep"])
def test_candidates_are_drawn_of_the_mapped_classes_in_turn(folders, name):
    sampler = load(folders["five"], scheduler=name)
    batch = [candidate("truck", 6, 11), candidate("ship", 6, 12), candidate("truck", 7, 13)]
    drawn = sampler(batch)
    assert drawn.images.dtype == np.uint8
    assert drawn.images.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(drawn.images, to_uint8(sampler.draw([2, 1, 3], SEEDS)))
    for other in ([3, 1, 3], [2, 0, 3], [2, 1, 2]):
        assert (drawn.images != to_uint8(sampler.draw(other, SEEDS))).any()
    assert drawn.facts == (
        {"fine_class": "tow truck, wrecker"},
        {"fine_class": "class 1, third"},
        {"fine_class": "class 3, third"},
    )
    assert drawn.rejected == (None, None, None)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_multistep"])
def test_noise_of_an_image_is_its_own_whatever_its_batch_mates(folders, name):
    sampler = load(folders["five"], scheduler=name)
    together = sampler.draw([0, 1, 2], [11, 12, 13])
    apart = sampler.draw([4, 2, 0], [99, 13, 11])
    torch.testing.assert_close(apart[1:], together[[2, 0]], atol=1e-4, rtol=0)
    assert float((together[0] - sampler.draw([0], [12])[0]).abs().max()) > 0.05


def test_guidance_of_scale_0_draws_the_null_class(folders):
    unguided = load(folders["five"], guidance_scale=0.0).draw([0, 1, 2], SEEDS)
    null = load(folders["five"], guidance_scale=1.0).draw([5, 5, 5], SEEDS)
    torch.testing.assert_close(unguided, null, atol=1e-4, rtol=0)


def known_network(x, t, labels):
    """The noise is the label; the variance +1 for classes, -1 for the null class, 7."""
    noise = labels.float().view(-1, 1, 1, 1).expand_as(x)
    variance = torch.where(labels == 7, -1.0, 1.0).view(-1, 1, 1, 1).expand_as(x)
    return torch.cat([noise, variance], dim=1)


def test_guidance_moves_the_noise_and_leaves_the_variance():
    sizes = []

    def counted(x, t, labels):
        sizes.append(len(x))
        return known_network(x, t, labels)

    x, t, labels = torch.zeros(2, 4, 2, 2), torch.tensor([9, 9]), torch.tensor([1, 3])
    plain = guide(counted, null_label=7, scale=1)(x, t, labels)
    guided = guide(counted, null_label=7, scale=1.5)(x, t, labels)
    assert sizes == [2, 4]
    assert plain[:, 0, 0, 0].tolist() == [1, 3]
    assert guided[:, :4].flatten(1).unique(dim=1).flatten().tolist() == [
        7 + 1.5 * (1 - 7),
        7 + 1.5 * (3 - 7),
    ]
    assert guided[:, 4:].unique().tolist() == [1]


def steps_of(network, variance_type):
    scheduler = DDPMScheduler(clip_sample=False, variance_type=variance_type)
    scheduler.set_timesteps(5)
    noise = torch.stack([torch.randn((4, 2, 2), generator=stream(seed)) for seed in SEEDS])
    streams = [stream(seed + 100) for seed in SEEDS]
    return sample_latents(network, scheduler, noise, torch.tensor([0, 1, 2]), streams)


@pytest.mark.parametrize(("learned", "fixed"), [(1.0, "fixed_large"), (-1.0, "fixed_small")])
def test_learned_variance_at_its_ends_is_a_fixed_one(learned, fixed):
    def network(x, t, labels):
        return torch.cat([0.1 * x, torch.full_like(x, learned)], dim=1)

    drawn = steps_of(network, "learned_range")
    torch.testing.assert_close(drawn, steps_of(network, fixed))
    other = {"fixed_large": "fixed_small", "fixed_small": "fixed_large"}[fixed]
    assert float((drawn - steps_of(network, other)).abs().max()) > 0.01


def test_learned_variance_reaches_ddpm_and_no_other_scheduler(tmp_path):
    folders = []
    for learned in (1.0, -1.0):
        with seeded(0):
            transformer = new_transformer(5)
        is_variance = torch.arange(transformer.proj_out_2.out_features) % 8 >= 4
        with torch.no_grad():
            transformer.proj_out_2.weight[is_variance] = 0
            transformer.proj_out_2.bias[is_variance] = learned
        folders.append(save_dit(tmp_path / str(learned), transformer))

    def gap(name):
        large, small = (load(folder, scheduler=name).draw([0, 1, 2], SEEDS) for folder in folders)
        return float((large - small).abs().max())

    assert gap("ddpm") > 0.01
    assert gap("ddim") == gap("dpm_solver_multistep") == 0


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """A model of 1,000 classes without learned variance, saved with a scheduler that knows no
    clipping, its transformer called as the published checkpoints call it."""
    with seeded(0):
        transformer = new_transformer(1000, learned_variance=False)
    root = tmp_path_factory.mktemp("older")
    folder = save_dit(root / "dit", transformer, DPMSolverMultistepScheduler())
    for name in ("model_index.json", "transformer/config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("DiTTransformer2DModel", "Transformer2DModel"))
    return folder


def test_latents_are_not_clipped_by_a_scheduler_that_the_model_was_not_saved_with(older):
    drawn = load(older, scheduler="ddim").draw((0, 1, 2), SEEDS)
    expected = pipeline_images(
        older, (0, 1, 2), scheduler=DDIMScheduler, scale=4.0, clip_sample=False
    )
    torch.testing.assert_close(drawn.clamp(-1, 1), expected, atol=1e-4, rtol=0)


def test_model_without_learned_variance_draws_by_ddpm(older):
    sampler = load(older, scheduler="ddpm")
    drawn, again = sampler.draw([0, 1, 2], SEEDS), sampler.draw([0, 1, 2], SEEDS)
    assert torch.equal(drawn, again)
    assert bool(drawn.isfinite().all())


def test_half_precision_draws_nearly_the_same(folders):
    exact = load(folders["five"]).draw([0, 1, 2], SEEDS)
    rounded = load(folders["five"], dtype="bfloat16").draw([0, 1, 2], SEEDS)
    assert rounded.dtype == torch.bfloat16
    assert 0 < float((rounded.float() - exact).abs().mean()) < 0.05 * float(exact.std())


def test_nan_is_an_error(tmp_path):
    with seeded(0):
        transformer = new_transformer(5)
    with torch.no_grad():
        transformer.proj_out_2.bias[0] = float("nan")
    sampler = load(save_dit(tmp_path / "broken", transformer))
    with pytest.raises(ValueError, match="NaN"):
        sampler([candidate("ship", 0, 11)])
