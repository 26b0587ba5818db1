"""The YAML at the head of a card: what the Hub and `datasets` read of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import DatasetCardData

from factory.publish.facts import Facts
from factory.publish.markdown import one_line
from factory.shards.manifest import Manifest, PublishedConfig
from factory.spec import GenerateSpec, PublishSpec, RealConfig

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")


def front_matter(facts: Facts, manifest: Manifest, spec: PublishSpec) -> DatasetCardData:
    """The card's metadata; what is not known is left out.

    `datasets` refuses to load what has another number of images than `dataset_info` says. Sizes
    are those of the files, since nobody knows what they will take in memory and none is checked;
    without one `datasets` does not read the number of images.
    """
    licences = _licences(spec)
    return DatasetCardData(
        pretty_name=title(facts, spec),
        license=licences[0] if len(licences) == 1 else list(licences) or None,
        license_name=spec.licence_name,
        license_link=spec.licence_link,
        annotations_creators=["machine-generated"],
        source_datasets=["original" if facts.spec.reconstruct is None else "extended"],
        task_categories=["image-classification"],
        size_categories=[size_category(manifest.num_images)],
        tags=_tags(facts),
        configs=[
            {
                "config_name": config.name,
                "data_files": [{"split": config.split, "path": config.data_glob}],
            }
            | ({"default": True} if config.kind == "root" else {})
            for config in manifest.configs
        ],
        dataset_info=[_dataset_info(config) for config in manifest.configs],
    )


def title(facts: Facts, spec: PublishSpec) -> str:
    """What the dataset is called."""
    is_named = facts.name != GenerateSpec.model_fields["name"].default
    return one_line(
        spec.title or (facts.name if is_named else f"Synthetic images by {facts.model.name}")
    )


def size_category(num_images: int) -> str:
    """The Hub's word for a number of images."""
    decade = len(str(num_images)) - 1
    return _SIZES[min(max(decade - 2, 0), len(_SIZES) - 1)]


def _licences(spec: PublishSpec) -> tuple[str, ...]:
    real = [config.licence for config in spec.more.values() if isinstance(config, RealConfig)]
    return tuple(dict.fromkeys(licence for licence in (spec.licence, *real) if licence))


def _tags(facts: Facts) -> list[str]:
    generator = facts.spec.generator.kind.replace("_", "-")
    return ["synthetic", "image-classification", "diffusion", generator, "factory"]


def _dataset_info(config: PublishedConfig) -> dict[str, Any]:
    split = {
        "name": config.split,
        "num_bytes": config.num_bytes,
        "num_examples": config.num_images,
    }
    return {
        "config_name": config.name,
        "features": list(_features(config.features)),
        "splits": [split],
        "download_size": config.num_bytes,
    }


def _features(features: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Columns as `datasets` writes them into a card, from what it writes into Parquet."""
    for name, feature in features.items():
        match feature:
            case {"_type": "Value", "dtype": str(dtype)}:
                yield {"name": name, "dtype": dtype}
            case {"_type": "ClassLabel", "names": names}:
                by_label = {str(label): class_name for label, class_name in enumerate(names)}
                yield {"name": name, "dtype": {"class_label": {"names": by_label}}}
            case {"_type": str(kind)}:
                yield {"name": name, "dtype": kind.lower()}
            case _:
                yield {"name": name, "struct": list(_features(feature))}
