"""Text-to-image sampling with tiny pipelines that were saved and loaded again."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForText2Image,
    IPNDMScheduler,
    StableDiffusionPipeline,
)
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from factory.adapters import Adapter
from factory.diffusion.text_to_image import TextSampler
from factory.images import to_float
from factory.inputs import open_start
from factory.plan import Candidate
from factory.prompts import resolve_prompts
from factory.records import Device
from factory.resolve import Resolved, resolve
from factory.seeds import seeded, stream
from factory.spec import GenerateSpec, Reconstruction, SpecError, TextScheduler
from factory.text_schedulers import steps_of
from tests.tiny_text_to_image import save_tiny_pipeline

CPU = torch.device("cpu")
STEPS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "plain": save_tiny_pipeline(root / "plain", scheduler="ddim"),
        "xl": save_tiny_pipeline(root / "xl", kind="xl"),
        "lcm": save_tiny_pipeline(root / "lcm", kind="lcm", scheduler="lcm"),
        "flags": save_tiny_pipeline(
            root / "flags", scheduler="ddim", with_safety_checker=True, flags="everything"
        ),
        "checks": save_tiny_pipeline(root / "checks", scheduler="ddim", with_safety_checker=True),
    }


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> dict[str, Any]:
    """A reconstruction from three real images of each class, half of the way."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for class_name in ("Bag", "Coat"):
        (root / class_name).mkdir()
        for number in range(3):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / class_name / f"{number}.png")
    return {"source": {"path": str(root)}, "strength": 0.5}


def resolved(
    folder: Path,
    *,
    reconstruct: dict | None = None,
    class_names: tuple[str, ...] = ("Bag", "Coat"),
    **generator: Any,
) -> Resolved:
    given = {"kind": "text_to_image", "model": str(folder), "num_inference_steps": STEPS}
    spec = {"generator": given | generator, "class_names": class_names, "threads": 1}
    return resolve(GenerateSpec.model_validate(spec | {"reconstruct": reconstruct}))


def sampler(folder: Path, **kwargs: Any) -> TextSampler:
    return TextSampler(resolved(folder, **kwargs), CPU)


def batch(*seeds: int, class_name: str = "Bag", turn: int = 0) -> list[Candidate]:
    return [
        Candidate(
            key=f"bag-00000-{index:06d}",
            shard=0,
            index=index,
            label=0,
            class_name=class_name,
            turn=turn + index,
            seed=seed,
        )
        for index, seed in enumerate(seeds)
    ]


def by_hand(pipeline: Any, seeds: tuple[int, ...], **kwargs: Any) -> np.ndarray:
    """What diffusers draws for these seeds, in the one way that its documentation shows."""
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        ["a photo of a Bag"] * len(seeds),
        num_inference_steps=STEPS,
        generator=[stream(seed) for seed in seeds],
        output_type="np",
        **kwargs,
    ).images
    return (images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("scheduler", get_args(TextScheduler))
def test_image_depends_on_its_own_seed_alone(folders, scheduler):
    draw = sampler(folders["plain"], scheduler=scheduler)
    with seeded(1):
        one = draw(batch(1, 2, 3)).images
    with seeded(2):
        other = draw(batch(1, 5, 6)).images
    assert np.array_equal(one[0], other[0])
    assert not np.array_equal(one[1], other[1])
    assert not np.array_equal(one[2], other[2])


@pytest.mark.parametrize("scheduler", ["pndm", "heun", "kdpm2_ancestral", "unipc", "lcm"])
def test_reconstruction_depends_on_its_own_seed_alone(folders, start, scheduler):
    draw = sampler(folders["plain"], scheduler=scheduler, reconstruct=start)
    with seeded(1):
        one = draw(batch(1, 2)).images
    with seeded(2):
        other = draw(batch(1, 5)).images
    assert np.array_equal(one[0], other[0])
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("kind", ["plain", "xl", "lcm"])
def test_images_are_those_of_the_pipeline(folders, kind):
    expected = by_hand(AutoPipelineForText2Image.from_pretrained(folders[kind]), (1, 2))
    drawn = sampler(folders[kind], guidance_scale=_own_guidance(folders[kind]))(batch(1, 2))
    assert drawn.images.dtype == np.uint8
    assert drawn.images.shape == (2, 16, 16, 3)
    assert np.array_equal(drawn.images, expected)
    assert drawn.rejected == (None, None)


def _own_guidance(folder: Path) -> float:
    return {"plain": 7.5, "xl": 5.0, "lcm": 8.5}[folder.name]


def test_turbo_draws_in_one_step_without_guidance(folders):
    draw = sampler(
        folders["xl"], scheduler="euler_ancestral", num_inference_steps=1, guidance_scale=0.0
    )
    images = draw(batch(1, 2)).images
    assert np.array_equal(images, draw(batch(1, 2)).images)
    assert len(np.unique(images)) > 100


def test_class_negative_prompt_guidance_and_dtype_change_the_image(folders):
    looks = [
        {},
        {"negative_prompt": "cat"},
        {"guidance_scale": 0.0},
        {"dtype": "bfloat16"},
        {"height": 16, "width": 24},
    ]
    images = [sampler(folders["plain"], **look)(batch(1)).images for look in looks]
    images.append(sampler(folders["plain"])(batch(1, class_name="Coat")).images)
    assert len({image.tobytes() for image in images}) == len(images)
    assert images[4].shape == (1, 16, 24, 3)


def test_facts_hold_the_drawn_prompts(folders):
    prompts = {"templates": ["a {size} {class_name}"], "words": {"size": ["big", "small"]}}
    draw = sampler(folders["plain"], prompts=prompts, negative_prompt="blurry")
    facts = draw(batch(*range(20))).facts
    assert {fact["prompt"] for fact in facts} == {"a big Bag", "a small Bag"}
    assert {fact["negative_prompt"] for fact in facts} == {"blurry"}
    assert {tuple(fact) for fact in facts} == {("prompt", "negative_prompt")}


def test_flagged_image_is_rejected(folders):
    assert sampler(folders["flags"])(batch(1, 2)).rejected == ("safety", "safety")


def test_checker_that_flags_nothing_or_is_dropped_leaves_the_images(folders):
    plain = sampler(folders["plain"])(batch(1, 2)).images
    for drawn in (
        sampler(folders["checks"])(batch(1, 2)),
        sampler(folders["flags"], safety_checker=False)(batch(1, 2)),
    ):
        assert drawn.rejected == (None, None)
        assert np.array_equal(drawn.images, plain)


def test_nan_is_an_error(folders, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(folders["plain"])
    with torch.no_grad():
        next(pipeline.unet.parameters()).fill_(torch.nan)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="NaN"):
        sampler(tmp_path)(batch(1))


@pytest.mark.parametrize("kind", ["plain", "xl"])
def test_reconstruction_is_that_of_the_pipeline(folders, start, kind):
    asked = resolved(folders[kind], reconstruct=start, guidance_scale=5.0)
    source = open_start(asked.spec)
    assert source is not None
    # Of three images the third, and then the first again.
    indices = np.flatnonzero(source.labels == source.class_names.index("Bag"))[[2, 0]]
    expected = by_hand(
        AutoPipelineForImage2Image.from_pretrained(folders[kind]),
        (1, 2),
        image=(to_float(source.images[indices]) + 1) / 2,
        strength=0.5,
        guidance_scale=5.0,
    )
    drawn = TextSampler(asked, CPU)(batch(1, 2, turn=2))
    assert np.array_equal(drawn.images, expected)
    assert [fact["source_image"] for fact in drawn.facts] == [
        f"{source.digest[:12]}:{index}" for index in indices
    ]
    assert [fact["source_pass"] for fact in drawn.facts] == [0, 1]
    assert [fact["strength"] for fact in drawn.facts] == [0.5, 0.5]


def test_each_image_starts_where_its_own_strength_says(folders, start):
    asked = resolved(folders["plain"], reconstruct=start | {"strength": (0.25, 1.0)})
    source = open_start(asked.spec)
    assert source is not None
    seeds = tuple(range(12))
    drawn = TextSampler(asked, CPU)(batch(*seeds))
    indices = np.array([int(str(fact["source_image"]).split(":")[1]) for fact in drawn.facts])
    strengths = np.array([fact["strength"] for fact in drawn.facts])
    assert set(strengths) == {0.25, 0.5, 0.75, 1.0}
    pipeline = AutoPipelineForImage2Image.from_pretrained(folders["plain"])
    pipeline.set_progress_bar_config(disable=True)
    for strength in set(strengths):
        chosen = np.flatnonzero(strengths == strength)
        streams = [stream(int(seed)) for seed in chosen]
        for own in streams:
            # The strength is the first number of an image's stream.
            torch.randint(1, 5, (), generator=own)
        images = pipeline(
            ["a photo of a Bag"] * len(chosen),
            image=(to_float(source.images[indices[chosen]]) + 1) / 2,
            strength=strength,
            num_inference_steps=STEPS,
            generator=streams,
            output_type="np",
        ).images
        assert np.array_equal(drawn.images[chosen], (images * 255).round().astype(np.uint8))


def test_grey_images_are_started_from_as_rgb(folders, start, tmp_path):
    (tmp_path / "Bag").mkdir()
    Image.new("L", (16, 16), 128).save(tmp_path / "Bag" / "0.png")
    spec = start | {"source": {"path": str(tmp_path)}}
    asked = resolved(folders["plain"], reconstruct=spec, class_names=["Bag"])
    assert TextSampler(asked, CPU)(batch(1)).images.shape == (1, 16, 16, 3)


def adapter(class_name: str, kind: str) -> Adapter:
    """The record of what lies in the folder of that class."""
    return Adapter(
        fingerprint="0" * 12,
        class_name=class_name,
        kind=kind,  # pyright: ignore[reportArgumentType]
        folder=f"adapters/{class_name}",
        phrase="<it>",
        files={},
        digest=f"{class_name.lower():f<64}",
        base="tiny",
        base_digest="0" * 64,
        trained_on={},
        num_steps=1,
        losses=(),
        seconds=0.0,
        device=Device(kind="cpu", versions={}),
    )


def save_adapter(folder: Path, kind: str, base: Path, *, seed: int) -> None:
    """Something learned, at random, in the format that diffusers loads."""
    folder.mkdir(parents=True)
    with seeded(seed):
        if kind == "textual_inversion":
            vectors = torch.randn(1 + seed, 16)
            save_file({"<it>": vectors}, folder / "learned_embeds.safetensors")
        elif kind == "full":
            save_tiny_pipeline(folder, seed=seed, scheduler="ddim")
        else:
            unet = StableDiffusionPipeline.from_pretrained(base).unet
            layers = ["to_q", "to_k", "to_v", "to_out.0"]
            unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=layers))
            weights = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
            StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=weights)


def adapted(base: Path, root: Path, kind: str) -> Resolved:
    """Bags and coats, each with an adapter of its own."""
    for seed, name in enumerate(("Bag", "Coat"), start=1):
        save_adapter(root / "adapters" / name, kind, base, seed=seed)
    plain = resolved(base, prompts={"templates": ["a {class_name}"]})
    adapters = {name: adapter(name, kind) for name in ("Bag", "Coat")}
    generator = plain.spec.generator.model_copy(update={"adapters": str(root)})
    return replace(
        plain,
        spec=plain.spec.model_copy(update={"generator": generator}),
        adapters=adapters,
        prompts=resolve_prompts(
            generator.prompts, ("Bag", "Coat"), {name: "<it>" for name in adapters}
        ),
    )


@pytest.mark.parametrize("kind", ["textual_inversion", "lora", "full"])
def test_adapters_are_swapped_without_a_trace(folders, tmp_path, kind):
    asked = adapted(folders["plain"], tmp_path, kind)
    warm = TextSampler(asked, CPU)
    assert warm.seconds_swapping == 0
    bag, coat = (warm(batch(1, 2, class_name=name)) for name in ("Bag", "Coat"))
    spent = warm.seconds_swapping
    assert spent > 0
    assert np.array_equal(warm(batch(1, 2, class_name="Coat")).images, coat.images)
    assert warm.seconds_swapping == spent
    assert np.array_equal(warm(batch(1, 2)).images, bag.images)
    assert np.array_equal(
        TextSampler(asked, CPU)(batch(1, 2, class_name="Coat")).images, coat.images
    )
    base = TextSampler(replace(asked, adapters={}), CPU)(batch(1, 2)).images
    assert len({images.tobytes() for images in (bag.images, coat.images, base)}) == 3
    assert [fact["adapter"] for fact in coat.facts] == [asked.adapters["Coat"].digest[:12]] * 2


@pytest.mark.parametrize("kind", ["textual_inversion", "lora", "full"])
def test_swap_that_fails_leaves_no_other_model_to_draw_with(folders, tmp_path, kind):
    asked = adapted(folders["plain"], tmp_path, kind)
    warm = TextSampler(asked, CPU)
    bag = warm(batch(1, 2)).images
    coats = tmp_path / "adapters" / "Coat"
    coats.rename(tmp_path / "coats")
    save_broken(coats, kind)
    for _ in range(2):
        with pytest.raises((SpecError, OSError, ValueError, SafetensorError)):
            warm(batch(1, 2, class_name="Coat"))
    assert np.array_equal(warm(batch(1, 2)).images, bag)


def save_broken(folder: Path, kind: str) -> None:
    """What passes for an adapter until it is loaded."""
    folder.mkdir()
    name = {
        "textual_inversion": "learned_embeds.safetensors",
        "lora": "pytorch_lora_weights.safetensors",
        "full": "model_index.json",
    }[kind]
    (folder / name).write_bytes(b"no weights")


def test_model_with_a_scheduler_that_is_not_offered_is_refused_until_one_is_named(
    folders, tmp_path
):
    pipeline = StableDiffusionPipeline.from_pretrained(folders["plain"])
    pipeline.scheduler = IPNDMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(
        SpecError, match=r"generator\.scheduler: .*IPNDMScheduler.*give one of ddim"
    ):
        sampler(tmp_path)
    named = sampler(tmp_path, scheduler="ddim")(batch(1)).images
    assert np.array_equal(named, sampler(folders["plain"], scheduler="ddim")(batch(1)).images)


def test_model_that_cannot_be_loaded_is_refused_with_what_to_give(folders):
    with pytest.raises(SpecError, match=r"generator\.model: .*fp16.*folder of a text-to-image"):
        sampler(folders["plain"], variant="fp16")


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ({"negative_prompt": "blurry"}, r"generator\.negative_prompt: is 'blurry'"),
        ({"height": 16}, r"height, generator\.width: are \(16, None\)"),
        ({"height": 16, "width": 12}, r"\[12\] px are no multiples of 8"),
    ],
)
def test_what_a_latent_consistency_model_cannot_do_is_refused(folders, generator, message):
    with pytest.raises(SpecError, match=message):
        sampler(folders["lcm"], **generator)


def test_start_from_images_that_do_not_fit_is_refused(folders, start):
    with pytest.raises(SpecError, match=r"reconstruct: .*strengths of its own"):
        sampler(folders["lcm"], reconstruct=start)
    source = start["source"] | {"image_size": 12}
    with pytest.raises(SpecError, match=r"reconstruct\.source: sides of \[12, 12\] px"):
        sampler(folders["plain"], reconstruct=start | {"source": source})
    with pytest.raises(SpecError, match=r"are \(24, 24\), .*reconstruct\.source are \(16, 16\)"):
        sampler(folders["plain"], reconstruct=start, height=24, width=24)


@pytest.mark.parametrize("strength", [0.0, 0.24, 1.5, (0.1, 0.5), (0.75, 0.5)])
def test_strength_that_takes_no_step_or_too_many_is_refused(start, strength):
    given = Reconstruction.model_validate(start | {"strength": strength})
    with pytest.raises(SpecError, match=r"reconstruct\.strength: .* from 0\.25 .* to 1"):
        steps_of(given, STEPS)


def test_strength_is_rounded_down_to_steps(start):
    # 0.58 * 50 is a little less than 29 in binary, and diffusers takes 28 steps of it.
    given = Reconstruction.model_validate(start | {"strength": (0.58, 0.6)})
    assert steps_of(given, 50) == (28, 30)
