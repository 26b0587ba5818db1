"""Sources as WebDataset: tar files in which the members of a sample share a key."""

import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from factory.sources.decode import EncodedImage, name_some, source_from_images
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError

IMAGE_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "webp"})

# The key ends at the first dot of the base name; names without one belong to no sample.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_END_MARK = 1024


class _Sample(NamedTuple):
    """Where an image lies, and what it shows."""

    tar: Path
    key: str
    offset: int
    num_bytes: int
    label: int
    class_name: str | None


class _Unusable(ValueError):
    """A sample without image or label, or with more than one."""


def open_webdataset(spec: SourceSpec, files: Sequence[Path], *, name: str) -> Source:
    """Read `files` in order: of each sample KEY.png, .jpg, .jpeg or .webp, and its label.

    The label is the number in KEY.cls, else `label` in KEY.json. Class names are those of `spec`,
    else `class_name` in KEY.json, else the numbers. Members of other kinds are not looked at. A
    key names a sample within its tar.

    Raises:
        SpecError: naming the tar that is damaged or cut, or the samples, by tar and key, that
            have no image or label, more than one, or a key that another sample has.
    """
    samples, wrong = [], []
    for file in files:
        for key, found in _index(file):
            if isinstance(found, _Sample):
                samples.append(found)
            else:
                wrong.append(f"{file.name} {key} ({found})")
    if wrong:
        raise SpecError(
            f"{name}: {len(wrong)} of {len(samples) + len(wrong)} samples cannot be used: "
            f"{name_some(wrong)}; each needs one image (.png, .jpg, .jpeg or .webp) and one label "
            "(.cls, or label in .json), side by side under a key of its own"
        )
    return source_from_images(
        _images(samples), len(samples), spec, name=name, class_names=_declared(samples, spec, name)
    )


def _index(file: Path) -> Iterator[tuple[str, "_Sample | _Unusable"]]:
    """Every key of a tar, in order, with its sample, or what is wrong with that."""
    seen = set()
    try:
        with tarfile.open(file, "r:") as tar:
            for key, members in itertools.groupby(_members(tar), key=lambda member: member[0]):
                parts = [(extension, info) for _, extension, info in members]
                try:
                    if key in seen:
                        raise _Unusable("its key is there before")
                    yield key, _sample(file, tar, key, parts)
                except _Unusable as wrong:
                    yield key, wrong
                seen.add(key)
            _check_end(file, tar)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise SpecError(f"{file}: cannot be read as tar ({error}); fetch it again") from None


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    for info in tar:
        match = _MEMBER.fullmatch(info.name)
        if info.isreg() and match:
            yield match[1], match[2].lower(), info


def _check_end(file: Path, tar: tarfile.TarFile) -> None:
    # tarfile takes a damaged header, and a cut between members, for the end of the archive.
    last = tar.getmembers()[-1:]
    end = max((info.offset_data + -(-info.size // 512) * 512 for info in last), default=0)
    with file.open("rb") as stream:
        stream.seek(end)
        rest = stream.read()
    if len(rest) < _END_MARK or rest.strip(b"\0"):
        raise SpecError(
            f"{file}: is damaged or cut: after {len(tar.getmembers())} members comes neither "
            "another one nor the end mark of a tar; fetch it again"
        )


def _sample(
    file: Path, tar: tarfile.TarFile, key: str, parts: Sequence[tuple[str, tarfile.TarInfo]]
) -> _Sample:
    images = [info for extension, info in parts if extension in IMAGE_EXTENSIONS]
    if len(images) != 1:
        raise _Unusable(f"has {len(images)} images")
    facts = _facts(tar, parts)
    labels = [_number(_read(tar, info)) for extension, info in parts if extension == "cls"]
    labels = labels or ([facts["label"]] if "label" in facts else [])
    if len(labels) != 1:
        raise _Unusable(f"has {len(labels)} labels")
    if type(labels[0]) is not int:
        raise _Unusable(f"its label is {labels[0]!r}, no whole number")
    class_name = facts.get("class_name")
    if not isinstance(class_name, str | None):
        raise _Unusable(f"its class_name is {class_name!r}, no text")
    image = images[0]
    return _Sample(file, key, image.offset_data, image.size, labels[0], class_name)


def _facts(
    tar: tarfile.TarFile, parts: Sequence[tuple[str, tarfile.TarInfo]]
) -> Mapping[str, object]:
    found = [_read(tar, info) for extension, info in parts if extension == "json"]
    if not found:
        return {}
    try:
        facts = json.loads(found[0])
    except ValueError:
        raise _Unusable("its .json is none") from None
    if not isinstance(facts, dict):
        raise _Unusable("its .json is no object")
    return facts


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(info)
    assert content is not None  # a regular file has content
    return content.read()


def _number(text: bytes) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text.decode(errors="replace")


def _declared(samples: Sequence[_Sample], spec: SourceSpec, name: str) -> tuple[str, ...] | None:
    """Class names in label order as the samples tell them, gaps filled from `spec`."""
    pairs = {(s.label, s.class_name) for s in samples if s.class_name is not None}
    if not pairs:
        return None
    told = dict(pairs)
    if len(told) < len(pairs):
        several = {
            label: sorted(name for other, name in pairs if other == label)
            for label in told
            if sum(other == label for other, _ in pairs) > 1
        }
        raise SpecError(
            f"{name}: labels have more than one class_name: {several}; mend the .json members"
        )
    known = dict(enumerate(spec.class_names or ())) | told
    unnamed = [label for label in range(max(known) + 1) if label not in known]
    if unnamed:
        raise SpecError(
            f"{name}: no sample tells the class_name of labels {unnamed}; set class_names"
        )
    return tuple(known[label] for label in range(max(known) + 1))


def _images(samples: Sequence[_Sample]) -> Iterator[EncodedImage]:
    for tar, group in itertools.groupby(samples, key=lambda sample: sample.tar):
        with tar.open("rb") as stream:
            for sample in group:
                stream.seek(sample.offset)
                data = stream.read(sample.num_bytes)
                yield EncodedImage(f"{tar.name} {sample.key}", data, sample.label)
