"""Adaptations of the tiny text-to-image model that take seconds."""

from factory.adapt.concept import LearnConcept
from factory.adapt.prepare import prepare
from factory.records import claim_root
from factory.spec import AdaptSpec
from factory.store import Store
from tests.striped import write_source

WORD = {"kind": "textual_inversion", "num_vectors": 2, "initializer_token": "cat"}
LORA = {"kind": "dreambooth", "lora": {"rank": 4, "alpha": 2, "target": "attention"}}
LORA_ALL = {
    "kind": "dreambooth",
    "lora": {"rank": 2, "alpha": 6, "target": "all"},
    "train_text_encoder": True,
}
FULL = {"kind": "dreambooth", "lora": None, "train_text_encoder": True}


def tiny_adapt(base, folder, *, method=WORD, **fields):
    """A spec of a few steps; `fields` replace whole sections, those of `training` one by one."""
    training = {"num_steps": 4, "batch_size": 2, "learning_rate": 3e-2, "mixed_precision": "no"}
    source = folder / "train.parquet"
    if not source.exists():
        write_source(source)
    tree = {
        "model": str(base),
        "method": method,
        "concepts": {"source": {"path": str(source)}, "classes": ["rows"], "num_images": 3},
        "pictures": {"num_images": 2, "num_inference_steps": 2},
        "threads": 1,
        **fields,
        "training": training | fields.pop("training", {}),
    }
    return AdaptSpec.model_validate(tree)


def learn_all(spec, root):
    """Learn every concept of `spec` in this process; their records."""
    prepared = prepare(spec, str(root))
    claim_root(Store(str(root)), prepared.root_spec)
    learn = LearnConcept(spec, str(root), prepared.base, prepared.resolution)
    return [learn(concept) for concept in prepared.concepts]
