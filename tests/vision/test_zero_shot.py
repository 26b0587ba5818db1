import numpy as np
import pytest
import torch

from factory.spec import ClassifySpec, SpecError, ZeroShot, load_spec
from factory.vision.zero_shot import zero_shot_probabilities
from tests.vision.checkpoints import MEAN, STD, save_tiny_clip

CLASS_NAMES = ("cat", "dog", "ship")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, save_tiny_clip(folder)


def noise(num_images=5, *, side=16, channels=3):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (num_images, side, side, channels), dtype=np.uint8)


def probabilities(folder, images, class_names=CLASS_NAMES, **fields):
    spec = ZeroShot(model=str(folder), **fields)
    return zero_shot_probabilities(spec, images, class_names, device=CPU)


def test_zero_shot_probabilities_are_those_of_transformers(clip):
    from transformers import AutoTokenizer, CLIPImageProcessorPil

    folder, model = clip
    processor = CLIPImageProcessorPil(image_mean=MEAN, image_std=STD, do_resize=False, crop_size=16)
    prompts = [f"one {name}" for name in CLASS_NAMES]
    tokens = AutoTokenizer.from_pretrained(folder)(prompts, padding=True, return_tensors="pt")
    # More images than a batch holds.
    images = noise(205)
    pixels = processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = model(pixel_values=pixels, **tokens).logits_per_image.softmax(dim=1)
    seen = probabilities(folder, images, prompt="one {}")
    assert seen.dtype == np.float32
    assert seen == pytest.approx(expected.numpy(), abs=1e-5)
    assert seen.std(axis=1).min() > 1e-4


def test_zero_shot_resizes_the_middle_square_as_its_processor_does(clip):
    from transformers import CLIPImageProcessorPil

    folder, _ = clip
    rows = np.linspace(20, 220, 40)[None, :, None, None]
    images = (rows + noise(side=60)[:, :40] * 0.1).astype(np.uint8)
    processor = CLIPImageProcessorPil(
        image_mean=MEAN, image_std=STD, size={"shortest_edge": 16}, crop_size=16
    )
    shown = processor(list(images), return_tensors="pt", do_normalize=False, do_rescale=False)
    middle = shown["pixel_values"].permute(0, 2, 3, 1).numpy().astype(np.uint8)
    assert probabilities(folder, images) == pytest.approx(probabilities(folder, middle), abs=2e-3)


def test_zero_shot_follows_the_order_of_the_classes_and_sees_grey_as_rgb(clip):
    folder, _ = clip
    images = noise(channels=1)
    seen = probabilities(folder, images)
    turned = probabilities(folder, images.repeat(3, axis=3), CLASS_NAMES[::-1])
    assert seen == pytest.approx(turned[:, ::-1], abs=1e-6)


def test_clip_that_cannot_be_had_is_refused():
    with pytest.raises(SpecError, match=r"zero_shot\.model: no-such/clip.* give a folder"):
        probabilities("no-such/clip", noise())


def test_clip_without_its_tokenizer_is_refused(tmp_path):
    save_tiny_clip(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(SpecError, match="knows 2 tokens, the model 54"):
        probabilities(tmp_path, noise())


def test_prompts_that_cannot_be_read_are_refused_together(clip):
    names = ("cat", "averyveryverylongname", "anotherverylongname")
    with pytest.raises(
        SpecError, match="a averyveryverylongname, a anotherverylongname have more than"
    ):
        probabilities(clip[0], noise(), names, prompt="a {}")


def test_prompt_without_a_place_for_the_class_is_refused():
    with pytest.raises(SpecError, match=r"zero_shot: .*'a photo'.* write \{\}"):
        load_spec(ClassifySpec, None, ["zero_shot={model: clip, prompt: a photo}"])
