"""Everything before checks start: what the root promises, what it holds, what is missing."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from factory.plan import Candidate, Plan, class_counts, make_plan, parse_key
from factory.records import (
    SPEC_NAME,
    Inventory,
    RootSpec,
    ShardRecord,
    read_root,
    take_inventory,
)
from factory.resolve import Resolved, resolve
from factory.seeds import hash_seed
from factory.spec import (
    Frozen,
    GenerateSpec,
    SpecError,
    VerifySpec,
    differences,
    fingerprint,
    validate,
)
from factory.store import Store

NAMED = 100
"""Offenders of one kind that a report names; the rest is counted."""


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


@dataclass(frozen=True)
class Prepared:
    """A root to check, and how."""

    spec: VerifySpec
    dataset: Dataset
    inventory: Inventory
    resolved: Resolved | None
    """The spec with its model found again; None if nothing is to be drawn."""

    @property
    def records(self) -> dict[int, ShardRecord]:
        """Shard -> its counting record."""
        return self.inventory.records

    def missing(self) -> Iterator[int]:
        """Numbers of the shards that have no usable record or are too short."""
        for shard in self.dataset.plan.shards():
            record = self.records.get(shard)
            if record is None or record.num_samples < self.dataset.plan.quota(shard):
                yield shard

    @cached_property
    def replays(self) -> dict[int, tuple[int, ...]]:
        """Shard -> numbers of its candidate batches to draw again.

        An image costs its whole batch, so `replay` is a share of the batches, rounded up. The
        choice depends on the dataset alone.
        """
        shards = list(self.records)
        plan = self.dataset.plan
        batches = [plan.batches(shard, self.records[shard].num_candidates) for shard in shards]
        ends = np.cumsum([len(numbers) for numbers in batches])
        num_batches = int(ends[-1]) if shards else 0
        chosen = math.ceil(self.spec.replay * num_batches)
        random = np.random.default_rng(hash_seed("replay", self.dataset.root_spec.fingerprint))
        found: dict[int, tuple[int, ...]] = {}
        for index in np.sort(random.choice(num_batches, chosen, replace=False)):
            place = int(np.searchsorted(ends, index, side="right"))
            number = batches[place][int(index - (ends[place - 1] if place else 0))]
            found[shards[place]] = (*found.get(shards[place], ()), number)
        return found


class VerifyDryRun(Frozen):
    """What --dry-run prints."""

    root: str
    fingerprint: str
    num_shards: int
    num_images: int
    num_bytes: int
    """Bytes to read; shards that are replayed are read twice."""
    replay_batches: int
    replay_images: int
    """Images to draw for the replay."""
    only: str | None
    missing: int
    """Shards that have no usable record or are too short."""
    broken: dict[str, str]
    """Records that cannot be used -> why."""


def prepare(spec: VerifySpec, root: str) -> Prepared:
    """Look at `root` and, if images are to be drawn, find its model; writes nothing.

    Args:
        spec: what to check.
        root: absolute path or URL.

    Raises:
        SpecError: if the root cannot be reached or is none, its spec is damaged, its model is not
            the one that the dataset was made with, or `only` is no key of it.
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
    if spec.only is not None:
        find_candidate(plan, spec.only)
    draws = spec.replay > 0 or spec.only is not None
    resolved = _resolve_again(root_spec, asked, spec.model) if draws else None
    return Prepared(spec, Dataset(store, root_spec, plan), inventory, resolved)


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


def dry_run(prepared: Prepared) -> VerifyDryRun:
    """What would be checked."""
    dataset, records = prepared.dataset, prepared.records
    num_batches = sum(map(len, prepared.replays.values()))
    num_bytes = sum(record.num_bytes for record in records.values())
    return VerifyDryRun(
        root=dataset.store.url,
        fingerprint=dataset.root_spec.fingerprint,
        num_shards=len(records),
        num_images=sum(record.num_samples for record in records.values()),
        num_bytes=num_bytes + sum(records[shard].num_bytes for shard in prepared.replays),
        replay_batches=num_batches,
        replay_images=num_batches * dataset.plan.batch_size,
        only=prepared.spec.only,
        missing=sum(1 for _ in prepared.missing()),
        broken=prepared.inventory.broken,
    )


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


def _resolve_again(root_spec: RootSpec, asked: GenerateSpec, model: str | None) -> Resolved:
    if model is not None:
        generator = asked.generator.model_copy(update={"model": model, "revision": None})
        asked = asked.model_copy(update={"generator": generator})
    try:
        resolved = resolve(asked)
    except SpecError as error:
        raise SpecError(f"{error} (to draw images again, give model=FOLDER)") from None
    if resolved.fingerprint != root_spec.fingerprint:
        changes = "; ".join(differences(root_spec.identity, resolved.root_spec.identity))
        raise SpecError(
            f"the dataset cannot be drawn again: it is {root_spec.fingerprint}, its spec now "
            f"resolves to {resolved.fingerprint} (then -> now: {changes}); give the model that "
            "it was made with as model=FOLDER"
        )
    return resolved
