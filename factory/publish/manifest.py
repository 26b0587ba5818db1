"""The manifest of what is about to be published, from the records of its shards."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.records import SUFFIXES, RootSpec, ShardRecord
from factory.shards.manifest import Manifest, PublishedConfig, PublishedFile, merkle_root
from factory.shards.parquet import value_feature
from factory.shards.reader import read_shard
from factory.shards.sample import PROVENANCE


def published_path(config: str, file: str) -> str:
    """Where a shard's file lies in the repository."""
    return f"data/{config}/{PurePosixPath(file).name}"


def data_glob(config: str, form: str) -> str:
    """All files of a config in the repository."""
    return f"data/{config}/*{SUFFIXES[form]}"


def root_config(
    name: str,
    records: Sequence[ShardRecord],
    class_names: Sequence[str],
    *,
    num_synthetic: int,
    first: bytes,
) -> PublishedConfig:
    """The config of a root.

    Args:
        name: what the config is called.
        records: of the shards that are published, at least one.
        class_names: in label order.
        num_synthetic: images of these shards that are synthetic.
        first: content of the first shard.
    """
    form = records[0].format
    files = [
        PublishedFile(
            path=published_path(name, record.file),
            sha256=record.sha256,
            num_bytes=record.num_bytes,
            num_samples=record.num_samples,
        )
        for record in records
    ]
    num_images = sum(file.num_samples for file in files)
    return PublishedConfig(
        name=name,
        kind="root",
        files=tuple(sorted(files, key=lambda file: file.path)),
        num_images=num_images,
        class_names=tuple(class_names),
        class_counts=count_classes(records, class_names),
        num_synthetic=num_synthetic,
        num_real=num_images - num_synthetic,
        features=shard_features(first, form, class_names),
        format="parquet" if form == "parquet" else "webdataset",
        data_glob=data_glob(name, form),
    )


def make_manifest(
    root_spec: RootSpec, records: Iterable[ShardRecord], configs: Sequence[PublishedConfig]
) -> Manifest:
    """The manifest of a repository with these configs."""
    return Manifest(
        name=root_spec.identity["name"],
        fingerprint=root_spec.fingerprint,
        configs=tuple(configs),
        merkle_root=merkle_root([file for config in configs for file in config.files]),
        versions=package_versions(records),
    )


def count_classes(records: Iterable[ShardRecord], class_names: Sequence[str]) -> dict[str, int]:
    """Images of each class, in the order of the names."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record.class_counts)
    return {name: counts[name] for name in class_names}


def package_versions(records: Iterable[ShardRecord]) -> dict[str, str]:
    """Package -> version that shards were made with, several joined by commas."""
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.device.versions.items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in found.items()}


def shard_features(data: bytes, form: str, class_names: Sequence[str]) -> dict[str, Any]:
    """The columns of a shard as `datasets` reads them, in its own words.

    Args:
        data: the whole file.
        form: "parquet" or "webdataset".
        class_names: in label order.
    """
    if form == "parquet":
        metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
        return json.loads(metadata[b"huggingface"])["info"]["features"]
    facts: Mapping[str, pa.DataType] = {
        "class_name": pa.string(),
        **{name: PROVENANCE[name] for name in read_shard(data, form)[0].provenance},
    }
    return {
        "__key__": value_feature(pa.string()),
        "__url__": value_feature(pa.string()),
        "cls": {"names": list(class_names), "_type": "ClassLabel"},
        "json": {name: value_feature(facts[name]) for name in sorted(facts)},
        "png": {"_type": "Image"},
    }
