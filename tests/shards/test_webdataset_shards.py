"""WebDataset shards in the hands of other readers."""

import io
import json
import subprocess
import tarfile

import numpy as np
import pytest
import webdataset
from datasets import Image, load_dataset

from factory.images import decode_image
from factory.shards.reader import read_shard
from factory.shards.webdataset import write_webdataset


@pytest.fixture(scope="module")
def shard(samples, class_names):
    return write_webdataset(samples, class_names)


@pytest.fixture(scope="module")
def file(shard, tmp_path_factory):
    path = tmp_path_factory.mktemp("shard") / "train-00012-3fa9c1d2.tar"
    path.write_bytes(shard)
    return path


def repack(shard, change):
    """The same tar with `change(name, content)` -> content, or None to leave the member out."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(shard)) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for member in old:
            content = change(member.name, old.extractfile(member).read())
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_webdataset_reads_images_labels_and_provenance(file, samples):
    found = list(webdataset.WebDataset(str(file), shardshuffle=False).decode("l8"))
    assert len(found) == len(samples)
    for row, sample in zip(found, samples, strict=True):
        assert row["__key__"] == sample.key
        assert row["cls"] == sample.label
        assert row["json"] == {"class_name": sample.class_name, **sample.provenance}
        assert np.array_equal(row["png"], decode_image(sample.image)[:, :, 0])


def test_datasets_reads_images_labels_and_provenance(file, samples, tmp_path):
    dataset = load_dataset(
        "webdataset", data_files=str(file), split="train", cache_dir=str(tmp_path)
    )
    assert dataset.features["png"] == Image()
    for row, sample in zip(dataset, samples, strict=True):
        assert (row["__key__"], row["cls"]) == (sample.key, sample.label)
        assert row["json"] == {"class_name": sample.class_name, **sample.provenance}
        assert np.array_equal(np.asarray(row["png"]), decode_image(sample.image)[:, :, 0])


def test_tar_lists_three_plain_members_a_sample(file, samples):
    names = subprocess.run(["tar", "-tf", file], capture_output=True, text=True, check=True)
    assert names.stdout.split() == [
        f"{sample.key}.{suffix}" for sample in samples for suffix in ("cls", "json", "png")
    ]


def test_members_say_nothing_of_when_or_by_whom(shard):
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in tar}
    assert facts == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}


def test_cut_between_two_members_is_noticed(shard):
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        start = tar.getmembers()[30].offset
    for cut in (shard[:start], shard[:start] + bytes(512)):
        with pytest.raises(ValueError, match="after member 30"):
            read_shard(cut, "webdataset")


def test_damaged_header_is_noticed(shard):
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        start = tar.getmembers()[30].offset
    damaged = bytearray(shard)
    damaged[start] ^= 1
    with pytest.raises(ValueError, match="after member 30"):
        read_shard(bytes(damaged), "webdataset")


def test_missing_member_is_named(shard, samples):
    name = f"{samples[4].key}.cls"
    broken = repack(shard, lambda member, content: None if member == name else content)
    with pytest.raises(ValueError, match=rf"{samples[4].key}: has members \['json', 'png'\]"):
        read_shard(broken, "webdataset")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("cls", b"boot"),
        ("json", b"{"),
        ("json", b"[]"),
        ("json", b"{}"),
        ("json", json.dumps({"class_name": "Sneaker", "sed": 3}).encode()),
    ],
)
def test_member_with_other_content_is_named(shard, samples, suffix, content):
    name = f"{samples[4].key}.{suffix}"
    broken = repack(shard, lambda member, old: content if member == name else old)
    with pytest.raises(ValueError, match=f"sample {samples[4].key}: .*{suffix}"):
        read_shard(broken, "webdataset")
