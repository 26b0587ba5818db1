"""Everything before work starts: refusals, what is there, what is left, and what it will cost."""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from factory.records import (
    Inventory,
    ShardRecord,
    check_root,
    claim_device,
    claim_root,
    read_root,
    take_inventory,
)
from factory.resolve import Resolved, resolve
from factory.spec import Frozen, GenerateSpec, SpecError
from factory.store import Store

_LOG = logging.getLogger(__name__)
_CHECKED_AT_ONCE = 32
_RECENT_SECONDS = 600.0


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


class SoFar(Frozen):
    """What the shards in a root tell of the work, also while a job is at it."""

    num_images: int
    """Images asked for that are there."""
    actor_seconds: float
    """Working time of these shards, summed over actors; starting and waiting are not in it."""
    cost: float | None
    """Of that time, in the currency of `resources.price_per_hour`; None if no price is given."""
    seconds_since_last: float
    """Since a shard was last recorded, by the store's clock."""
    images_per_second: float | None
    """In the ten minutes up to that shard; None: nothing was made of late, or one shard alone."""
    seconds_left: float | None
    """At that rate."""


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
    so_far: SoFar | None
    """None while there is no shard."""
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
    if spec.recheck:
        inventory = _rehash(store, inventory, inventory.records.values())
    return Prepared(resolved, store, inventory)


def open_root(prepared: Prepared) -> tuple[Prepared, dict[str, str]]:
    """Claim the root and mend it: what is broken is deleted, to be made again.

    Returns:
        The root as it is now, and what was deleted -> why.

    Raises:
        SpecError: if the root belongs to another spec, or holds what several kinds of device made
            while they are not to be mixed.
    """
    resolved, store = prepared.resolved, prepared.store
    claim_root(store, resolved.root_spec)
    if prepared.num_pending and not resolved.spec.resources.mix_devices:
        _keep_to_one_device(prepared)
    suspected = prepared.inventory.broken
    if not suspected:
        return prepared, {}
    # Another driver may have mended it since.
    now = take_inventory(store, resolved.fingerprint)
    again = [record for record in now.records.values() if record.name in suspected]
    broken = _rehash(store, now, again).broken
    store.delete(broken)
    inventory = take_inventory(store, resolved.fingerprint)
    return Prepared(resolved, store, inventory), broken


def _keep_to_one_device(prepared: Prepared) -> None:
    kinds = sorted({record.device.kind for record in prepared.inventory.records.values()})
    if len(kinds) > 1:
        raise SpecError(
            f"root {prepared.store.url}: holds shards made on {len(kinds)} kinds of device "
            f"({', '.join(kinds)}); go on by resources.mix_devices=true, or give another --root"
        )
    if kinds:
        claim_device(prepared.store, kinds[0])


class OtherRoot(SpecError):
    """A machine sees another folder than the driver does; no shard can be made there."""


def check_same_root(store: Store, fingerprint: str, shown: str | None) -> None:
    """Refuse to work on a machine that sees another folder than the driver does.

    Args:
        store: the root, as this machine sees it.
        fingerprint: of the driver's spec.
        shown: file that the driver put there for this run; see `Store.shown`.

    Raises:
        OtherRoot: if the root's spec is not there or is another one, or the file is not there, as
            in an older copy.
    """
    try:
        there = read_root(store).fingerprint
    except SpecError:
        there = "nothing"
    if there == fingerprint and (shown is None or store.exists(shown)):
        return
    if there == fingerprint:
        there = f"another folder with {there}"
    raise OtherRoot(
        f"root {store.url}: this machine sees {there} there, the driver sees {fingerprint}; "
        "give a root that all machines share, e.g. --root s3://bucket/folder"
    )


def estimate(prepared: Prepared) -> Estimate | None:
    """Extrapolate from the root's records to the pending shards; None without records."""
    records = list(prepared.inventory.records.values())
    num_samples = sum(record.num_samples for record in records)
    if not num_samples:
        return None
    seconds = sum(sum(record.seconds.values()) for record in records)
    return extrapolate(
        prepared,
        measured_on=f"{len(records)} records of this root",
        device=records[-1].device.kind,
        actor_seconds=prepared.num_images_pending * seconds / num_samples,
        bytes_per_image=sum(record.num_bytes for record in records) / num_samples,
    )


def extrapolate(
    prepared: Prepared,
    *,
    measured_on: str,
    device: str,
    actor_seconds: float,
    bytes_per_image: float,
) -> Estimate:
    """Bytes, time and cost of what is pending, which takes actors so many seconds in all.

    Without `resources.max_actors` the time is that of one actor: which cluster will do the work
    is not known before it does.
    """
    resources = prepared.resolved.spec.resources
    num_actors = min(resources.max_actors or 1, max(prepared.num_pending, 1))
    return Estimate(
        measured_on=measured_on,
        device=device,
        num_bytes=round(prepared.num_images_pending * bytes_per_image),
        actor_seconds=round(actor_seconds, 1),
        seconds=round(actor_seconds / num_actors, 1),
        num_actors=num_actors,
        cost=_cost(prepared, actor_seconds),
    )


def so_far(prepared: Prepared, now: float) -> SoFar | None:
    """What was made until `now`, in seconds since 1970; None without records."""
    records = prepared.inventory.records.values()
    times = prepared.store.times("records")
    # A record may be superseded between the two looks at the root.
    put = sorted((times[one.name], one.num_samples) for one in records if one.name in times)
    if not put:
        return None
    actor_seconds = sum(sum(record.seconds.values()) for record in records)
    rate = _recent_rate(put, now)
    return SoFar(
        num_images=prepared.resolved.plan.num_images - prepared.num_images_pending,
        actor_seconds=round(actor_seconds, 1),
        cost=_cost(prepared, actor_seconds),
        seconds_since_last=round(max(now - put[-1][0], 0.0), 1),
        images_per_second=None if rate is None else round(rate, 2),
        seconds_left=None if rate is None else round(prepared.num_images_pending / rate, 1),
    )


def _recent_rate(put: list[tuple[float, int]], now: float) -> float | None:
    """Images a second, from when each shard was recorded and its images, oldest first."""
    newest, _ = put[-1]
    recent = [(moment, images) for moment, images in put if newest - moment <= _RECENT_SECONDS]
    oldest, _ = recent[0]
    if now - newest > _RECENT_SECONDS or newest == oldest:
        return None
    # The oldest one was made before the time that is looked at.
    return sum(images for moment, images in recent if moment > oldest) / (newest - oldest)


def _cost(prepared: Prepared, actor_seconds: float) -> float | None:
    price = prepared.resolved.spec.resources.price_per_hour
    return None if price is None else round(actor_seconds / 3600 * price, 2)


def dry_run(prepared: Prepared) -> DryRunReport:
    """What would be done, what it would take, and how far it is."""
    resolved = prepared.resolved
    counts = resolved.plan.counts
    would_take = estimate(prepared)
    if would_take is None and prepared.num_pending and not resolved.spec.preview:
        _LOG.info("nothing is there to tell time and cost by; preview=true draws a batch for it")
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
        so_far=so_far(prepared, time.time()),
        estimate=would_take,
        preview=None,
    )


def _rehash(store: Store, inventory: Inventory, records: Iterable[ShardRecord]) -> Inventory:
    """`inventory` after the shards of some of its records were read and hashed."""
    broken = dict(inventory.broken)
    whole = dict(inventory.records)
    remaining = iter(records)
    while some := list(islice(remaining, _CHECKED_AT_ONCE)):
        shards = store.get_many(record.file for record in some)
        for record in some:
            found = hashlib.sha256(shards.get(record.file, b"")).hexdigest()
            if found != record.sha256:
                why = f"sha256 is {found[:8]}..., record says {record.sha256[:8]}..."
                broken |= {record.name: why, record.file: why}
                del whole[record.shard]
    return inventory._replace(records=whole, broken=broken)
