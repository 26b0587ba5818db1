import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from diffusers import DDPMScheduler

from factory.adapt.concept import new_trainable
from factory.adapt.load import load_pipeline
from factory.adapt.pictures import draw
from factory.adapt.prepare import adapter_kind, prepare
from factory.adapt.train import Examples, Trainer, draw_batch, wanted_output
from factory.seeds import seeded
from tests.adapt.adaptations import FULL, LORA, LORA_ALL, WORD, tiny_adapt

CPU = torch.device("cpu")


def start(spec, root):
    """A training of the spec's only concept, its pipeline and what is trained."""
    for state in (AcceleratorState, GradientState):
        state._reset_state()
    prepared = prepare(spec, str(root))
    concept = prepared.concepts[0]
    pipeline = load_pipeline(prepared.base.local(), CPU)
    with seeded(1):
        trainable = new_trainable(spec, concept, pipeline)
    accelerator = Accelerator(
        cpu=True,
        mixed_precision=spec.training.mixed_precision,
        gradient_accumulation_steps=spec.training.gradient_accumulation_steps,
    )
    trainer = Trainer(spec, concept, pipeline, trainable, accelerator)
    return concept, pipeline, trainable, trainer


def base_weights(pipeline):
    """The pipeline's own weights by name, without what a method added to it."""
    return {
        f"{part}.{name.replace('base_layer.', '').replace('table.', '')}": weight.detach().clone()
        for part in ("unet", "text_encoder", "vae")
        for name, weight in getattr(pipeline, part).named_parameters()
        if "lora_" not in name and "vectors" not in name
    }


@pytest.mark.parametrize(
    ("method", "precision"),
    [(WORD, "no"), (WORD, "bf16"), (LORA, "no"), (LORA_ALL, "bf16"), (FULL, "bf16")],
)
def test_reloaded_adapter_draws_as_the_trained_pipeline_does_and_only_it_has_changed(
    tiny_base, tmp_path, method, precision
):
    training = {"mixed_precision": precision, "num_steps": 2}
    spec = tiny_adapt(tiny_base, tmp_path, method=method, training=training)
    concept, pipeline, trainable, trainer = start(spec, tmp_path / "root")
    before = base_weights(load_pipeline(tiny_base, CPU))
    untrained = draw(pipeline, spec, concept, concept.wording.phrase, 16)
    while not trainer.done:
        trainer.advance()
    trained = draw(pipeline, spec, concept, concept.wording.phrase, 16)
    assert (trained != untrained).any()

    folder = tmp_path / "adapter"
    folder.mkdir()
    trainable.save(folder)
    reloaded = load_pipeline(tiny_base, CPU, adapter_kind(spec), folder)
    drawn = draw(reloaded, spec, concept, concept.wording.phrase, 16)
    assert abs(drawn.astype(int) - trained.astype(int)).max() <= 1

    after = base_weights(pipeline)
    assert after.keys() == before.keys()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == ({"unet", "text_encoder"} if method is FULL else set())
    for path in folder.rglob("*"):
        assert path.is_dir() or str(tiny_base).encode() not in path.read_bytes()


def test_loss_falls(tiny_base, tmp_path):
    fields = {"num_steps": 20, "learning_rate": 1e-2}
    *_, trainer = start(
        tiny_adapt(tiny_base, tmp_path, method=FULL, training=fields), tmp_path / "root"
    )
    while not trainer.done:
        trainer.advance()
    assert trainer.losses()[-1] < 0.8 * trainer.losses()[0]


def test_training_that_goes_on_is_the_same_to_the_bit(tiny_base, tmp_path):
    fields = {"schedule": "cosine", "warmup_steps": 1, "horizontal_flip": True}
    spec = tiny_adapt(tiny_base, tmp_path, training=fields)
    *_, whole, first = start(spec, tmp_path / "root")
    while not first.done:
        first.advance()
    *_, begun = start(spec, tmp_path / "root")
    begun.advance()
    begun.advance()
    path = tmp_path / "state.pt"
    torch.save(begun.state(), path)
    *_, resumed, second = start(spec, tmp_path / "root")
    second.load(torch.load(path, weights_only=True))
    assert second.step == 2
    while not second.done:
        second.advance()
    assert torch.equal(whole.parameters[0], resumed.parameters[0])
    assert first.losses() == second.losses()


def test_parts_of_a_step_add_up_to_the_step(tiny_base, tmp_path):
    def trained(parts):
        training = {"batch_size": 3, "gradient_accumulation_steps": parts, "num_steps": 2}
        *_, trainable, trainer = start(
            tiny_adapt(tiny_base, tmp_path, training=training), tmp_path / f"root-{parts}"
        )
        while not trainer.done:
            trainer.advance()
        return trainable.parameters[0].detach(), trainer.losses()

    (whole, whole_losses), (parts, losses) = trained(1), trained(2)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert losses == pytest.approx(whole_losses, abs=1e-5)


def test_batch_is_a_function_of_its_seed_and_holds_concept_and_prior():
    moments = torch.randn((1, 3, 8, 4, 4), generator=torch.Generator().manual_seed(0))
    concept = Examples(moments, ("a photo of a sks cat",), 1.0)
    prior = Examples(moments, ("a photo of a cat",), 0.5)

    def drawn(examples, seed=0):
        return draw_batch(examples, size=4, num_levels=1_000, scaling=0.18, seed=seed)

    both, alone, other = drawn([concept, prior]), drawn([concept]), drawn([concept], seed=1)
    assert both.latents.shape == (8, 4, 4, 4)
    assert torch.equal(both.noise[:4], alone.noise)
    assert not torch.equal(other.noise, alone.noise)
    assert (both.weights[:4].sum(), both.weights[4:].sum()) == (1.0, 0.5)
    assert both.prompts == ("a photo of a sks cat",) * 4 + ("a photo of a cat",) * 4


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_network_learns_what_the_chain_takes_back_to_the_image(kind):
    # From the wanted output a scheduler's own step finds the image, whatever the kind.
    chain = DDPMScheduler(prediction_type=kind, clip_sample=False)
    generator = torch.Generator().manual_seed(0)
    image, noise = (torch.randn((1, 4, 2, 2), generator=generator) for _ in range(2))
    level = torch.tensor([400])
    noisy = chain.add_noise(image, noise, level)
    wanted = wanted_output(chain, image, noise, level)
    found = chain.step(wanted, 400, noisy, generator=generator).pred_original_sample
    assert torch.allclose(found, image, atol=1e-4)


def test_loss_that_is_no_number_is_an_error(tiny_base, tmp_path):
    *_, trainable, trainer = start(tiny_adapt(tiny_base, tmp_path), tmp_path / "root")
    with torch.no_grad():
        trainable.parameters[0].fill_(float("nan"))
    with pytest.raises(ValueError, match="loss of step 0 is nan"):
        trainer.advance()
