"""Sources that the factory made: the recorded images of a root, or a prefix of them."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from factory.records import SPEC_NAME, RootSpec, ShardRecord, read_root, take_inventory
from factory.shards.reader import read_shard
from factory.sources.decode import EncodedImage, name_some, source_from_images
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError
from factory.store import Store

_READ_AT_ONCE = 4
"""Shards held in memory, fetched together: a store's delay is paid once for them."""


def open_root(
    spec: SourceSpec, store: Store, *, images_per_class: Mapping[str, int] | None = None
) -> Source:
    """Read the recorded images of a root, in the order of its shards.

    Args:
        spec: how to convert the images.
        store: the root.
        images_per_class: how many to read of each class, by name (those left out: none). They are
            the first ones, and stay so while the root grows: behind a shard that is not finished
            nothing counts. Fewer are read where there are fewer. None: all recorded images.

    Raises:
        SpecError: if there is no dataset, it has no finished shard, no class of an asked name, or
            a shard that is not what its record says; with the command that mends it.
    """
    store.check_reachable()
    root_spec = read_root(store)
    class_names = _class_names(store, root_spec)
    records = _records(store, root_spec)
    if images_per_class is None:
        takes = [(record, Counter(record.class_counts)) for record in records.values()]
    else:
        _check_asked(store, class_names, images_per_class)
        takes = _prefix(_unbroken(root_spec, records), images_per_class)
    source = source_from_images(
        _images(store, takes),
        sum(take.total() for _, take in takes),
        spec,
        name=root_spec.identity["name"],
        class_names=class_names,
    )
    return replace(source, trained_on=root_spec.trained_on)


def _class_names(store: Store, root_spec: RootSpec) -> tuple[str, ...]:
    names = root_spec.identity.get("class_names")
    if names is None:
        raise SpecError(
            f"root {store.url}: its {SPEC_NAME} is not that of a dataset; give the root of one, "
            "as jobs/generate.py makes it"
        )
    return tuple(names)


def _records(store: Store, root_spec: RootSpec) -> dict[int, ShardRecord]:
    records, broken, _ = take_inventory(store, root_spec.fingerprint)
    if broken:
        wrong = name_some([f"{name} ({why})" for name, why in broken.items()])
        raise SpecError(
            f"root {store.url}: {len(broken)} records cannot be used: {wrong}; "
            f"run jobs/generate.py with the dataset's spec and --root {store.url} to mend it"
        )
    if not records:
        raise SpecError(
            f"root {store.url}: holds no finished shard yet; "
            f"run jobs/generate.py with the dataset's spec and --root {store.url}"
        )
    return records


def _check_asked(
    store: Store, class_names: Sequence[str], images_per_class: Mapping[str, int]
) -> None:
    unknown = [name for name in images_per_class if name not in class_names]
    if unknown:
        raise SpecError(
            f"root {store.url}: has no classes {unknown}; its classes are {list(class_names)}; "
            "make a dataset of the classes it is used with, by the same names"
        )


def _unbroken(
    root_spec: RootSpec, records: Mapping[int, ShardRecord]
) -> Iterator[tuple[ShardRecord, Counter[str]]]:
    """Shards in their order, and their images of each class before which none is missing."""
    identity = root_spec.identity
    class_names, size = identity["class_names"], identity["shard_size"]
    if identity["layout"] == "pool" and identity["labels"] == "quota":
        yield from _unbroken_quotas(records, class_names, share=size // len(class_names))
        return
    # Shard s of `by_class` is the next one of class s mod K; only within a class is there an order.
    step = len(class_names) if identity["layout"] == "by_class" else 1
    expected: dict[int, int | None] = {lane: lane for lane in range(step)}
    for shard, record in records.items():
        lane = shard % step
        if expected[lane] == shard:
            expected[lane] = shard + step if record.num_samples == size else None
            yield record, Counter(record.class_counts)


def _unbroken_quotas(
    records: Mapping[int, ShardRecord], class_names: Sequence[str], *, share: int
) -> Iterator[tuple[ShardRecord, Counter[str]]]:
    """The same of a pool, whose shards hold `share` images of every class that goes on."""
    going_on = set(class_names)
    for expected, (shard, record) in enumerate(records.items()):
        if shard != expected:
            return
        counts = Counter(record.class_counts)
        yield record, Counter({name: counts[name] for name in going_on})
        going_on = {name for name in going_on if counts[name] == share}


def _prefix(
    shards: Iterator[tuple[ShardRecord, Counter[str]]], images_per_class: Mapping[str, int]
) -> list[tuple[ShardRecord, Counter[str]]]:
    """The shards to read, and how many images of each class to take of each."""
    missing = Counter(images_per_class)
    takes = []
    for record, counts in shards:
        take = missing & counts
        if take:
            takes.append((record, take))
            missing -= take
    return takes


def _images(
    store: Store, takes: Sequence[tuple[ShardRecord, Counter[str]]]
) -> Iterator[EncodedImage]:
    remaining = iter(takes)
    while some := list(itertools.islice(remaining, _READ_AT_ONCE)):
        shards = store.get_many(record.file for record, _ in some)
        for record, take in some:
            yield from _shard_images(store, record, take, shards.get(record.file, b""))


def _shard_images(
    store: Store, record: ShardRecord, take: Counter[str], data: bytes
) -> Iterator[EncodedImage]:
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise SpecError(
            f"root {store.url}: {record.file}: sha256 is {found[:12]}..., its record says "
            f"{record.sha256[:12]}...; run jobs/generate.py with the dataset's spec, "
            f"--root {store.url} and recheck=true"
        )
    samples = read_shard(data, record.format)
    taken: Counter[str] = Counter()
    for sample in samples:
        if taken[sample.class_name] < take[sample.class_name]:
            taken[sample.class_name] += 1
            yield EncodedImage(sample.key, sample.image, sample.label)
    if taken != take:
        raise SpecError(
            f"root {store.url}: {record.file}: holds {dict(taken)} of the {dict(take)} images that "
            f"its record promises; delete {record.name}, then run jobs/generate.py with the "
            f"dataset's spec and --root {store.url}"
        )
