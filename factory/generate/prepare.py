"""Everything before work starts: refusals, what is there, what is left, and what it will cost."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from factory.records import (
    Inventory,
    ShardRecord,
    check_root,
    claim_root,
    read_root,
    take_inventory,
)
from factory.resolve import Resolved, resolve
from factory.spec import Frozen, GenerateSpec, SpecError
from factory.store import Store

_CHECKED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Prepared:
    """A resolved spec beside the root that it goes to."""

    resolved: Resolved
    store: Store
    inventory: Inventory

    def pending(self) -> Iterator[int]:
        """Numbers of the shards that are missing or too short."""
        plan, records = self.resolved.plan, self.inventory.records
        for shard in plan.shards():
            record = records.get(shard)
            if record is None or record.num_samples < plan.quota(shard):
                yield shard

    def done(self) -> list[ShardRecord]:
        """Records of the planned shards that are long enough."""
        quota = self.resolved.plan.quota
        records = self.inventory.records.items()
        return [record for shard, record in records if 0 < quota(shard) <= record.num_samples]

    @property
    def num_pending(self) -> int:
        """How many shards are missing or too short."""
        return self.resolved.plan.num_shards - len(self.done())

    @property
    def num_images_pending(self) -> int:
        """Images to draw; a short shard that grows is made again whole, so it counts in full."""
        plan = self.resolved.plan
        return plan.num_images - sum(plan.quota(record.shard) for record in self.done())


class Estimate(Frozen):
    """What the pending shards will take, extrapolated from what was measured."""

    measured_on: str
    """E.g. "40 records of this root"."""
    device: str
    num_bytes: int
    actor_seconds: float
    """Working time summed over actors."""
    seconds: float
    """Wall-clock time with `num_actors`."""
    num_actors: int
    cost: float | None
    """In the currency of `resources.price_per_hour`; None if no price is given."""


class DryRunReport(Frozen):
    """What --dry-run prints."""

    root: str
    fingerprint: str
    resolved_spec: dict[str, object]
    num_images: int
    class_counts: dict[str, int] | None
    """None: whatever classes come."""
    num_shards: int
    done: int
    pending: int
    broken: dict[str, str]
    """Records or shards that cannot be used and will be made again -> why."""
    estimate: Estimate | None
    """None while there is nothing to extrapolate from; `preview=true` times a batch."""
    preview: str | None


def prepare(spec: GenerateSpec, root: str) -> Prepared:
    """Resolve `spec` and look at `root`; writes nothing.

    Args:
        spec: what is asked.
        root: absolute path or URL.

    Raises:
        SpecError: for anything wrong in the spec, the model or the root.
    """
    resolved = resolve(spec)
    store = Store(root)
    store.check_reachable()
    check_root(store, resolved.root_spec)
    inventory = take_inventory(store, resolved.fingerprint)
    return Prepared(resolved, store, _rehash(store, inventory) if spec.recheck else inventory)


def open_root(prepared: Prepared) -> tuple[Prepared, dict[str, str]]:
    """Claim the root and mend it: what is broken is deleted, to be made again.

    Returns:
        The root as it is now, and what was deleted -> why.

    Raises:
        SpecError: if the root belongs to another spec.
    """
    resolved, store = prepared.resolved, prepared.store
    claim_root(store, resolved.root_spec)
    broken = prepared.inventory.broken
    if not broken:
        return prepared, {}
    store.delete(broken)
    inventory = take_inventory(store, resolved.fingerprint)
    return Prepared(resolved, store, inventory), broken


def check_same_root(store: Store, fingerprint: str) -> None:
    """Refuse to work on a machine that sees another folder than the driver does.

    Raises:
        SpecError: if the root's spec is not there, or is another one.
    """
    try:
        there = read_root(store).fingerprint
    except SpecError:
        there = "nothing"
    if there != fingerprint:
        raise SpecError(
            f"root {store.url}: this machine sees {there} there, the driver sees {fingerprint}; "
            "give a root that all machines share, e.g. --root s3://bucket/folder"
        )


def estimate(prepared: Prepared) -> Estimate | None:
    """Extrapolate from the root's records to the pending shards; None without records."""
    records = list(prepared.inventory.records.values())
    num_samples = sum(record.num_samples for record in records)
    if not num_samples:
        return None
    return extrapolate(
        prepared,
        measured_on=f"{len(records)} records of this root",
        device=records[-1].device.kind,
        seconds_per_image=sum(sum(record.seconds.values()) for record in records) / num_samples,
        bytes_per_image=sum(record.num_bytes for record in records) / num_samples,
    )


def extrapolate(
    prepared: Prepared,
    *,
    measured_on: str,
    device: str,
    seconds_per_image: float,
    bytes_per_image: float,
) -> Estimate:
    """Bytes, time and cost of what is pending, at measured rates.

    Without `resources.max_actors` the time is that of one actor: which cluster will do the work
    is not known before it does.
    """
    resources = prepared.resolved.spec.resources
    num_actors = min(resources.max_actors or 1, max(prepared.num_pending, 1))
    num_images = prepared.num_images_pending
    actor_seconds = num_images * seconds_per_image
    price = resources.price_per_hour
    return Estimate(
        measured_on=measured_on,
        device=device,
        num_bytes=round(num_images * bytes_per_image),
        actor_seconds=round(actor_seconds, 1),
        seconds=round(actor_seconds / num_actors, 1),
        num_actors=num_actors,
        cost=None if price is None else round(actor_seconds / 3600 * price, 2),
    )


def dry_run(prepared: Prepared) -> DryRunReport:
    """What would be done, and what it would take."""
    resolved = prepared.resolved
    counts = resolved.plan.counts
    return DryRunReport(
        root=prepared.store.url,
        fingerprint=resolved.fingerprint,
        resolved_spec=resolved.root_spec.identity,
        num_images=resolved.plan.num_images,
        class_counts=None
        if counts is None
        else dict(zip(resolved.plan.class_names, counts, strict=True)),
        num_shards=resolved.plan.num_shards,
        done=len(prepared.done()),
        pending=prepared.num_pending,
        broken=prepared.inventory.broken,
        estimate=estimate(prepared),
        preview=None,
    )


def _rehash(store: Store, inventory: Inventory) -> Inventory:
    broken = dict(inventory.broken)
    whole = dict(inventory.records)
    remaining = iter(inventory.records.values())
    while some := list(islice(remaining, _CHECKED_AT_ONCE)):
        shards = store.get_many(record.file for record in some)
        for record in some:
            found = hashlib.sha256(shards.get(record.file, b"")).hexdigest()
            if found != record.sha256:
                why = f"sha256 is {found[:8]}..., record says {record.sha256[:8]}..."
                broken |= {record.name: why, record.file: why}
                del whole[record.shard]
    return inventory._replace(records=whole, broken=broken)
