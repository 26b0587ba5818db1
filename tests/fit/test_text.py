import json
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, StableDiffusionPipeline
from pydantic import ValidationError

from factory.fit.kinds import load_drawer, make_trainee
from factory.fit.prepare import open_sources, prepare
from factory.fit.train import Trainer
from factory.models import TRAINED_ON
from factory.spec import FitSpec, SpecError
from tests.striped import CLASS_NAMES, tiny_fit, write_source

CPU = torch.device("cpu")
SHAPE = {"block_out_channels": [8, 16], "layers_per_block": 1}


def autoencoder_fit(folder, **fields):
    return tiny_fit(folder, **{"objective": {"kind": "autoencoder"}, "shape": SHAPE, **fields})


def text_fit(folder, autoencoder, **fields):
    objective = {
        "kind": "text_to_image",
        "autoencoder": str(autoencoder),
        "captions": {"class_words": {"rows": ["stripes", "rows"]}},
        "text_width": 32,
        "text_layers": 1,
    }
    shape = SHAPE | {"attention_levels": [1]}
    return tiny_fit(folder, **{"objective": objective, "shape": shape, **fields})


def new_trainer(spec, autoencoder=None):
    source = open_sources(spec)[0]
    trainee = make_trainee(spec, source, CPU, autoencoder=autoencoder)
    return Trainer(spec, source, trainee, Accelerator(cpu=True))


def advance(trainer, num_steps):
    for _ in range(num_steps):
        trainer.advance()
    trainer.close_row()
    return trainer


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """The folder of a barely trained autoencoder of 8x8 grey images."""
    folder = tmp_path_factory.mktemp("autoencoder")
    advance(new_trainer(autoencoder_fit(folder)), 2).snapshot(folder / "model")
    return folder / "model"


@pytest.fixture
def fit_of(tmp_path, autoencoder):
    """Kind -> its spec, and the autoencoder that it needs."""
    specs = {
        "autoencoder": (autoencoder_fit(tmp_path), None),
        "text_to_image": (text_fit(tmp_path, autoencoder), autoencoder),
    }
    return specs.__getitem__


KINDS = pytest.mark.parametrize("kind", ["autoencoder", "text_to_image"])


@KINDS
def test_spec_comes_back_from_what_workers_are_sent(fit_of, kind):
    spec, _ = fit_of(kind)
    assert FitSpec.model_validate(spec.model_dump(mode="json")) == spec


@KINDS
def test_resumed_training_equals_uninterrupted_training(fit_of, tmp_path, kind):
    whole = advance(advance(new_trainer(*fit_of(kind)), 2), 2)
    first = advance(new_trainer(*fit_of(kind)), 2)
    first.save(tmp_path / "state.pt")
    second = new_trainer(*fit_of(kind))
    second.load(tmp_path / "state.pt")
    advance(second, 2)
    ours, theirs = whole.state(), second.state()
    for name, weight in ours["network"].items():
        assert torch.equal(weight, theirs["network"][name]), name
    assert all(map(torch.equal, ours["average"], theirs["average"]))
    assert [row.loss for row in whole.history] == [row.loss for row in second.history]


@KINDS
def test_validation_loss_falls_and_is_the_same_each_time(fit_of, kind):
    spec, autoencoder = fit_of(kind)
    trainer, held_out = new_trainer(spec, autoencoder), open_sources(spec)[1]
    before = trainer.validation_loss(held_out)
    assert trainer.validation_loss(held_out) == before
    assert advance(trainer, 6).validation_loss(held_out) < 0.98 * before


@KINDS
def test_snapshot_draws_equally_twice(fit_of, tmp_path, kind):
    spec, autoencoder = fit_of(kind)
    advance(new_trainer(spec, autoencoder), 1).snapshot(tmp_path / "model")
    held_out = open_sources(spec)[1]
    drawn = [
        load_drawer(spec, tmp_path / "model", held_out, CPU).draw(["rows", "flat"], [7, 8])
        for _ in range(2)
    ]
    assert np.array_equal(*drawn)
    assert drawn[0].shape == (2, 8, 8, 1)
    assert not np.array_equal(drawn[0][0], drawn[0][1])


def test_autoencoder_draws_the_class_asked_for(autoencoder, tmp_path):
    # However bad it is, flat images come back flatter than striped ones.
    spec = autoencoder_fit(tmp_path, training={"num_images": 1_600})
    trainer = advance(new_trainer(spec), 100)
    trainer.snapshot(tmp_path / "model")
    drawer = load_drawer(spec, tmp_path / "model", open_sources(spec)[1], CPU)
    images = drawer.draw(["flat"] * 8 + ["rows"] * 8, range(16)).astype(float)
    deviation = images.mean(axis=(2, 3)).std(axis=1)
    assert deviation[:8].max() < deviation[8:].min()


def test_training_leaves_the_autoencoder_as_it_is(autoencoder, tmp_path):
    spec = text_fit(tmp_path, autoencoder)
    advance(new_trainer(spec, autoencoder), 2).snapshot(tmp_path / "model")
    own = AutoencoderKL.from_pretrained(autoencoder).state_dict()
    saved = AutoencoderKL.from_pretrained(tmp_path / "model" / "vae").state_dict()
    assert all(torch.equal(own[name], saved[name]) for name in own)


def test_model_says_all_that_it_and_its_autoencoder_have_seen(autoencoder, tmp_path):
    spec = text_fit(tmp_path, autoencoder, source={"path": write_source(tmp_path / "b", seed=3)})
    advance(new_trainer(spec, autoencoder), 1).snapshot(tmp_path / "model")
    seen = json.loads((tmp_path / "model" / "model_index.json").read_text())[TRAINED_ON]
    before = json.loads((autoencoder / "config.json").read_text())[TRAINED_ON]
    assert seen["digest"] == open_sources(spec)[0].digest
    assert seen["before"] == before


def test_hidden_label_is_told_as_nothing(autoencoder, tmp_path):
    spec = text_fit(tmp_path, autoencoder, training={"label_dropout": 1.0})
    trainer = advance(new_trainer(spec, autoencoder), 2)
    # The rows of words that no caption held have not been moved, but for start and end.
    trained = trainer.state()["network"]["text_encoder.embeddings.token_embedding.weight"]
    fresh = new_trainer(spec, autoencoder).state()["network"]
    untrained = fresh["text_encoder.embeddings.token_embedding.weight"]
    moved = (trained != untrained).any(dim=1).nonzero().flatten().tolist()
    assert moved == [len(trained) - 2, len(trained) - 1]


def test_left_out_classes_are_gone_from_both_sources(tmp_path):
    spec = tiny_fit(tmp_path, leave_out=["flat"])
    whole = open_sources(tiny_fit(tmp_path))
    for part, source in zip(open_sources(spec), whole, strict=True):
        assert part.class_names == ("rows", "columns")
        assert np.array_equal(part.images, source.images[source.labels != 0])
        assert np.array_equal(part.labels, source.labels[source.labels != 0] - 1)


def test_left_out_class_that_is_none_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"no classes \['dots'\]; it has .*columns"):
        open_sources(tiny_fit(tmp_path, leave_out=["dots", "flat"]))


def test_fingerprint_pins_the_autoencoder_by_content(autoencoder, tmp_path):
    def fingerprint(folder):
        return prepare(text_fit(tmp_path, folder), str(tmp_path / "root")).root_spec.fingerprint

    shutil.copytree(autoencoder, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == fingerprint(autoencoder)
    weights = tmp_path / "copy" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint(tmp_path / "copy") != fingerprint(autoencoder)


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "UNet2DModel"}, "is a UNet2DModel, not an AutoencoderKL"),
        ({"in_channels": 3}, r"3 channels, but those of .* have 1; set source\.channels"),
        ({"block_out_channels": [8] * 4}, "sides 8 times smaller and 2 levels need .* 16 px"),
    ],
)
def test_autoencoder_that_does_not_fit_is_refused(autoencoder, tmp_path, values, message):
    shutil.copytree(autoencoder, tmp_path / "copy")
    change_config(tmp_path / "copy", **values)
    with pytest.raises(SpecError, match=message):
        prepare(text_fit(tmp_path, tmp_path / "copy"), str(tmp_path / "root"))


def test_folder_without_autoencoder_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SpecError, match=r"objective\.autoencoder: .*config\.json.*jobs/fit\.py"):
        prepare(text_fit(tmp_path, tmp_path), str(tmp_path / "root"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"start_from": "fashion_mnist"}, "start_from"),
        ({"conditional": False, "training": {"label_dropout": 0.0}}, "conditional"),
    ],
)
@pytest.mark.parametrize("make", [autoencoder_fit, lambda f, **g: text_fit(f, "model", **g)])
def test_fields_of_pixel_models_are_refused(tmp_path, make, fields, named):
    with pytest.raises(ValidationError, match=f"takes no {named}; leave it out"):
        make(tmp_path, **fields)


def test_saved_model_is_a_pipeline_of_diffusers(autoencoder, tmp_path):
    spec = text_fit(tmp_path, autoencoder)
    advance(new_trainer(spec, autoencoder), 1).snapshot(tmp_path / "model")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.tokenizer.tokenize("stripes patterned") == ["stripes</w>", "patterned</w>"]
    assert CLASS_NAMES[1] in pipeline.tokenizer.decode(pipeline.tokenizer("rows").input_ids)
    assert pipeline.unet.config["cross_attention_dim"] == 32
