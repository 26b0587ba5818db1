"""All that a card says of a root, gathered from its records, its spec, its model and reports."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from factory.adapters import AdapterKind, list_adapters
from factory.images import decode_image
from factory.mapping import ResolvedMapping
from factory.plan import Plan
from factory.prompts import ResolvedPrompts
from factory.publish.again import spec_to_make_again
from factory.publish.manifest import count_classes, package_versions
from factory.publish.measured import (
    Classification,
    Evaluation,
    find_classification,
    find_evaluation,
)
from factory.publish.model_licence import read_model_licence
from factory.records import SPEC_NAME, RootSpec, ShardRecord, dataset_digest, read_root
from factory.shards.reader import read_shard
from factory.sources.trained_on import chain
from factory.spec import Frozen, GenerateSpec, PublishSpec, SpecError, validate
from factory.store import Store

SHEET_NAME = "contact-sheet.png"
"""Of the root, and of the repository."""


class Model(Frozen):
    """What drew the images."""

    name: str
    """What provenance calls it."""
    digest: str
    """sha256 over its files, or its commit on the Hub."""
    hub_id: str | None
    licence: str | None
    """As its own card says."""
    adapter_kinds: tuple[AdapterKind, ...]
    """Of the adapters that it wore; empty where their root is out of reach."""


class Yields(Frozen):
    """What it took to get the images."""

    num_candidates: int
    """Images drawn; accepted and rejected ones add up to them."""
    rejected: dict[str, int]
    """Reason -> candidates."""
    candidates_by_class: dict[str, int]
    """Images drawn for each class; empty where they were drawn for no class, or without filters."""


class DeviceUse(Frozen):
    """Work of one kind of device."""

    kind: str
    num_images: int
    num_shards: int
    seconds: dict[str, float]
    """Working time by step, summed over the shards."""


class Seen(Frozen):
    """Real data that went into the images, or a model of which nothing is known."""

    name: str
    split: str | None = None
    num_images: int | None = None
    digest: str | None = None


class Facts(Frozen):
    """All that a card says of a root."""

    name: str
    fingerprint: str
    digest: str
    """sha256 over the digests of its shards."""
    num_images: int
    num_promised: int
    """Images that the root was to have; more than it has where shards are missing."""
    missing_shards: tuple[int, ...]
    """Shards that were to be there, and are not, or are damaged."""
    num_shards: int
    num_bytes: int
    class_counts: dict[str, int]
    """In label order."""
    image_size: tuple[int, int]
    """Height and width of the first image, px."""
    channels: int
    """1 (grey) or 3 (RGB)."""
    spec: GenerateSpec
    """As it was asked."""
    again: dict[str, Any]
    """What makes it again: its spec, less defaults, paths by name."""
    pins: dict[str, Any]
    """The resolved spec, every input by content."""
    prompts: ResolvedPrompts | None
    mapping: ResolvedMapping | None
    model: Model
    seen: tuple[Seen, ...] | None
    """Last seen first; None: not known."""
    yields: Yields
    devices: tuple[DeviceUse, ...]
    versions: dict[str, str]
    """Package -> version that can change a byte, several joined by commas."""
    has_sheet: bool
    evaluation: Evaluation | None
    """None: there is none, or it is of other images than the root holds now."""
    classification: Classification | None
    accepted: tuple[str, ...] = ()
    """Gates in spite of which the root is published."""


def gather_facts(
    spec: PublishSpec, store: Store, records: Mapping[int, ShardRecord], plan: Plan
) -> Facts:
    """Gather the facts of a root; one of its shards is read, and all where reports are given.

    Args:
        spec: what to publish; says where the reports lie.
        store: the root.
        records: of the shards that are published; at least one.
        plan: what the root promises.

    Raises:
        SpecError: if the root or a report cannot be read, or that of classify is of other images.
    """
    root_spec = read_root(store)
    asked = validate(GenerateSpec, root_spec.asked, f"root {store.url}: {SPEC_NAME}: asked")
    identity = root_spec.identity
    first = next(iter(records.values()))
    sample = read_shard(store.get(first.file), first.format)[0]
    height, width, channels = decode_image(sample.image).shape
    counts = count_classes(records.values(), identity["class_names"])
    missing = tuple(shard for shard in plan.shards() if shard not in records)
    prompts, mapping, start = map(identity.get, ("prompts", "mapping", "reconstruct"))
    return Facts(
        name=identity["name"],
        fingerprint=root_spec.fingerprint,
        digest=dataset_digest(dict(records)),
        num_images=sum(record.num_samples for record in records.values()),
        num_promised=plan.num_images,
        missing_shards=missing,
        num_shards=len(records),
        num_bytes=sum(record.num_bytes for record in records.values()),
        class_counts=counts,
        image_size=(height, width),
        channels=channels,
        spec=asked,
        again=spec_to_make_again(
            asked,
            _promised_counts(plan, counts) if missing else counts,
            layout=identity["layout"],
            source_counts=start and start["class_counts"],
        ),
        pins=identity,
        prompts=prompts and ResolvedPrompts.model_validate(prompts),
        mapping=mapping and ResolvedMapping.model_validate(mapping),
        model=_model(root_spec, str(sample.provenance["model_id"])),
        seen=_seen(root_spec),
        yields=_yields(asked, records),
        devices=_devices(records),
        versions=package_versions(records.values()),
        has_sheet=store.exists(SHEET_NAME),
        evaluation=find_evaluation(spec.evaluate, store.url) if spec.evaluate else None,
        classification=_classification(spec.classify, store) if spec.classify else None,
    )


def _promised_counts(plan: Plan, held: Mapping[str, int]) -> Mapping[str, int]:
    if plan.counts is not None:
        return dict(zip(plan.class_names, plan.counts, strict=True))
    # Nothing was asked of single classes: their sum alone is read.
    lacking = plan.num_images - sum(held.values())
    return {**held, plan.class_names[0]: held[plan.class_names[0]] + lacking}


def _model(root_spec: RootSpec, name: str) -> Model:
    asked, pinned = root_spec.asked["generator"], root_spec.identity["generator"]
    revision = asked.get("revision")
    return Model(
        name=name,
        digest=pinned["digest"],
        hub_id=None if revision is None else asked["model"],
        licence=read_model_licence(asked["model"], revision, digest=pinned["digest"]),
        adapter_kinds=_adapter_kinds(asked.get("adapters"), pinned.get("adapters") or {}),
    )


def _adapter_kinds(root: str | None, digests: Mapping[str, str]) -> tuple[AdapterKind, ...]:
    if root is None:
        return ()
    try:
        adapters, _ = list_adapters(Store(root))
    except (SpecError, OSError):
        return ()
    used = [adapter for name, adapter in adapters.items() if digests.get(name) == adapter.digest]
    return tuple(sorted({adapter.kind for adapter in used}))


def _seen(root_spec: RootSpec) -> tuple[Seen, ...] | None:
    if root_spec.trained_on is None:
        return None
    return tuple(
        Seen.model_validate({name: link[name] for name in Seen.model_fields if name in link})
        for link in chain(root_spec.trained_on)
    )


def _yields(asked: GenerateSpec, records: Mapping[int, ShardRecord]) -> Yields:
    rejected: Counter[str] = Counter()
    by_class: Counter[str] = Counter()
    for record in records.values():
        rejected.update(record.rejected)
        if len(record.class_counts) == 1 and asked.labels == "given":
            by_class[next(iter(record.class_counts))] += record.num_candidates
    return Yields(
        num_candidates=sum(record.num_candidates for record in records.values()),
        rejected=dict(rejected.most_common()),
        candidates_by_class=dict(by_class) if rejected else {},
    )


def _devices(records: Mapping[int, ShardRecord]) -> tuple[DeviceUse, ...]:
    by_kind: dict[str, list[ShardRecord]] = {}
    for record in records.values():
        by_kind.setdefault(record.device.kind, []).append(record)
    return tuple(
        DeviceUse(
            kind=kind,
            num_images=sum(record.num_samples for record in made),
            num_shards=len(made),
            seconds=_seconds(made),
        )
        for kind, made in sorted(by_kind.items())
    )


def _seconds(records: list[ShardRecord]) -> dict[str, float]:
    steps = dict.fromkeys(step for record in records for step in record.seconds)
    return {step: sum(record.seconds.get(step, 0.0) for record in records) for step in steps}


def _classification(folder: str, store: Store) -> Classification:
    found = find_classification(folder, store.url)
    if found is None:
        raise SpecError(
            f"classify: {folder} holds results, but of none of the images in root {store.url}; "
            "run jobs/classify.py on this root, or leave classify out"
        )
    return found
