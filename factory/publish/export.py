"""A root as an image folder, for people without these tools: files, and a line about each."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from factory.plan import slug
from factory.progress import Progress
from factory.publish.checked import read_again
from factory.records import ShardRecord
from factory.shards.sample import Sample
from factory.sources.decode import name_some
from factory.sources.promise import Dataset
from factory.spec import Frozen, SpecError

METADATA_NAME = "metadata.jsonl"
_MARKER_NAME = ".dataset"
"""Says which dataset a folder belongs to, written first; readers pass over hidden files."""
_INCOMING_NAME = ".metadata.jsonl"
_KEY = r"[a-z0-9-]+-\d{5,}-\d{6,}"
_THREADS = 8


class Exported(Frozen):
    """What an export came to."""

    folder: str
    num_images: int
    num_written: int
    """Images that were not there yet."""


def export_images(dataset: Dataset, records: Mapping[int, ShardRecord], folder: Path) -> Exported:
    """Write every image as `CLASS/KEY.png`, byte by byte as in its shard, then metadata.jsonl.

    metadata.jsonl has a line an image: `file_name`, `label`, `class_name`, `key` and provenance;
    `datasets` loads the folder as an imagefolder. It is there only when all images are. The same
    call goes on where one was stopped, and adds what the root has grown by.

    Args:
        dataset: the root.
        records: of its shards to export.
        folder: absolute; made if it is not there.

    Raises:
        SpecError: before anything is written, if the folder holds something else.
        JobError: if a shard is not what its record says.
    """
    folders = class_folders(dataset.plan.class_names)
    _claim(folder, folders, dataset.root_spec.fingerprint)
    for name in folders:
        (folder / name).mkdir(exist_ok=True)
    (folder / METADATA_NAME).unlink(missing_ok=True)
    num_written = 0
    num_images = sum(record.num_samples for record in records.values())
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        Progress(num_images=num_images) as bar,
        open(folder / _INCOMING_NAME, "w", encoding="utf-8") as lines,
    ):
        for samples in read_again(dataset, records):
            num_written += sum(pool.map(partial(_write, folder, folders), samples))
            lines.writelines(_line(folders, sample) for sample in samples)
            bar.add(len(samples))
    os.replace(folder / _INCOMING_NAME, folder / METADATA_NAME)
    return Exported(folder=str(folder), num_images=num_images, num_written=num_written)


def class_folders(class_names: Sequence[str]) -> tuple[str, ...]:
    """Name of each class's folder: plain, unique, in label order."""
    slugs = tuple(map(slug, class_names))
    if len(set(slugs)) == len(slugs):
        return slugs
    return tuple(f"{label:04d}-{name}" for label, name in enumerate(slugs))


def _claim(folder: Path, folders: Sequence[str], dataset: str) -> None:
    """Refuse a folder that holds anything but an export of this dataset; mark one that is empty."""
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"export: {folder} is a file; give a folder")
    own = re.compile(
        rf"{_MARKER_NAME}|{_INCOMING_NAME}|{METADATA_NAME}|"
        rf"({'|'.join(map(re.escape, folders))})/{_KEY}\.png"
    )
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    others = sorted(name for name in there if not own.fullmatch(name))
    marker = folder / _MARKER_NAME
    if others or (there and not marker.is_file()):
        raise SpecError(
            f"export: {folder} holds other files ({name_some(others or sorted(there))}); give an "
            "empty folder or a new one"
        )
    marked = marker.read_text("utf-8") if there else dataset
    if marked != dataset:
        raise SpecError(
            f"export: {folder} holds images of dataset {marked}, this one is {dataset}; give "
            "another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(dataset, "utf-8")


def _write(folder: Path, folders: Sequence[str], sample: Sample) -> bool:
    """Write an image unless it is there; whether it was not."""
    path = folder / _path(folders, sample)
    # Also mends what was half written when an export was killed.
    if path.is_file() and path.read_bytes() == sample.image:
        return False
    path.write_bytes(sample.image)
    return True


def _line(folders: Sequence[str], sample: Sample) -> str:
    facts = {
        "file_name": _path(folders, sample),
        "label": sample.label,
        "class_name": sample.class_name,
        "key": sample.key,
        **sample.provenance,
    }
    return json.dumps(facts, ensure_ascii=False) + "\n"


def _path(folders: Sequence[str], sample: Sample) -> str:
    return f"{folders[sample.label]}/{sample.key}.png"
