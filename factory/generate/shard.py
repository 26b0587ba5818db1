"""Make one shard: draw its candidates, encode them, commit the file and its record."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from factory.diffusion.draw import Sampler, load_sampler
from factory.generate.prepare import check_same_root
from factory.images import TRAINED_ALGORITHMIC_MEDIA, encode_png, pixel_digest
from factory.plan import Candidate
from factory.records import Device, ShardRecord, record_name, shard_name
from factory.resolve import Resolved
from factory.shards.parquet import write_parquet
from factory.shards.reader import read_shard
from factory.shards.sample import Sample
from factory.shards.webdataset import write_webdataset
from factory.store import Store


class MakeShard:
    """Makes shards of one dataset, one a call, with the model loaded once.

    A shard that is recorded already costs a look and no image.
    """

    def __init__(
        self,
        resolved: Resolved,
        root: str,
        load: Callable[[Resolved], Sampler] = load_sampler,
    ) -> None:
        """Take the task; the first call loads the model, so that its errors are a shard's.

        Args:
            resolved: the resolved spec.
            root: absolute path or URL, already claimed by this spec.
            load: loads the model on this process's device.
        """
        self._resolved = resolved
        self._store = Store(root)
        self._load = load
        self._sampler: Sampler | None = None

    def __call__(self, shard: int) -> ShardRecord:
        """Make shard number `shard`, whole, and commit it.

        Raises:
            SpecError: if this machine does not see the root that the driver sees.
            OSError: if the model cannot be read, or the root not written.
        """
        plan = self._resolved.plan
        name = record_name(shard, plan.quota(shard))
        if self._store.exists(name):
            return ShardRecord.model_validate_json(self._store.get(name))
        if self._sampler is None:
            check_same_root(self._store, self._resolved.fingerprint)
            self._sampler = self._load(self._resolved)
        samples, seconds = draw_samples(self._resolved, shard, self._sampler)
        return _commit(self._resolved, self._store, shard, samples, self._sampler.device, seconds)


def draw_samples(
    resolved: Resolved, shard: int, sampler: Sampler
) -> tuple[list[Sample], dict[str, float]]:
    """Draw full candidate batches until the shard has its quota; encode one while drawing the next.

    Returns:
        The shard's samples in candidate order, and the seconds spent by step: `sample`, and
        `encode` as far as drawing had to wait for it.
    """
    plan = resolved.plan
    quota = plan.quota(shard)
    seconds = {"sample": 0.0, "encode": 0.0}
    encoded: list[Future[list[Sample]]] = []
    with ThreadPoolExecutor(1) as encoder:
        for number in range(-(-quota // plan.batch_size)):
            started = time.perf_counter()
            batch = plan.batch(shard, number)
            names = [plan.class_names[candidate.label] for candidate in batch]
            images = sampler(names, [candidate.seed for candidate in batch])
            seconds["sample"] += time.perf_counter() - started
            wanted = min(quota - number * plan.batch_size, plan.batch_size)
            encoded.append(encoder.submit(_encode, resolved, batch[:wanted], images[:wanted]))
        started = time.perf_counter()
        samples = [sample for future in encoded for sample in future.result()]
        seconds["encode"] = time.perf_counter() - started
    return samples, seconds


def _encode(
    resolved: Resolved, candidates: Sequence[Candidate], images: NDArray[np.uint8]
) -> list[Sample]:
    return [
        _sample(resolved, candidate, image)
        for candidate, image in zip(candidates, images, strict=True)
    ]


def _sample(resolved: Resolved, candidate: Candidate, image: NDArray[np.uint8]) -> Sample:
    spec, model = resolved.spec, resolved.model
    height, width, _ = image.shape
    return Sample(
        key=candidate.key,
        image=encode_png(
            image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=spec.output.compress_level
        ),
        label=candidate.label,
        class_name=resolved.plan.class_names[candidate.label],
        provenance={
            "is_synthetic": True,
            "source": spec.name,
            "shard": candidate.shard,
            "candidate": candidate.index,
            "seed": candidate.seed,
            "model_id": model.name,
            "model_revision": model.digest,
            "scheduler": spec.generator.scheduler,
            "num_inference_steps": spec.generator.num_inference_steps,
            "guidance_scale": spec.generator.guidance_scale,
            "width": width,
            "height": height,
            "pixel_sha256": pixel_digest(image),
        },
    )


def _commit(
    resolved: Resolved,
    store: Store,
    shard: int,
    samples: Sequence[Sample],
    device: Device,
    seconds: dict[str, float],
) -> ShardRecord:
    started = time.perf_counter()
    form = resolved.spec.output.format
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
        num_candidates=len(samples),
        rejected={},
        device=device,
        seconds=seconds | {"commit": time.perf_counter() - started},
    )
    if not store.create(record.name, record.model_dump_json(indent=1).encode()):
        return _keep_first(store, record)
    if not store.exists(file):
        # Another driver swept the file in the moment between the two writes.
        store.put(file, data)
    return record


def _keep_first(store: Store, late: ShardRecord) -> ShardRecord:
    first = ShardRecord.model_validate_json(store.get(late.name))
    if first.file != late.file:
        store.delete([late.file])
    return first
