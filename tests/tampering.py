"""Datasets changed behind their makers' back, with records that agree with the change."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from factory.images import TRAINED_ALGORITHMIC_MEDIA, decode_image, encode_png, pixel_digest
from factory.records import ShardRecord, shard_name
from factory.shards.parquet import write_parquet
from factory.shards.reader import read_shard
from factory.shards.sample import Sample
from factory.shards.webdataset import write_webdataset
from factory.verify.prepare import Prepared


def read_samples(prepared: Prepared, shard: int) -> list[Sample]:
    record = prepared.records[shard]
    return list(read_shard(prepared.dataset.store.get(record.file), prepared.dataset.format))


def put_samples(prepared: Prepared, shard: int, samples: Sequence[Sample]) -> None:
    """Replace a shard's samples; file name, digest and counts of its record follow."""
    dataset, record = prepared.dataset, prepared.records[shard]
    write = write_parquet if dataset.format == "parquet" else write_webdataset
    data = write(samples, dataset.plan.class_names)
    sha256 = hashlib.sha256(data).hexdigest()
    changed = record.model_copy(
        update={
            "file": shard_name(shard, sha256, dataset.format),
            "sha256": sha256,
            "num_bytes": len(data),
            "num_samples": len(samples),
            "class_counts": dict(Counter(sample.class_name for sample in samples)),
            "num_candidates": max(record.num_candidates, len(samples)),
            "rejected": {"tampered": record.num_candidates - len(samples)},
        }
    )
    dataset.store.delete([record.name, record.file])
    dataset.store.put(changed.file, data)
    put_record(prepared, changed)


def put_record(prepared: Prepared, record: ShardRecord) -> None:
    prepared.dataset.store.put(record.name, record.model_dump_json().encode())


def with_provenance(sample: Sample, **facts: object) -> Sample:
    return replace(sample, provenance={**sample.provenance, **facts})


def with_other_pixels(sample: Sample) -> Sample:
    """One value changed by one; mark and pixel digest are right for the new image."""
    image = decode_image(sample.image).copy()
    image[0, 0, 0] ^= 1
    png = encode_png(image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=6)
    return with_provenance(replace(sample, image=png), pixel_sha256=pixel_digest(image))


def without_mark(sample: Sample) -> Sample:
    png = encode_png(decode_image(sample.image), mark=None, compress_level=6)
    return replace(sample, image=png)
