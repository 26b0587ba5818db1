"""Every system that draws, end to end on a real Ray: killed on the way, with the same bytes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray import cloudpickle

from factory.generate import run as stage
from factory.generate.prepare import prepare
from factory.records import dataset_digest
from factory.resolve import resolve
from factory.shards.reader import read_shard
from factory.sources.check import check_shard
from factory.spec import Classifier, GenerateSpec, SpecError, VerifySpec
from factory.verify.prepare import prepare as prepare_verify
from factory.verify.replay import ReplayShard
from factory.vision.classifier import build_classifier
from tests.adapt.adaptations import FULL, LORA, WORD, learn_all, tiny_adapt
from tests.conftest import save_tiny_model
from tests.datasets import make_here
from tests.diffusion.test_ddpm_sampler import save_model as save_ddpm
from tests.diffusion.test_dit import new_transformer, save_dit
from tests.generate import killers
from tests.generate.killers import LoadKiller
from tests.pools import save_labeller, save_unconditional
from tests.striped import CLASS_NAMES, write_source
from tests.tiny_text_to_image import save_tiny_pipeline

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

# The planted samplers below travel to actors, which cannot import this file.
cloudpickle.register_pickle_by_value(killers)

JOB = Path(__file__).parents[2] / "jobs" / "generate.py"
SMALL = {"shard_size": 4, "batch_size": 3, "threads": 1}
TEXT = {
    "kind": "text_to_image",
    "num_inference_steps": 2,
    "prompts": {"templates": ["{class_name}"]},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models of every kind, and what goes with them."""
    folder = tmp_path_factory.mktemp("kinds")
    text = save_tiny_pipeline(folder / "text")
    classifier = build_classifier(Classifier(width=8), channels=1, class_names=CLASS_NAMES, seed=3)
    classifier.save(folder / "classifier")
    for name, method in (("word", WORD), ("lora", LORA), ("full", FULL)):
        learn_all(tiny_adapt(text, folder, method=method), folder / name)
    pool = save_unconditional(folder / "pool")
    return {
        "edm": str(save_tiny_model(folder / "edm", class_names=CLASS_NAMES)),
        "ddpm": str(save_ddpm(folder / "ddpm", CLASS_NAMES)),
        "unconditional": str(save_ddpm(folder / "unconditional", ())),
        "dit": str(save_dit(folder / "dit", new_transformer(5))),
        "text": str(text),
        "classifier": str(folder / "classifier"),
        "word": str(folder / "word"),
        "lora": str(folder / "lora"),
        "full": str(folder / "full"),
        "other text": str(save_tiny_pipeline(folder / "other", seed=1)),
        "tiny": str(save_tiny_model(folder / "tiny")),
        "pool": str(pool),
        "labeller": str(save_labeller(folder / "labeller", pool)),
        "real": write_source(folder / "real.parquet", num_images=9),
        "real16": write_source(folder / "real16.parquet", num_images=9, size=16),
        "real of two": write_source(folder / "two.parquet", num_images=9, names=("flat", "rows")),
        "unseen": write_source(folder / "unseen.parquet", num_images=9, seed=1),
    }


def edm(models, name="edm"):
    return {
        "model": models[name],
        "scheduler": "heun",
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
    }


def ddpm(models):
    generator = {
        "kind": "ddpm",
        "model": models["ddpm"],
        "num_inference_steps": 3,
        "guidance_weight": 3,
    }
    return {"generator": generator, "num_images": 24}


def pseudo_labels(models):
    generator = {"kind": "ddpm", "model": models["unconditional"], "num_inference_steps": 3}
    labeller = {"model": models["classifier"]}
    return {"generator": generator, "labels": "as_found", "labeller": labeller, "num_images": 24}


def quotas(models):
    fields = {"labels": "quota", "labeller": {"model": models["labeller"]}, "images_per_class": 6}
    return {"generator": edm(models, "pool"), **fields, "max_candidates_per_image": 100}


def agreed(models):
    agreement = {"kind": "agreement", "model": models["labeller"]}
    fields = {"filters": [agreement], "images_per_class": {"cat": 24}}
    return {"generator": edm(models, "tiny"), **fields, "max_candidates_per_image": 100}


def mapped(models):
    mapping = {"truck": [{"name": "tow truck"}, {"name": "class 3"}], "ship": [{"name": "class 1"}]}
    generator = {"kind": "dit", "model": models["dit"], "num_inference_steps": 3}
    output = {"image_size": 4, "resample": "box"}
    return {
        "generator": {**generator, "mapping": mapping},
        "images_per_class": 12,
        "output": output,
    }


def prompted(models):
    generator = {**TEXT, "model": models["text"]}
    return {"generator": generator, "class_names": ["cat", "dog"], "num_images": 24}


def adapted(models, adapters):
    generator = {**TEXT, "model": models["text"], "adapters": models[adapters]}
    return {"generator": generator, "images_per_class": 24}


def reconstructed(models):
    start = {"source": {"path": models["real"], "channels": 3}, "t_re": [1, 3], "passes": 2}
    return {"generator": edm(models), "reconstruct": start}


def redrawn(models):
    start = {
        "source": {"path": models["real16"], "channels": 3},
        "strength": [0.5, 1.0],
        "passes": 2,
    }
    return {"generator": {**TEXT, "model": models["text"]}, "reconstruct": start}


def filtered(models):
    near = {"kind": "near_real", "quantile": 0.2}
    near |= {name: {"path": models[key], "channels": 3} for name, key in SIDES.items()}
    filters = [{"kind": "contrast", "min_deviation": 62}, {"kind": "duplicate"}, near]
    return {"generator": edm(models), "filters": filters, "images_per_class": 8}


SIDES = {"real": "real", "held_out": "unseen"}
SPECS = {
    "ddpm": ddpm,
    "pseudo-labels": pseudo_labels,
    "quotas": quotas,
    "label mapping": mapped,
    "text": prompted,
    "textual inversion": lambda models: adapted(models, "word"),
    "LoRA": lambda models: adapted(models, "lora"),
    "whole models": lambda models: adapted(models, "full"),
    "reconstruction": reconstructed,
    "image to image": redrawn,
    "filters": filtered,
    "agreement": agreed,
}
"""Six shards or more each, so that a job that is killed has some left to make."""


def make_alone(spec, root):
    """The dataset, made in this process."""
    make_here(spec, str(root))
    return prepare(spec, str(root)).inventory.records


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
def test_killed_and_gone_on_with_gives_the_bytes_of_one_process(
    ray_cluster, tmp_path, models, kind
):
    spec = GenerateSpec.model_validate({**SMALL, **SPECS[kind](models)})
    alone = make_alone(spec, tmp_path / "alone")
    marker, root = tmp_path / "killed", tmp_path / "root"
    report = stage.run(prepare(spec, str(root)), load=LoadKiller(marker, batch=2))
    assert marker.exists()
    assert report.missing == []
    assert report.digest == dataset_digest(alone)
    assert stage.run(prepare(spec, str(root))).made == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
def test_killed_job_run_again_gives_the_bytes_of_one_process(ray_cluster, tmp_path, models, kind):
    fields = {**SMALL, **SPECS[kind](models)}
    alone = make_alone(GenerateSpec.model_validate(fields), tmp_path / "alone")
    path, root = tmp_path / "spec.yaml", tmp_path / "root"
    path.write_text(json.dumps(fields))
    address = ray_cluster.get_runtime_context().gcs_address
    command = [sys.executable, str(JOB), str(path), "--root", str(root), "--address", address]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(root.glob("records/*/*.json")):
            assert job.poll() is None
            time.sleep(0.01)
    finally:
        job.kill()
        job.wait()
    again = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    report = json.loads(again.stdout)
    assert report["made"] + report["skipped"] == len(alone)
    assert min(report["made"], report["skipped"]) >= 1
    assert report["digest"] == dataset_digest(alone)


@pytest.mark.parametrize("kind", SPECS)
def test_every_image_can_be_made_again_and_says_where_it_came_from(tmp_path, models, kind):
    spec = GenerateSpec.model_validate({**SMALL, **SPECS[kind](models)})
    make_alone(spec, tmp_path)
    prepared = prepare_verify(VerifySpec(replay=1), str(tmp_path))
    replay = ReplayShard(prepared.dataset, prepared.resolved)
    for shard, record in prepared.records.items():
        assert check_shard(prepared.dataset, record).findings == ()
        drawn = replay(record, prepared.replays[shard])
        assert (drawn.num_mismatches, drawn.num_not_comparable) == (0, 0)
        assert drawn.num_compared > 0
        data = prepared.dataset.store.get(record.file)
        for sample in read_shard(data, record.format):
            facts = sample.provenance
            assert FACTS[kind] <= {name for name, fact in facts.items() if fact is not None}


FACTS = {
    "ddpm": {"guidance_scale"},
    "pseudo-labels": {"labeller", "confidence"},
    "quotas": {"labeller", "confidence"},
    "label mapping": {"fine_class"},
    "text": {"prompt"},
    "textual inversion": {"prompt", "adapter"},
    "LoRA": {"prompt", "adapter"},
    "whole models": {"prompt", "adapter"},
    "reconstruction": {"t_re", "source_image", "source_pass"},
    "image to image": {"strength", "source_image", "source_pass"},
    "filters": {"model_id"},
    "agreement": {"model_id"},
}


REFUSED = {
    "adapters of another base": (
        lambda models: with_generator(adapted(models, "word"), model=models["other text"]),
        r"generator\.adapters: those of \['rows'\] .* made for another model",
    ),
    "a pipeline of another kind": (
        lambda models: with_generator(prompted(models), model=models["dit"]),
        r"generator\.model: .* is a DiTPipeline; generator kind text_to_image takes",
    ),
    "one classifier at two revisions": (
        lambda models: {
            **ddpm(models),
            "filters": [
                {"kind": "agreement", "model": "org/x", "revision": name} for name in ("a", "b")
            ],
        },
        r"filters\.1\.model: org/x .* revision b, and as filters\.0\.model at a",
    ),
    "no classes to draw": (
        lambda models: {**prompted(models), "class_names": None},
        "class_names: none given",
    ),
    "classes that the source lacks": (
        lambda models: {
            "generator": edm(models),
            "reconstruct": {"source": {"path": models["real of two"], "channels": 3}, "t_re": 1},
        },
        r"class_names: \['columns'\] are no classes of reconstruct\.source",
    ),
    "a filter that does not know the classes": (
        lambda models: {
            **prompted(models),
            "filters": [{"kind": "agreement", "model": models["classifier"]}],
        },
        r"filters\.0\.model: .* does not know \['cat', 'dog'\]; it knows",
    ),
    "labels to be found of what is drawn for a class": (
        lambda models: {
            **mapped(models),
            "labels": "quota",
            "labeller": {"model": models["classifier"]},
        },
        "labels: is quota, but generator kind dit draws for a class",
    ),
    "a layout that filters cannot have": (
        lambda models: {**filtered(models), "layout": "interleaved"},
        "layout: is interleaved, but filters need by_class",
    ),
}


def with_generator(fields, **changes):
    return {**fields, "generator": {**fields["generator"], **changes}}


@pytest.mark.parametrize("what", REFUSED)
def test_parts_that_do_not_fit_together_are_refused_by_name(models, what):
    fields, named = REFUSED[what]
    with pytest.raises(SpecError, match=named):
        resolve(GenerateSpec.model_validate({**SMALL, **fields(models)}))
