"""Draw images again from their keys, and compare them with the stored ones."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from factory.images import decode_image, encode_png, mark_of
from factory.plan import Candidate
from factory.records import Device, ShardRecord
from factory.resolve import Resolved
from factory.shards.reader import read_shard
from factory.shards.sample import Sample
from factory.sources.check import NAMED, Finding, read_file
from factory.sources.promise import Dataset, find_candidate
from factory.spec import Frozen, SpecError, differences
from factory.verify.prepare import Prepared

if TYPE_CHECKING:
    from factory.diffusion.draw import Sampler

Load = Callable[[Resolved], "Sampler"]


@dataclass(frozen=True, slots=True)
class ShardReplay:
    """What drawing some batches of a shard again has shown."""

    num_compared: int
    findings: tuple[Finding, ...]
    """The first 100."""
    num_mismatches: int
    num_not_comparable: int
    reason: str
    """Why images are not comparable; empty if they are."""


class RemadeImage(Frozen):
    """One image, made again from its key."""

    root: str
    fingerprint: str
    key: str
    class_name: str | None
    """That it was drawn for; None: for none."""
    file: str
    """Where it was written: a marked PNG, byte for byte as a shard would hold it."""
    stored: Literal["same", "other", "not comparable", "not there"]
    """The pixels that the root holds for this key, against those that were made now."""
    reason: str | None
    """Why they are not comparable, or not there."""


def load_sampler(resolved: Resolved) -> "Sampler":
    """The sampler on this process's device, for checks that draw; others never import torch."""
    from factory.diffusion.draw import load_sampler

    return load_sampler(resolved)


class ReplayShard:
    """Draws candidate batches of a dataset's shards again, with the model loaded once."""

    def __init__(self, dataset: Dataset, resolved: Resolved, load: Load = load_sampler) -> None:
        """Take the task; the first call loads the model on this process's device."""
        self._dataset = dataset
        self._resolved = resolved
        self._load = load
        self._sampler: Sampler | None = None

    def __call__(self, record: ShardRecord, batches: Sequence[int]) -> ShardReplay:
        """Draw whole batches of a shard, and compare those of their images that are stored.

        Nothing is drawn if the shard was made on another kind of device or with other versions.

        Raises:
            SpecError: if this machine does not see the root.
            OSError: if the model cannot be read.
        """
        if self._sampler is None:
            self._sampler = self._load(self._resolved)
        stored = _stored(self._dataset, record)
        wanted = [
            sample
            for number in batches
            for candidate in self._resolved.plan.batch(record.shard, number)
            if (sample := stored.get(candidate.key)) is not None
        ]
        reason = _not_comparable(record.device, self._sampler.device)
        if reason:
            return ShardReplay(0, (), 0, len(wanted), reason)
        drawn = {}
        for number in batches:
            drawn |= draw_batch(self._resolved, self._sampler, record.shard, number)
        findings = [
            Finding(shard=record.shard, file=record.file, key=sample.key, what=what)
            for sample in wanted
            if (what := _difference(sample, drawn[sample.key]))
        ]
        return ShardReplay(len(wanted), tuple(findings[:NAMED]), len(findings), 0, "")


def draw_batch(
    resolved: Resolved, sampler: "Sampler", shard: int, number: int
) -> dict[str, NDArray[np.uint8]]:
    """Key -> image, uint8 [H, W, C], of all candidates of one batch.

    The batch is drawn whole: an image depends in its last bits on its batch-mates.
    """
    batch = resolved.plan.batch(shard, number)
    images = sampler(batch).images
    return {candidate.key: image for candidate, image in zip(batch, images, strict=True)}


def remake(prepared: Prepared, load: Load = load_sampler) -> RemadeImage:
    """Make the image of `only` again in this process, and write it as KEY.png.

    The key may be any candidate of the dataset, stored or not.

    Args:
        prepared: from `prepare`, with `only` set.
        load: loads the model.

    Raises:
        SpecError: if the folder `output` cannot be written.
    """
    spec, dataset, resolved = prepared.spec, prepared.dataset, prepared.resolved
    assert spec.only is not None
    assert resolved is not None
    candidate = find_candidate(dataset.plan, spec.only)
    path = _make_folder(spec.output) / f"{candidate.key}.png"
    sampler = load(resolved)
    number = resolved.plan.batch_of(candidate.index)
    batch = resolved.plan.batch(candidate.shard, number)
    drawn = sampler(batch)
    place = batch.index(candidate)
    image, t_re = drawn.images[place], drawn.facts[place].get("t_re")
    assert t_re is None or isinstance(t_re, int)
    mark = mark_of(is_reconstructed=resolved.plan.reconstructs, t_re=t_re)
    level = resolved.spec.output.compress_level
    path.write_bytes(encode_png(image, mark=mark, compress_level=level))
    stored, reason = _compare_stored(prepared, candidate, sampler.device, image)
    return RemadeImage(
        root=dataset.store.url,
        fingerprint=resolved.fingerprint,
        key=candidate.key,
        class_name=candidate.class_name,
        file=str(path),
        stored=stored,
        reason=reason,
    )


def _make_folder(output: str) -> Path:
    folder = Path(output).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            f"output: {folder} cannot be made ({error.strerror}); give a folder"
        ) from None
    if not os.access(folder, os.W_OK):
        raise SpecError(f"output: {folder} cannot be written; give another folder")
    return folder


def _compare_stored(
    prepared: Prepared, candidate: Candidate, device: Device, image: NDArray[np.uint8]
) -> tuple[Literal["same", "other", "not comparable", "not there"], str | None]:
    record = prepared.records.get(candidate.shard)
    if record is None:
        return "not there", f"the root holds no shard {candidate.shard}"
    sample = _stored(prepared.dataset, record).get(candidate.key)
    if sample is None:
        return "not there", f"{record.file} holds no sample of this key that can be read"
    reason = _not_comparable(record.device, device)
    if reason:
        return "not comparable", reason
    what = _difference(sample, image)
    return ("other", f"{record.file}: {what}") if what else ("same", None)


def _stored(dataset: Dataset, record: ShardRecord) -> dict[str, Sample]:
    """Key -> sample of a shard; nothing if it cannot be read, which `check_shard` reports."""
    try:
        samples = read_shard(read_file(dataset.store, record), dataset.format)
    except ValueError:
        return {}
    return {sample.key: sample for sample in samples}


def _not_comparable(then: Device, now: Device) -> str:
    """Where two devices differ, as `versions.torch: "2.12" -> "2.13"`; empty if nowhere."""
    return "; ".join(differences(then.model_dump(), now.model_dump()))


def _difference(sample: Sample, drawn: NDArray[np.uint8]) -> str:
    """How the stored image differs from the one drawn again; empty if it does not."""
    try:
        stored = decode_image(sample.image)
    except ValueError as error:
        return str(error)
    if stored.shape != drawn.shape:
        return f"drawn again it has shape {drawn.shape}, stored is {stored.shape}"
    distance = np.abs(stored.astype(int) - drawn.astype(int))
    if not distance.any():
        return ""
    return (
        f"drawn again it differs in {np.count_nonzero(distance)} of {distance.size} values, "
        f"by at most {distance.max()}"
    )
