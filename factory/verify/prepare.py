"""Everything before checks start: what the root promises, what it holds, what is missing."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from factory.records import Inventory, RootSpec, ShardRecord
from factory.resolve import Resolved, resolve
from factory.seeds import hash_seed
from factory.sources.promise import Dataset, find_candidate, open_dataset
from factory.spec import Frozen, GenerateSpec, SpecError, VerifySpec, differences


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
        return self.dataset.missing(self.records)

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
    dataset, inventory, asked = open_dataset(root)
    if spec.only is not None:
        find_candidate(dataset.plan, spec.only)
    draws = spec.replay > 0 or spec.only is not None
    resolved = _resolve_again(dataset.root_spec, asked, spec.model) if draws else None
    return Prepared(spec, dataset, inventory, resolved)


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
