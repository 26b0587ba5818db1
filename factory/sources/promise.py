"""What a root promises: the plan of all that was asked of it, and which shards it still lacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from factory.plan import Candidate, Plan, class_counts, make_plan, parse_key
from factory.records import (
    SPEC_NAME,
    Inventory,
    RootSpec,
    ShardRecord,
    read_root,
    take_inventory,
)
from factory.spec import GenerateSpec, SpecError, fingerprint, validate
from factory.store import Store


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a root promises; small enough to go to every task."""

    store: Store
    root_spec: RootSpec
    plan: Plan
    """Of all that was asked first and all that the root has grown to since."""

    @property
    def format(self) -> str:
        """Format of all shards."""
        return self.root_spec.identity["output"]["format"]

    def missing(self, records: Mapping[int, ShardRecord]) -> Iterator[int]:
        """Numbers of the shards that have no usable record or are too short."""
        for shard in self.plan.shards():
            record = records.get(shard)
            if record is None or record.num_samples < self.plan.quota(shard):
                yield shard


class OpenedRoot(NamedTuple):
    """A root of a dataset: what it promises, and what it holds."""

    dataset: Dataset
    inventory: Inventory
    asked: GenerateSpec
    """As it was asked first, with paths."""


def open_dataset(root: str) -> OpenedRoot:
    """Look at `root`; no shard is opened, and nothing written.

    Args:
        root: absolute path or URL.

    Raises:
        SpecError: if the root cannot be reached or is none, or its spec is damaged.
    """
    store = Store(root)
    store.check_reachable()
    root_spec = read_root(store)
    subject = f"root {store.url}: {SPEC_NAME}"
    found = fingerprint(root_spec.identity)
    if found != root_spec.fingerprint:
        raise SpecError(
            f"{subject}: its identity has fingerprint {found}, but it says "
            f"{root_spec.fingerprint}; delete it and run generate again with the dataset's spec, "
            "which keeps every shard"
        )
    asked = validate(GenerateSpec, root_spec.asked, subject)
    inventory = take_inventory(store, root_spec.fingerprint)
    plan = _covering(_plan(root_spec, asked), inventory.records)
    return OpenedRoot(Dataset(store, root_spec, plan), inventory, asked)


def find_candidate(plan: Plan, key: str) -> Candidate:
    """The candidate of a key, be it stored or not.

    Raises:
        SpecError: if the plan gives that shard and candidate another key.
    """
    candidate = plan.candidate(*parse_key(key))
    if candidate.key != key:
        raise SpecError(
            f"{key!r}: is no key of this dataset; its shard {candidate.shard} calls candidate "
            f"{candidate.index} {candidate.key}"
        )
    return candidate


def _plan(root_spec: RootSpec, asked: GenerateSpec) -> Plan:
    """The plan of a root, from its identity: unlike `resolve`, this needs no model."""
    identity = root_spec.identity
    source_counts = (identity.get("reconstruct") or {}).get("class_counts")
    class_names = tuple(identity["class_names"])
    return make_plan(asked, class_names, layout=identity["layout"], source_counts=source_counts)


def _covering(plan: Plan, records: Mapping[int, ShardRecord]) -> Plan:
    """`plan` with counts raised to what the root holds.

    The root's spec keeps the counts that were asked first; a root that has grown holds more.
    """
    size = plan.shard_size
    held = {shard: min(record.num_samples, size) for shard, record in records.items()}
    if plan.counts is None or plan.layout == "interleaved":
        total = max([plan.num_images, *(shard * size + num for shard, num in held.items())])
        if plan.counts is None:
            return replace(plan, total=total)
        counts = class_counts(GenerateSpec(num_images=total), plan.class_names)
        return replace(plan, counts=counts)
    counts = list(plan.counts)
    for shard, num in held.items():
        if plan.layout == "pool":
            there = records[shard].class_counts
            counts = [
                max(count, shard * plan.share + there.get(name, 0))
                for count, name in zip(counts, plan.class_names, strict=True)
            ]
        else:
            round_, label = divmod(shard, len(counts))
            counts[label] = max(counts[label], round_ * size + num)
    return replace(plan, counts=tuple(counts))
