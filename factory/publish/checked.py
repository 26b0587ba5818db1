"""A root as it is: every shard read and checked as jobs/verify.py checks it."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from factory.progress import Progress
from factory.records import ShardRecord
from factory.shards.reader import read_shard
from factory.shards.sample import Sample
from factory.sources.check import Finding, check_shard, find_duplicates
from factory.sources.promise import Dataset, OpenedRoot
from factory.spec import JobError


@dataclass(frozen=True)
class Checked:
    """What checking all shards of a root has shown."""

    records: dict[int, ShardRecord]
    """Shard -> record, of the shards whose bytes are those of their records."""
    damaged: tuple[int, ...]
    """Shards whose bytes are others."""
    num_synthetic: int
    """Images of these shards that are synthetic."""
    findings: tuple[Finding, ...]
    """Beside those about marks; of each shard at most 100."""
    num_findings: int
    """All of them, but for those about marks."""
    num_wrong_marks: int
    num_duplicates: int
    """Images whose pixels an earlier one has."""
    broken: dict[str, str]
    """Records that cannot be used -> why."""


def check_root(opened: OpenedRoot) -> Checked:
    """Hash, recount and decode every recorded shard.

    Raises:
        SpecError: if the root is gone meanwhile.
    """
    dataset, (records, broken, _), _ = opened
    check = partial(check_shard, dataset)
    checks = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(num_images=sum(record.num_samples for record in records.values())) as bar,
    ):
        for one in pool.map(check, records.values()):
            checks.append(one)
            bar.add(records[one.shard].num_samples)
    whole = [one for one in checks if not one.is_damaged]
    num_duplicates, _ = find_duplicates(dataset, records, {one.shard: one.pixels for one in whole})
    num_wrong_marks = sum(one.num_wrong_marks for one in checks)
    return Checked(
        records={one.shard: records[one.shard] for one in whole},
        damaged=tuple(one.shard for one in checks if one.is_damaged),
        num_synthetic=sum(one.num_synthetic for one in whole),
        findings=tuple(
            finding for one in checks for finding in one.findings if not finding.is_mark
        ),
        num_findings=sum(one.num_findings for one in checks) - num_wrong_marks,
        num_wrong_marks=num_wrong_marks,
        num_duplicates=num_duplicates,
        broken=broken,
    )


def read_again(
    dataset: Dataset, records: Mapping[int, ShardRecord]
) -> Iterator[tuple[Sample, ...]]:
    """The samples of shards that were checked, shard by shard.

    Raises:
        JobError: if a shard is no longer what its record says.
    """
    for record in records.values():
        data = dataset.store.get(record.file)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise JobError(
                f"root {dataset.store.url}: {record.file} has changed since it was checked; run "
                "the same again"
            )
        yield read_shard(data, record.format)
