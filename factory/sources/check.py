"""Check shards without drawing: bytes against records, samples against the plan, duplicates."""

import hashlib
import pickle
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory.images import decode_image, mark_of, pixel_digest, read_mark
from factory.plan import Candidate
from factory.records import SPEC_NAME, ShardRecord, shard_name
from factory.shards.reader import read_shard
from factory.shards.sample import ProvenanceValue, Sample
from factory.sources.promise import Dataset, find_candidate
from factory.spec import Frozen, SpecError
from factory.store import Store

NAMED = 100
"""Offenders of one kind that a report names; the rest is counted."""


class Finding(Frozen):
    """Something that is not as it was promised, and where."""

    shard: int
    file: str
    """The shard's file, or the record that cannot be used."""
    key: str | None
    """The sample; None: the file as a whole."""
    what: str
    is_mark: bool = False
    """Whether it is about the mark of an image."""


class Duplicate(Frozen):
    """Samples whose pixels are the same."""

    pixel_sha256: str
    keys: tuple[str, ...]
    """The first two of them."""


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """What one shard was found to hold."""

    shard: int
    class_counts: dict[str, int]
    """Samples counted, by class name."""
    num_synthetic: int
    """Those of them that say they are synthetic."""
    is_damaged: bool
    """Whether the bytes are not those of the record, so that `recheck` of generate mends it."""
    findings: tuple[Finding, ...]
    """The first 100."""
    num_findings: int
    num_wrong_marks: int
    """Those of them that are about the marks of images."""
    pixels: NDArray[np.uint64]
    """The first 8 bytes of every decoded image's pixel digest."""


def check_shard(dataset: Dataset, record: ShardRecord) -> ShardCheck:
    """Hash, read, recount and decode one shard; compare every sample with the plan.

    What is checked of a sample: its key, and that keys rise; label, class name and provenance as
    the plan has them for that key; an image that can be decoded, with the size and pixel digest
    that its provenance names; the mark of a generated image.

    Raises:
        SpecError: if this machine does not see the root.
    """
    data = read_file(dataset.store, record)
    sha256 = hashlib.sha256(data).hexdigest()
    problems: list[tuple[str | None, str]] = []
    problems += [(None, what) for what in _check_file(dataset, record, sha256)]
    try:
        samples = read_shard(data, dataset.format)
    except ValueError as error:
        samples = ()
        problems.append((None, str(error)))
    else:
        problems += [(None, what) for what in _recount(dataset, record, samples)]
    images = [_check_image(dataset, sample) for sample in samples]
    problems += _check_samples(dataset, record, samples, [image.wrong for image in images])
    marks = [(s.key, i.mark) for s, i in zip(samples, images, strict=True) if i.mark is not None]
    findings = [
        *(_finding(record, key, what) for key, what in problems),
        *(_finding(record, key, what, is_mark=True) for key, what in marks),
    ]
    return ShardCheck(
        shard=record.shard,
        class_counts=_count(samples),
        num_synthetic=sum(sample.provenance.get("is_synthetic") is True for sample in samples),
        is_damaged=sha256 != record.sha256,
        findings=tuple(findings[:NAMED]),
        num_findings=len(findings),
        num_wrong_marks=len(marks),
        pixels=np.array(
            [
                _short(image.digest)
                for sample, image in zip(samples, images, strict=True)
                # A real image comes once in each pass over its source.
                if image.digest and sample.provenance.get("t_re") != 0
            ],
            dtype=np.uint64,
        ),
    )


def check_row(row: dict[str, str], dataset: Dataset) -> dict[str, bytes]:
    """`check_shard` for a row with a record as JSON; what is found is pickled, for Arrow.

    Here, and not beside Ray, so that workers which draw nothing never import torch.
    """
    record = ShardRecord.model_validate_json(row["record"])
    return {"check": pickle.dumps(check_shard(dataset, record))}


def read_file(store: Store, record: ShardRecord) -> bytes:
    """The file of a record; no bytes if it is gone since the root was listed.

    Raises:
        SpecError: if it is gone because this machine does not see the root.
    """
    try:
        return store.get(record.file)
    except FileNotFoundError:
        if not store.exists(SPEC_NAME):
            raise SpecError(
                f"root {store.url}: this machine does not see it, the driver does; "
                "give a root that all machines share, e.g. --root s3://bucket/folder"
            ) from None
        return b""


def find_duplicates(
    dataset: Dataset, records: Mapping[int, ShardRecord], pixels: Mapping[int, NDArray[np.uint64]]
) -> tuple[int, list[Duplicate]]:
    """Images of the whole dataset whose pixels another one has.

    Images are drawn from noise of their own, so two equal ones are a fault: of the files, of the
    seeds, or of a model that has collapsed.

    Args:
        dataset: what the root promises.
        records: shard -> record.
        pixels: shard -> `ShardCheck.pixels`.

    Returns:
        How many images are duplicates of another one, and the first 100 groups. Only the groups
        that are named were confirmed by their full digests.
    """
    if not pixels:
        return 0, []
    values, counts = np.unique(np.concatenate(list(pixels.values())), return_counts=True)
    twice = dict(zip(values[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))
    named = set(islice(twice, NAMED))
    pending = set(named)
    found: dict[str, list[str]] = defaultdict(list)
    for shard, here in pixels.items():
        if pending.isdisjoint(here.tolist()):
            continue
        for digest, key in _digests(dataset, records[shard]):
            if _short(digest) in pending and len(found[digest]) < 2:
                found[digest].append(key)
        pending -= {_short(digest) for digest, keys in found.items() if len(keys) == 2}
    groups = [
        Duplicate(pixel_sha256=digest, keys=tuple(keys))
        for digest, keys in found.items()
        if len(keys) == 2
    ]
    refuted = named - {_short(group.pixel_sha256) for group in groups}
    return sum(count - 1 for value, count in twice.items() if value not in refuted), groups


def _finding(record: ShardRecord, key: str | None, what: str, *, is_mark: bool = False) -> Finding:
    return Finding(shard=record.shard, file=record.file, key=key, what=what, is_mark=is_mark)


def _check_file(dataset: Dataset, record: ShardRecord, sha256: str) -> Iterator[str]:
    if sha256 != record.sha256:
        yield f"sha256 is {sha256[:12]}..., its record says {record.sha256[:12]}..."
    expected = shard_name(record.shard, record.sha256, dataset.format)
    if record.file != expected:
        yield f"should be called {expected}"


def _recount(dataset: Dataset, record: ShardRecord, samples: Sequence[Sample]) -> Iterator[str]:
    if len(samples) != record.num_samples:
        yield f"holds {len(samples)} samples, its record says {record.num_samples}"
    quota = dataset.plan.quota(record.shard)
    if len(samples) > quota:
        yield f"holds {len(samples)} samples, more than the {quota} that a shard takes"
    counts = _count(samples)
    if counts != record.class_counts:
        yield f"holds {counts}, its record says {record.class_counts}"
    drawn = record.num_samples + sum(record.rejected.values())
    if drawn != record.num_candidates:
        yield (
            f"its record has {record.num_candidates} candidates, but accepted and rejected "
            f"make {drawn}"
        )


def _check_samples(
    dataset: Dataset,
    record: ShardRecord,
    samples: Sequence[Sample],
    wrong_images: Sequence[list[str]],
) -> Iterator[tuple[str, str]]:
    last = -1
    for sample, wrong in zip(samples, wrong_images, strict=True):
        try:
            candidate = find_candidate(dataset.plan, sample.key)
        except SpecError as error:
            yield sample.key, "; ".join([str(error), *wrong])
            continue
        wrong = [
            *_check_place(record, candidate, last, is_reconstructed=dataset.plan.reconstructs),
            *_compare(_facts(sample), _promised(dataset, candidate, sample)),
            *wrong,
        ]
        last = candidate.index
        if wrong:
            yield sample.key, "; ".join(wrong)


def _check_place(
    record: ShardRecord, candidate: Candidate, last: int, *, is_reconstructed: bool
) -> Iterator[str]:
    # Rising indices below the number of candidates also make keys unique in the whole dataset.
    if candidate.shard != record.shard:
        yield f"belongs to shard {candidate.shard}"
    elif candidate.index <= last:
        yield f"comes after candidate {last}, but keys rise within a shard"
    elif not is_reconstructed and candidate.index >= record.num_candidates:
        yield f"is beyond the {record.num_candidates} candidates of its record"


def _facts(sample: Sample) -> dict[str, ProvenanceValue]:
    return {"label": sample.label, "class_name": sample.class_name, **sample.provenance}


def _promised(dataset: Dataset, candidate: Candidate, sample: Sample) -> dict[str, ProvenanceValue]:
    identity = dataset.root_spec.identity
    generator = identity["generator"]
    # What a labeller finds is in no plan.
    label = sample.label if candidate.label is None else candidate.label
    return {
        "label": label,
        "class_name": dataset.plan.class_names[label],
        "is_synthetic": _mark(dataset, sample) is not None,
        "source": identity["name"],
        "shard": candidate.shard,
        "candidate": candidate.index,
        "seed": candidate.seed,
        "model_revision": generator["digest"],
        "scheduler": generator["scheduler"],
        "num_inference_steps": generator["num_inference_steps"],
        "guidance_scale": generator["guidance_scale"],
    }


class _Image(NamedTuple):
    digest: str | None
    """Of its pixels; None if it cannot be decoded."""
    wrong: list[str]
    mark: str | None
    """What is wrong with its mark."""


def _check_image(dataset: Dataset, sample: Sample) -> _Image:
    try:
        pixels = decode_image(sample.image)
        mark = read_mark(sample.image)
    except ValueError as error:
        return _Image(None, [str(error)], None)
    height, width, _ = pixels.shape
    digest = pixel_digest(pixels)
    measured: dict[str, ProvenanceValue] = {
        "width": width,
        "height": height,
        "pixel_sha256": digest,
    }
    expected = _mark(dataset, sample)
    wrong_mark = None if mark == expected else f"mark is {mark}, expected {expected}"
    return _Image(digest, _compare(sample.provenance, measured), wrong_mark)


def _mark(dataset: Dataset, sample: Sample) -> str | None:
    t_re = sample.provenance.get("t_re")
    known = t_re if isinstance(t_re, int) else None
    return mark_of(is_reconstructed=dataset.plan.reconstructs, t_re=known)


def _compare(
    facts: Mapping[str, ProvenanceValue], expected: Mapping[str, ProvenanceValue]
) -> list[str]:
    return [
        f"{name} is {facts.get(name)!r}, expected {value!r}"
        for name, value in expected.items()
        if facts.get(name) != value
    ]


def _digests(dataset: Dataset, record: ShardRecord) -> Iterator[tuple[str, str]]:
    """Pixel digest and key of every image of a shard that can be decoded."""
    for sample in read_shard(dataset.store.get(record.file), dataset.format):
        digest = _check_image(dataset, sample).digest
        if digest is not None:
            yield digest, sample.key


def _count(samples: Sequence[Sample]) -> dict[str, int]:
    return dict(Counter(sample.class_name for sample in samples))


def _short(digest: str) -> int:
    return int(digest[:16], 16)
