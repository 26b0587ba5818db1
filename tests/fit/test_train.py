import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from PIL import Image

from factory.diffusion.ddpm import DdpmPipeline
from factory.diffusion.edm import EdmPipeline
from factory.fit.history import Verdict
from factory.fit.judge import Judge
from factory.fit.kinds import load_drawer, make_trainee
from factory.fit.prepare import open_sources
from factory.fit.train import Trainer
from factory.vision.small_cnn import train_small_cnn
from tests.striped import CLASS_NAMES, tiny_fit

CPU = torch.device("cpu")
# As much noise in the end as lundberg2022's 400 steps add.
DDPM = {"kind": "ddpm", "num_train_timesteps": 100, "beta_start": 4e-4, "beta_end": 0.08}
KINDS = {
    "edm": {},
    "ddpm": {"objective": DDPM},
    "unconditional_edm": {"conditional": False},
    "unconditional_ddpm": {"objective": DDPM, "conditional": False},
}
each_kind = pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)


def new_trainer(folder, **fields):
    spec = tiny_fit(folder, **fields)
    parts = spec.training.gradient_accumulation_steps
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
    source = open_sources(spec)[0]
    return Trainer(spec, source, make_trainee(spec, source, CPU), accelerator)


def start_from(folder, source, **fields):
    """The trainee that goes on from the model in `folder`."""
    return make_trainee(tiny_fit(folder, **fields), source, CPU, folder / "model")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    source = open_sources(tiny_fit(tmp_path_factory.mktemp("source")))[0]
    return train_small_cnn(source, num_images=5_000, seed=0, device=CPU)


def advance(trainer, num_steps):
    for _ in range(num_steps):
        trainer.advance()
        if trainer.step % 2 == 0:
            trainer.close_row()
    return trainer


def tensors(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tensor for value in values for tensor in tensors(value)]


@each_kind
def test_resumed_training_equals_uninterrupted_training(tmp_path, fields):
    # Dropout too: its masks must not depend on what was drawn before.
    shape = {"block_out_channels": [16, 32], "layers_per_block": 1, "patch_size": 2, "dropout": 0.2}
    whole = advance(new_trainer(tmp_path, shape=shape, **fields), 6)
    first = advance(new_trainer(tmp_path, shape=shape, **fields), 4)
    first.save(tmp_path / "state.pt")
    second = new_trainer(tmp_path, shape=shape, **fields)
    second.load(tmp_path / "state.pt")
    advance(second, 2)
    pairs = list(zip(tensors(whole.state()), tensors(second.state()), strict=True))
    assert len(pairs) > 100
    assert all(torch.equal(a, b) for a, b in pairs)
    assert second.done
    losses = [[row.loss for row in trainer.history] for trainer in (whole, second)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["edm", "ddpm", "unconditional_ddpm"])
def test_training_makes_a_model_whose_samples_look_real(tmp_path, classifier, kind):
    size = {"num_images": 32 * 70, "batch_size": 32, "learning_rate": 4e-3}
    metric = {"num_samples": 120, "num_inference_steps": 12}
    fields = {"training": size, "metric": metric, **KINDS[kind]}
    spec = tiny_fit(tmp_path, **fields)
    source, held_out = open_sources(spec)
    judge = Judge(spec, source, held_out, classifier)
    trainer = new_trainer(tmp_path, **fields)

    def verdict():
        trainer.snapshot(tmp_path / "model")
        loss = trainer.validation_loss(held_out)
        return judge(tmp_path / "model", CPU, images_seen=0, validation_loss=loss)[0]

    before = verdict()
    advance(trainer, 70)
    after = verdict()
    assert after.frechet_distance < 0.4 * before.frechet_distance
    assert after.validation_loss < 0.5 * before.validation_loss
    if spec.conditional:
        assert after.agreement is not None
        assert after.agreement > 0.6
    else:
        assert after.agreement is None


def test_judge_gives_a_row_to_each_class_and_none_to_an_unconditional_model(tmp_path, classifier):
    def grid(**fields):
        spec = tiny_fit(tmp_path, **fields)
        new_trainer(tmp_path, **fields).snapshot(tmp_path / "model")
        judge = Judge(spec, *open_sources(spec), classifier)
        picture = judge(tmp_path / "model", CPU, images_seen=0, validation_loss=0.0)[1]
        return Image.open(io.BytesIO(picture)).size

    # 16 px an image and 4 px between; class names stand at the left of three rows.
    assert grid(conditional=False) == (4 + 10 * 20, 4 + 10 * 20)
    width, height = grid()
    assert width > 4 + 10 * 20
    assert height == 4 + 3 * 20


def test_accumulated_parts_of_a_batch_are_the_batch(tmp_path):
    whole = advance(new_trainer(tmp_path), 3)
    parts = advance(new_trainer(tmp_path, training={"gradient_accumulation_steps": 2}), 3)
    for a, b in zip(whole.state()["average"], parts.state()["average"], strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_adam_and_its_betas_are_taken_as_asked(tmp_path):
    training = {"optimizer": "adam", "adam_betas": [0.8, 0.999], "weight_decay": 0.1}
    adam = advance(new_trainer(tmp_path, training=training), 2).state()
    other = advance(new_trainer(tmp_path, training=training | {"optimizer": "adamw"}), 2).state()
    assert adam["optimizer"]["param_groups"][0]["betas"] == (0.8, 0.999)
    # Adam's weight decay goes through the gradient, AdamW's does not.
    pairs = zip(adam["average"], other["average"], strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@each_kind
def test_snapshot_holds_the_average_in_half_precision_and_draws_equally_twice(tmp_path, fields):
    trainer = advance(new_trainer(tmp_path, **fields), 3)
    trainer.snapshot(tmp_path / "model")
    spec = tiny_fit(tmp_path, **fields)
    kind = {"edm": EdmPipeline, "ddpm": DdpmPipeline}[spec.objective.kind]
    saved = kind.from_pretrained(tmp_path / "model", dtype=torch.float16)
    average = trainer.state()["average"]
    for weight, mean in zip(saved.unet.parameters(), average, strict=True):
        assert torch.equal(weight, mean.half())
    assert saved.config["trained_on"]["num_images"] == 120
    assert list(saved.config["id2label"].values()) == list(CLASS_NAMES if spec.conditional else ())
    names = ["rows"] if spec.conditional else [None]
    folder, held_out = tmp_path / "model", open_sources(spec)[1]
    first, second = (load_drawer(spec, folder, held_out, CPU).draw(names, [7]) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (1, 8, 8, 1)


@pytest.mark.parametrize("fields", [KINDS["edm"], KINDS["unconditional_ddpm"]])
def test_training_starts_from_the_averaged_weights_of_a_model(tmp_path, fields):
    first = advance(new_trainer(tmp_path, **fields), 4)
    first.snapshot(tmp_path / "model")
    saved = UNet2DModel.from_pretrained(tmp_path / "model" / "unet").float()
    second = start_from(tmp_path, open_sources(tiny_fit(tmp_path))[0], **fields)
    for weight, expected in zip(second.network.parameters(), saved.parameters(), strict=True):
        assert torch.equal(weight, expected)


def test_model_that_goes_on_says_all_that_it_has_seen(tmp_path):
    new_trainer(tmp_path).snapshot(tmp_path / "model")
    seen = EdmPipeline.from_pretrained(tmp_path / "model").config["trained_on"]
    source = open_sources(tiny_fit(tmp_path))[0]
    assert seen["digest"] == source.digest

    def seen_by(source):
        start_from(tmp_path, source).save(tmp_path / "next")
        return EdmPipeline.from_pretrained(tmp_path / "next").config["trained_on"]

    assert seen_by(source) == seen
    other = source.take(np.arange(60))
    assert seen_by(other)["digest"] == other.digest
    assert seen_by(other)["before"] == seen
    drawn = replace(other, trained_on={"digest": "of the images behind it"})
    assert seen_by(drawn)["before"] == {
        **seen,
        "before": {"digest": "of the images behind it"},
    }


def test_training_goes_on_unmoved_by_snapshot_and_validation(tmp_path):
    held_out = open_sources(tiny_fit(tmp_path))[1]
    plain, disturbed = new_trainer(tmp_path), new_trainer(tmp_path)
    advance(plain, 2)
    advance(disturbed, 1).snapshot(tmp_path / "model")
    disturbed.validation_loss(held_out)
    advance(disturbed, 1)
    for a, b in zip(tensors(plain.state()), tensors(disturbed.state()), strict=True):
        assert torch.equal(a, b)


@each_kind
def test_validation_loss_is_that_of_the_averaged_weights_at_any_time(tmp_path, fields):
    dropout = {"block_out_channels": [16, 32], "layers_per_block": 1, "dropout": 0.5}
    held_out = open_sources(tiny_fit(tmp_path))[1]
    trainer = advance(new_trainer(tmp_path, shape=dropout, **fields), 3)
    loss = trainer.validation_loss(held_out)
    assert trainer.validation_loss(held_out) == loss
    # The average of no half-life is the weights, and theirs is another loss.
    training = {"ema_fraction": 0}
    plain = advance(new_trainer(tmp_path, shape=dropout, training=training, **fields), 3)
    assert plain.validation_loss(held_out) != loss
    average, weights = plain.state()["average"], plain.state()["network"].values()
    assert all(torch.equal(a, b) for a, b in zip(average, weights, strict=True))


def test_run_ends_when_its_patience_does(tmp_path):
    trainer = new_trainer(tmp_path, training={"early_stopping_patience": 1, "num_images": 160})
    for number, loss in enumerate([3.0, 2.0, 2.0]):
        assert not trainer.done
        advance(trainer, 2)
        verdict = Verdict(
            images=trainer.images_seen,
            validation_loss=loss,
            frechet_distance=1.0 / (1 + number),
            num_samples=100,
            images_per_second=1.0,
        )
        trainer.history[-1] = trainer.history[-1].model_copy(update={"verdict": verdict})
        if number == 1:
            trainer.save(tmp_path / "state.pt")
    assert trainer.done
    again = new_trainer(tmp_path, training={"early_stopping_patience": 1, "num_images": 160})
    again.load(tmp_path / "state.pt")
    assert not again.done
