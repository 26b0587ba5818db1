"""Make one shard: draw its candidates, select and encode them, commit the file and its record."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.diffusion.device import pick_device
from factory.diffusion.draw import load_sampler
from factory.diffusion.sampler import Sampler
from factory.generate.draw import draw_batch
from factory.generate.prepare import check_same_root
from factory.generate.select import Opinion, Screen, Selection
from factory.images import (
    encode_png,
    mark_of,
    pixel_digest,
)
from factory.plan import Candidate
from factory.records import (
    Device,
    ShardRecord,
    check_device,
    claim_device,
    record_name,
    shard_name,
)
from factory.resolve import Resolved
from factory.shards.parquet import write_parquet
from factory.shards.reader import read_shard
from factory.shards.sample import ProvenanceValue, Sample
from factory.shards.webdataset import write_webdataset
from factory.store import Store


@dataclass(frozen=True, slots=True)
class MadeShard:
    """The samples of a shard, and what it took to get them."""

    samples: list[Sample]
    """In candidate order."""
    num_candidates: int
    rejected: dict[str, int]
    """Reason -> candidates."""
    seconds: dict[str, float]
    """By step: `swap` (of adapters), `sample`, `select`, and `encode` as far as drawing had to wait
    for it."""


class MakeShard:
    """Makes shards of one dataset, one a call, with the model loaded once.

    A shard that is recorded already costs a look and no image.
    """

    def __init__(
        self,
        resolved: Resolved,
        root: str,
        load: Callable[[Resolved], Sampler] = load_sampler,
        shown: str | None = None,
    ) -> None:
        """Take the task; the first call looks at the root, so that its errors are a shard's.

        Args:
            resolved: the resolved spec.
            root: absolute path or URL, already claimed by this spec.
            load: loads the model on this process's device.
            shown: file by which the driver shows the root; see `Store.shown`.
        """
        self._resolved = resolved
        self._store = Store(root)
        self._load = load
        self._shown = shown
        self._is_root_checked = False
        self._loaded: tuple[Sampler, Screen] | None = None
        self._is_device_settled = resolved.spec.resources.mix_devices
        self.seconds_loading = 0.0
        """Time that loading the model, the labeller and the filters took."""
        self.own: ShardRecord | None = None
        """Record that the last call created; None: the shard was there, or it could not be made."""

    def __call__(self, shard: int) -> ShardRecord:
        """Make shard number `shard`, whole, and commit it.

        Raises:
            OtherRoot: if this machine does not see the root that the driver sees.
            OtherDevice: if the root is kept to another kind of device than this process has.
            ShardUnfilled: if its candidates are used up before it has its images.
            BatchTooLarge: if the device has no memory for a candidate batch.
            OSError: if the model cannot be read, or the root not written.
        """
        self.own = None
        if not self._is_root_checked:
            # Before anything there is believed: it may be another root's.
            check_same_root(self._store, self._resolved.fingerprint, self._shown)
            self._is_root_checked = True
        name = record_name(shard, self._resolved.plan.quota(shard))
        if self._store.exists(name):
            return ShardRecord.model_validate_json(self._store.get(name))
        if self._loaded is None:
            self._loaded = self._load_all()
        sampler, screen = self._loaded
        made = draw_samples(self._resolved, shard, sampler, screen)
        if not self._is_device_settled:
            # Not before the first shard is drawn: a run that is ended until then binds nobody.
            claim_device(self._store, sampler.device.kind)
            self._is_device_settled = True
        record, is_own = _commit(self._resolved, self._store, shard, made, sampler.device)
        self.own = record if is_own else None
        return record

    def _load_all(self) -> tuple[Sampler, Screen]:
        started = time.perf_counter()
        loaded = self._load(self._resolved), Screen(self._resolved, pick_device())
        self.seconds_loading = time.perf_counter() - started
        if not self._is_device_settled:
            check_device(self._store, loaded[0].device.kind)
        return loaded


def draw_samples(resolved: Resolved, shard: int, sampler: Sampler, screen: Screen) -> MadeShard:
    """Draw full candidate batches until the shard has its quota; encode one while drawing the next.

    Raises:
        ShardUnfilled: if the candidates are used up before.
        BatchTooLarge: if the device has no memory for a batch.
    """
    plan = resolved.plan
    selection = Selection(resolved, shard)
    seconds = {"swap": 0.0, "sample": 0.0, "select": 0.0, "encode": 0.0}
    encoded: list[Future[list[Sample]]] = []
    number: int | None = None
    with ThreadPoolExecutor(1) as encoder:
        while not selection.is_full:
            started = time.perf_counter()
            number = selection.next_batch(number)
            batch = plan.batch(shard, number)
            drawn = draw_batch(sampler, batch)
            seconds["swap"] += drawn.seconds_swapping
            seconds["sample"] += time.perf_counter() - started - drawn.seconds_swapping
            started = time.perf_counter()
            opinions = screen(batch, drawn)
            places = selection.take(batch, drawn.images, opinions)
            seconds["select"] += time.perf_counter() - started
            chosen = [
                (batch[place], drawn.images[place], opinions[place], drawn.facts[place])
                for place in places
            ]
            encoded.append(encoder.submit(_encode, resolved, chosen))
        started = time.perf_counter()
        samples = [sample for future in encoded for sample in future.result()]
        seconds["encode"] = time.perf_counter() - started
    samples.sort(key=lambda sample: sample.provenance["candidate"])  # pyright: ignore[reportArgumentType,reportCallIssue] - it is an int
    return MadeShard(samples, selection.num_candidates, dict(selection.rejected), seconds)


_Chosen = tuple[Candidate, NDArray[np.uint8], Opinion, Mapping[str, ProvenanceValue]]


def _encode(resolved: Resolved, chosen: Sequence[_Chosen]) -> list[Sample]:
    return [_sample(resolved, *one) for one in chosen]


def _sample(
    resolved: Resolved,
    candidate: Candidate,
    image: NDArray[np.uint8],
    opinion: Opinion,
    facts: Mapping[str, ProvenanceValue],
) -> Sample:
    spec, model = resolved.spec, resolved.model
    height, width, _ = image.shape
    assert opinion.label is not None
    t_re = facts.get("t_re")
    assert t_re is None or isinstance(t_re, int)
    mark = mark_of(is_reconstructed=spec.reconstruct is not None, t_re=t_re)
    provenance: dict[str, ProvenanceValue] = {
        "is_synthetic": mark is not None,
        "source": spec.name,
        "shard": candidate.shard,
        "candidate": candidate.index,
        "seed": candidate.seed,
        "model_id": model.name,
        "model_revision": model.digest,
        "scheduler": spec.generator.scheduler,
        "num_inference_steps": spec.generator.num_inference_steps,
        "guidance_scale": float(spec.generator.scale),
        "width": width,
        "height": height,
        "pixel_sha256": pixel_digest(image),
        **facts,
    }
    if spec.labeller is not None:
        labeller = resolved.classifiers[spec.labeller.model].digest[:12]
        provenance |= {"labeller": labeller, "confidence": opinion.confidence}
    return Sample(
        key=candidate.key,
        image=encode_png(image, mark=mark, compress_level=spec.output.compress_level),
        label=opinion.label,
        class_name=resolved.plan.class_names[opinion.label],
        provenance=provenance,
    )


def _commit(
    resolved: Resolved, store: Store, shard: int, made: MadeShard, device: Device
) -> tuple[ShardRecord, bool]:
    """The shard's record, and whether this attempt created it."""
    started = time.perf_counter()
    samples, form = made.samples, resolved.spec.output.format
    write = write_parquet if form == "parquet" else write_webdataset
    data = write(samples, resolved.plan.class_names)
    if read_shard(data, form) != tuple(samples):
        raise ValueError(f"shard {shard}: its {form} bytes do not read back as its samples")
    digest = hashlib.sha256(data).hexdigest()
    file = shard_name(shard, digest, form)
    store.put(file, data)
    record = ShardRecord(
        fingerprint=resolved.fingerprint,
        shard=shard,
        file=file,
        sha256=digest,
        num_bytes=len(data),
        num_samples=len(samples),
        class_counts=dict(Counter(sample.class_name for sample in samples)),
        num_candidates=made.num_candidates,
        rejected=made.rejected,
        device=device,
        seconds=made.seconds | {"commit": time.perf_counter() - started},
    )
    if not store.create(record.name, record.model_dump_json(indent=1).encode()):
        first = _keep_first(store, record)
        # They are equal where the store answered late and was asked twice.
        return first, first == record
    if not store.exists(file):
        # Another driver swept the file in the moment between the two writes.
        store.put(file, data)
    return record, True


def _keep_first(store: Store, late: ShardRecord) -> ShardRecord:
    first = ShardRecord.model_validate_json(store.get(late.name))
    if first.file != late.file:
        store.delete([late.file])
    return first
