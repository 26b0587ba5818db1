"""The embedded text-to-image model, and what jobs/adapt.py teaches it without arguments."""

from pathlib import Path

import numpy as np
import pytest

from factory.adapt.prepare import prepare
from factory.generate.prepare import open_root
from factory.generate.prepare import prepare as prepare_generate
from factory.generate.shard import MakeShard
from factory.models import open_pipeline
from factory.sources.open import open_source
from factory.spec import AdaptSpec, GenerateSpec, SourceSpec, load_spec

SMOKE = Path(__file__).parents[2] / "jobs" / "specs" / "adapt_smoke.yaml"


def test_smoke_spec_learns_the_classes_that_the_embedded_model_has_not_seen(tmp_path):
    spec = load_spec(AdaptSpec, SMOKE)
    prepared = prepare(spec, str(tmp_path / "root"))
    assert [concept.class_name for concept in prepared.concepts] == ["Bag", "Ankle boot"]
    model = open_pipeline(spec.model, None, field="model")
    card = (Path(model.path) / "README.md").read_text()
    drawn = card.partition("classes: ")[2].partition(". ")[0].split(", ")
    real = open_source(SourceSpec()).class_names
    assert sorted([*drawn, "Bag", "Ankle boot"]) == sorted(real)
    assert model.trained_on is not None
    assert model.trained_on["num_images"] == 46_080


@pytest.mark.timeout(200)
def test_embedded_model_draws_what_it_is_asked_for(tmp_path):
    generator = {
        "kind": "text_to_image",
        "model": "fashion_mnist_text",
        "num_inference_steps": 8,
        "guidance_scale": 3.0,
        "prompts": {"templates": ["a photo of a {class_name}"]},
    }
    spec = GenerateSpec.model_validate(
        {
            "generator": generator,
            "class_names": ["trouser", "sneaker"],
            "num_images": 16,
            "shard_size": 16,
            "batch_size": 16,
            "threads": 1,
        }
    )
    opened, _ = open_root(prepare_generate(spec, str(tmp_path)))
    make = MakeShard(opened.resolved, str(tmp_path))
    for shard in opened.pending():
        make(shard)
    drawn = open_source(SourceSpec(path=str(tmp_path), channels=1))
    # Trousers are higher than wide, sneakers wider than high: the light pixels' rows and columns.
    light = drawn.images[:, :, :, 0] > 80
    height, width = (light.any(axis=axis).sum(axis=1) for axis in (2, 1))
    assert np.all((height > width) == (drawn.labels == 0))
