"""Small datasets of the tiny model, made in this process without Ray."""

from pathlib import Path

from factory.generate.prepare import Prepared, open_root, prepare
from factory.generate.shard import MakeShard
from factory.spec import GenerateSpec

SMALL = {"num_images": 40, "shard_size": 16, "batch_size": 6, "threads": 1}
"""Three shards, the last one short, and batches that do not divide a shard."""


PLAIN = {
    "scheduler": "heun",
    "num_inference_steps": 3,
    "guidance_scale": 1.0,
    "guidance_interval": None,
}
"""The cheapest sampler."""


def plain_words(model: Path) -> list[str]:
    """The words of a command that ask for `PLAIN` of a model."""
    fields = {**PLAIN, "model": model, "guidance_interval": "null"}
    return [f"generator.{name}={value}" for name, value in fields.items()]


def small_spec(model: Path, **fields: object) -> GenerateSpec:
    """A spec of the tiny model; `fields` override `SMALL`, dotted paths as nested tables."""
    if "images_per_class" in fields:
        fields = {"num_images": None, **fields}
    generator = {"model": str(model), **PLAIN, **fields.pop("generator", {})}
    return GenerateSpec.model_validate({**SMALL, "generator": generator, **fields})


def make_dataset(root: Path | str, model: Path, **fields: object) -> Prepared:
    """Make what is missing of a small dataset, and return it as it is now."""
    spec = small_spec(model, **fields)
    make_here(spec, str(root))
    return prepare(spec, str(root))


def make_here(spec: GenerateSpec, root: str) -> int:
    """Make what is missing of a dataset in this process; returns how many images it drew."""
    opened, _ = open_root(prepare(spec, root))
    make = MakeShard(opened.resolved, root)
    return sum(make(shard).num_samples for shard in opened.pending())
