"""What was made: the record of a shard, the root's spec, and what a root holds.

A root looks like this:

    spec.json                           what is asked, with its fingerprint; created once
    device.json                         on what kind of device; created with the first shard
    data/train-00012-3fa9c1d2.parquet   a shard; its name holds its number and its digest
    records/00000/00012-250.json        the record of shard 12 with 250 samples, written last

A record is created, never overwritten. A shard that grows gets a second record, and the one with
more samples counts. A file in data/ that no counting record names does not exist for any reader.
"""

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from factory.spec import Frozen, SpecError, differences
from factory.store import INCOMING, Store

SPEC_NAME = "spec.json"
ASKED_NAME = "asked.json"
"""In a folder of results or adapters: the spec of the last run; by it actors know that they see the
driver's root."""
DEVICE_NAME = "device.json"
SUFFIXES = {"parquet": ".parquet", "webdataset": ".tar"}
"""Format of shards -> ending of their files."""

_RECORD_NAME = re.compile(r"records/\d{5,}/(\d{5,})-(\d+)\.json")
_SHARD_NAME = re.compile(r"data/train-(\d{5,})-[0-9a-f]{8}\.\w+")
_RECORDS_PER_FOLDER = 1_000
_ON_ITS_WAY_SECONDS = 3_600.0
"""From a shard's file to its record, at most; it takes seconds."""


class Device(Frozen):
    """Where bytes were made, as far as it can change them."""

    kind: str
    """E.g. "cpu AVX512" or "NVIDIA H100 80GB HBM3"."""
    versions: dict[str, str]
    """Package -> version, of those that can change a byte."""


class RootDevice(Frozen):
    """Content of the root's device.json: all of its shards are made on one kind of device."""

    kind: str


class OtherDevice(SpecError):
    """A root is kept to another kind of device than the one at hand; no other shard will do."""


class ShardRecord(Frozen):
    """The proof that a shard exists."""

    schema_version: Literal[1] = 1
    fingerprint: str
    shard: int
    file: str
    """Name of the shard's file in the root."""
    sha256: str
    num_bytes: int
    num_samples: int
    class_counts: dict[str, int]
    num_candidates: int
    """Images drawn, those that the last full batch held beyond the quota left out."""
    rejected: dict[str, int]
    """Reason -> candidates rejected; accepted + rejected = num_candidates."""
    device: Device
    seconds: dict[str, float]
    """Wall-clock time by step: `swap` (of adapters), `sample`, `select`, `encode`, `commit`."""

    @property
    def name(self) -> str:
        """Name of the record in the root."""
        return record_name(self.shard, self.num_samples)

    @property
    def format(self) -> str:
        """Format of the shard's file."""
        return next(form for form, suffix in SUFFIXES.items() if self.file.endswith(suffix))


class RootSpec(Frozen):
    """Content of the root's spec.json."""

    schema_version: Literal[1] = 1
    fingerprint: str
    identity: dict[str, Any]
    """The resolved spec: all that changes a byte, every input pinned by content."""
    asked: dict[str, Any]
    """The spec as it was asked, with paths; not part of the fingerprint."""
    trained_on: dict[str, Any] | None = None
    """Of a dataset: the real data that its model had seen, as the model says it; None where it
    does not. Not part of the fingerprint, since the model's digest is."""


Stray = Literal["superseded", "unnamed", "unfinished"]
"""A record that is shorter than the counting one, or its file; a file in data/ that no record
names; a file in .incoming/."""


class Inventory(NamedTuple):
    """What a root holds."""

    records: dict[int, ShardRecord]
    """Shard -> its counting record, in order of the shards."""
    broken: dict[str, str]
    """Name of a record or shard that cannot be used -> why."""
    strays: dict[str, Stray]
    """Name of a file that does not count, in order -> what it is."""


def record_name(shard: int, num_samples: int) -> str:
    """Name of the record of a shard with that many samples."""
    return f"records/{shard // _RECORDS_PER_FOLDER:05d}/{shard:05d}-{num_samples}.json"


def shard_name(shard: int, sha256: str, form: str) -> str:
    """Name of a shard's file of format `form`."""
    return f"data/train-{shard:05d}-{sha256[:8]}{SUFFIXES[form]}"


def is_shard_file(path: str) -> bool:
    """Whether a path ends as files of shards do, whoever has written it."""
    return PurePosixPath(path).suffix in SUFFIXES.values()


def refuse_others(store: Store, spec: type[Frozen], *, job: str) -> None:
    """Refuse a root for a job's results where a dataset, a model or another job's results lie.

    Args:
        store: the root.
        spec: model of the job's own specs.
        job: its name.

    Raises:
        SpecError: if it has a spec.json, or an asked.json that is no spec of this job.
    """
    own = f"give the results of {job} a --root of their own"
    if store.exists(SPEC_NAME):
        raise SpecError(f"root {store.url}: holds a dataset or a model ({SPEC_NAME}); {own}")
    if store.exists(ASKED_NAME):
        try:
            spec.model_validate_json(store.get(ASKED_NAME))
        except ValidationError:
            raise SpecError(
                f"root {store.url}: holds the results of another job, or of another version of "
                f"{job} ({ASKED_NAME} is no spec of it); {own}"
            ) from None


def refuse_results(store: Store) -> None:
    """Refuse a root without spec.json, for anything else, where a job's results lie.

    Raises:
        SpecError: if it has an asked.json.
    """
    if store.exists(ASKED_NAME):
        raise SpecError(
            f"root {store.url}: holds the results of a job ({ASKED_NAME}); give another --root"
        )


def read_root(store: Store) -> RootSpec:
    """The root's spec.

    Raises:
        SpecError: if there is none, or it is no spec.
    """
    try:
        data = store.get(SPEC_NAME)
    except FileNotFoundError:
        raise SpecError(
            f"root {store.url}: holds no {SPEC_NAME}; make a dataset there with "
            f"`make generate` or jobs/generate.py --root {store.url}"
        ) from None
    try:
        return RootSpec.model_validate_json(data)
    except ValidationError as error:
        raise SpecError(
            f"root {store.url}: {SPEC_NAME} is no spec of a root "
            f"({error.error_count()} errors, first: {error.errors()[0]['msg']})"
        ) from None


def claim_root(store: Store, spec: RootSpec) -> None:
    """Create the root's spec.json, or join a root of the same fingerprint.

    Raises:
        SpecError: if the root belongs to another resolved spec; the message has the difference.
    """
    if not store.exists(SPEC_NAME) and store.create(
        SPEC_NAME, spec.model_dump_json(indent=1).encode()
    ):
        return
    check_root(store, spec)


def check_root(store: Store, spec: RootSpec) -> None:
    """Refuse a root of another resolved spec, or of a job's results; an empty one passes.

    Raises:
        SpecError: with every place where the two specs differ.
    """
    if not store.exists(SPEC_NAME):
        refuse_results(store)
        return
    there = read_root(store)
    if there.fingerprint != spec.fingerprint:
        changes = "; ".join(differences(there.identity, spec.identity))
        raise SpecError(
            f"root {store.url}: was made by spec {there.fingerprint}, this spec is "
            f"{spec.fingerprint} (root -> spec: {changes}); give another --root, or the root's spec"
        )


def claim_device(store: Store, kind: str) -> None:
    """Keep the root to devices of `kind`, or join a root that is kept to them already.

    Of two kinds that start on an empty root at once one wins.

    Raises:
        OtherDevice: if the root is kept to another kind.
    """
    if not store.create(DEVICE_NAME, RootDevice(kind=kind).model_dump_json().encode()):
        check_device(store, kind)


def check_device(store: Store, kind: str) -> None:
    """Refuse devices of `kind` on a root that is kept to another kind.

    Raises:
        OtherDevice: if it is.
    """
    try:
        there = RootDevice.model_validate_json(store.get(DEVICE_NAME)).kind
    except FileNotFoundError:
        return
    if there != kind:
        raise OtherDevice(
            f"root {store.url}: is made on {there} ({DEVICE_NAME}), got {kind}, which gives other "
            "bytes; keep to one kind of device by resources.accelerator_type, give another --root, "
            "or mix them by resources.mix_devices=true"
        )


def take_inventory(store: Store, fingerprint: str) -> Inventory:
    """List the root and read every record; no shard is opened.

    A record counts if it is whole, belongs to `fingerprint`, and its file is there with the
    recorded number of bytes. Of several for one shard the one with most samples counts.
    """
    # Other drivers may be at work: a listing is not one moment. Records are listed first, since a
    # shard's file is put before its record. A record that goes meanwhile has made room for another.
    names = [name for name in store.sizes("records") if _RECORD_NAME.fullmatch(name)]
    found = store.get_many(names)
    sizes = store.sizes("data")
    broken: dict[str, str] = {}
    whole: list[ShardRecord] = []
    for name, data in found.items():
        record, why = _read_record(name, data, fingerprint, sizes)
        if record is None:
            broken[name] = why
        else:
            whole.append(record)
    records = {
        one.shard: one for one in sorted(whole, key=lambda one: (one.shard, one.num_samples))
    }
    broken = {name: why for name, why in broken.items() if not _is_superseded(name, records)}
    if len(found) < len(names) or not all(store.exists(name) for name in broken):
        return take_inventory(store, fingerprint)
    kept = _names(records.values())
    strays: dict[str, Stray] = dict.fromkeys(store.sizes(INCOMING), "unfinished")
    strays |= dict.fromkeys(sizes.keys() - kept - broken.keys(), "unnamed")
    superseded = {*found, *_names(whole)} - kept - broken.keys()
    strays |= dict.fromkeys(superseded, "superseded")
    return Inventory(records, broken, dict(sorted(strays.items())))


def sweep(store: Store, inventory: Inventory, *, most: int) -> list[str]:
    """Delete the strays that can no longer come to count, and return their names.

    What is unfinished goes, but for what a driver shows itself by: a writer that lives writes it
    again. What is superseded goes, and every other file of a shard that can grow no more. Any other
    file may be a shard on its way, and stays for an hour.

    Args:
        store: the root.
        inventory: its, as found a moment ago.
        most: images of a shard that can grow no more.
    """
    needed = _on_their_way(store, inventory, most)
    needed |= {
        name
        for name, what in inventory.strays.items()
        if what == "unfinished" and store.is_held(name)
    }
    done = [name for name in inventory.strays if name not in needed]
    # Whoever looks meanwhile must not meet a record without its file.
    done.sort(key=lambda name: name.startswith("data/"))
    store.delete(done)
    return done


def chain_trained_on(
    last: dict[str, Any] | None, *before: dict[str, Any] | None
) -> dict[str, Any] | None:
    """What was seen last, and before that, and before that, ..., linked by `before`.

    Each link says `name`, `split`, `num_images` and `digest` of real data, or only the `name` of a
    model of which nothing is known; None is no link. What was seen already is not said again.
    """
    if last is None:
        return chain_trained_on(*before) if before else None
    links = [*_links(last), *(link for other in before for link in _links(other))]
    chained: dict[str, Any] | None = None
    for number, link in reversed(list(enumerate(links))):
        if link in links[:number]:
            continue
        chained = link if chained is None else {**link, "before": chained}
    return chained


def _links(seen: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    while seen is not None:
        yield {name: value for name, value in seen.items() if name != "before"}
        seen = seen.get("before")


def dataset_digest(records: dict[int, ShardRecord]) -> str:
    """sha256 over the shards' numbers and digests, in order; hex."""
    lines = (f"{shard} {records[shard].sha256}\n" for shard in sorted(records))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_record(
    name: str, data: bytes, fingerprint: str, sizes: dict[str, int]
) -> tuple[ShardRecord | None, str]:
    try:
        record = ShardRecord.model_validate_json(data)
    except ValidationError as error:
        return None, f"is no record: {error.errors()[0]['msg']}"
    if record.name != name:
        return None, f"says it is {record.name}"
    if record.fingerprint != fingerprint:
        return None, f"belongs to dataset {record.fingerprint}, not {fingerprint}"
    size = sizes.get(record.file)
    if size is None:
        return None, f"names {record.file}, which is not there"
    if size != record.num_bytes:
        return None, f"names {record.file} of {record.num_bytes} bytes, which has {size}"
    return record, ""


def _names(records: Iterable[ShardRecord]) -> set[str]:
    return {name for record in records for name in (record.name, record.file)}


def _on_their_way(store: Store, inventory: Inventory, most: int) -> set[str]:
    """The strays that another driver's record may name in a moment."""
    full = {shard for shard, one in inventory.records.items() if one.num_samples >= most}
    unnamed = {
        name
        for name in inventory.strays
        if inventory.strays[name] == "unnamed"
        if (match := _SHARD_NAME.fullmatch(name)) is None or int(match[1]) not in full
    }
    if not unnamed:
        return set()
    put, now = store.times("data"), time.time()
    return {name for name in unnamed if now - put.get(name, now) < _ON_ITS_WAY_SECONDS}


def _is_superseded(name: str, records: dict[int, ShardRecord]) -> bool:
    """Whether the record `name` is shorter than the one that counts."""
    match = _RECORD_NAME.fullmatch(name)
    assert match is not None
    counting = records.get(int(match[1]))
    return counting is not None and int(match[2]) < counting.num_samples
