"""WebDataset tars of any writer are read whole, or refused by tar and key."""

import io
import json
import tarfile

import numpy as np
import pytest
import webdataset

from factory.sources.open import open_source
from factory.spec import SourceSpec, SpecError
from tests.sources.pictures import CLASS_NAMES, encode, pictures, write_parquet

LABELS = [0, 1, 2, 2, 1, 0, 0, 0, 1]
IMAGE = encode(pictures(1)[0])


@pytest.fixture
def images():
    return pictures(9)


def write_tar(path, members):
    """A tar of (name, content) pairs in that order."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_with_library(path, images, labels, *, start=0, named=False):
    with webdataset.TarWriter(str(path), mtime=0) as writer:
        for row, (image, label) in enumerate(zip(images, labels, strict=True), start):
            sample = {"__key__": f"train/{row:04d}", "png": encode(image)}
            facts = {"label": label, "class_name": CLASS_NAMES[label]}
            writer.write(sample | ({"json": facts} if named else {"cls": label}))


def opened(path, **fields):
    return open_source(SourceSpec(path=str(path), **fields))


@pytest.mark.parametrize("named", [True, False], ids=["json", "cls"])
def test_tars_of_the_library_hold_the_same_content_as_parquet(tmp_path, images, named):
    write_with_library(tmp_path / "0.tar", images[:4], LABELS[:4], named=named)
    write_with_library(tmp_path / "1.tar", images[4:], LABELS[4:], start=4, named=named)
    (tmp_path / "all").mkdir()
    write_with_library(tmp_path / "all" / "0.tar", images, LABELS, named=named)
    parquet = opened(write_parquet(tmp_path / "parquet" / "0.parquet", images, LABELS))
    fields = {} if named else {"class_names": CLASS_NAMES}
    places = (tmp_path, tmp_path / "?.tar", tmp_path / "all" / "0.tar")
    assert {opened(place, **fields).digest for place in places} == {parquet.digest}


def test_labels_without_names_are_called_by_their_numbers(tmp_path, images):
    write_with_library(tmp_path / "0.tar", images, LABELS)
    assert opened(tmp_path).class_names == ("0", "1", "2")


def test_a_key_ends_at_the_first_dot_of_its_base_name_and_other_members_are_let_be(tmp_path):
    members = [
        ("README", b"text"),
        ("v1.0/a.PNG", IMAGE),
        ("v1.0/a.cls", b"1\n"),
        ("v1.0/a.seg.png", b"a mask"),
        ("v1.0/b.jpg", IMAGE),
        ("v1.0/b.cls", b" 0"),
        (".hidden", b""),
    ]
    source = opened(write_tar(tmp_path / "0.tar", members))
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("bad.cls", b"0")], "has 0 images"),
        ([("bad.png", IMAGE), ("bad.jpg", IMAGE), ("bad.cls", b"0")], "has 2 images"),
        ([("bad.png", IMAGE)], "has 0 labels"),
        ([("bad.png", IMAGE), ("bad.json", b"{}")], "has 0 labels"),
        ([("bad.png", IMAGE), ("bad.cls", b"cat")], "its label is 'cat'"),
        ([("bad.png", IMAGE), ("bad.json", b'{"label": true}')], "its label is True"),
        ([("bad.png", IMAGE), ("bad.json", b"{")], "its .json is none"),
        ([("bad.png", IMAGE), ("bad.json", b"[0]")], "its .json is no object"),
        (
            [("bad.png", IMAGE), ("bad.json", b'{"label": 0, "class_name": 7}')],
            "its class_name is 7",
        ),
        ([("good.png", IMAGE), ("good.cls", b"0")], "its key is there before"),
    ],
)
def test_sample_that_cannot_be_used_is_refused_by_tar_and_key(tmp_path, members, what):
    before = [("good.png", IMAGE), ("good.cls", b"0"), ("fine.png", IMAGE), ("fine.cls", b"0")]
    key = members[0][0].partition(".")[0]
    write_tar(tmp_path / "7.tar", before + members)
    with pytest.raises(SpecError) as error:
        opened(tmp_path)
    assert f"1 of 3 samples cannot be used: 7.tar {key} ({what}" in str(error.value)


def test_members_of_a_sample_that_lie_apart_are_refused(tmp_path):
    members = [("a.png", IMAGE), ("b.png", IMAGE), ("b.cls", b"0"), ("a.cls", b"0")]
    with pytest.raises(SpecError, match=r"2 of 3 .* 0\.tar a \(has 0 labels\)"):
        opened(write_tar(tmp_path / "0.tar", members))


def test_the_same_key_in_two_tars_is_two_samples(tmp_path):
    for name in ("0.tar", "1.tar"):
        write_tar(tmp_path / name, [("a.png", IMAGE), ("a.cls", b"0")])
    assert len(opened(tmp_path)) == 2


def named_samples(pairs):
    for row, (label, name) in enumerate(pairs):
        yield f"{row}.png", IMAGE
        yield f"{row}.json", json.dumps({"label": label, "class_name": name}).encode()


def test_label_of_two_names_is_refused_with_both(tmp_path):
    pairs = [(0, "ant"), (1, "cow"), (0, "bee")]
    with pytest.raises(SpecError, match=r"\{0: \['ant', 'bee'\]\}"):
        opened(write_tar(tmp_path / "0.tar", named_samples(pairs)))


def test_class_without_a_sample_takes_its_name_from_the_spec_or_is_refused(tmp_path):
    path = write_tar(tmp_path / "0.tar", named_samples([(0, "zebra"), (2, "cow")]))
    with pytest.raises(SpecError, match=r"labels \[1\]; set class_names"):
        opened(path)
    assert opened(path, class_names=CLASS_NAMES).class_counts == {"zebra": 1, "ant": 0, "cow": 1}
    with pytest.raises(SpecError, match="leave class_names out"):
        opened(path, class_names=("zebra", "ant", "pig"))


def test_corrupt_image_is_named_by_tar_and_key(tmp_path):
    members = [("a.png", IMAGE), ("a.cls", b"0"), ("b.png", IMAGE[:40]), ("b.cls", b"0")]
    path = write_tar(tmp_path / "3.tar", members)
    with pytest.raises(SpecError, match=r"3\.tar b \("):
        opened(path)
    assert opened(path, skip_corrupt=True).skipped == ("3.tar b",)


@pytest.mark.parametrize("num_bytes", [100, 1536, 2048, 3000])
def test_cut_tar_is_refused_by_name_and_never_read_short(tmp_path, images, num_bytes):
    write_with_library(tmp_path / "0.tar", images, LABELS)
    whole = (tmp_path / "0.tar").read_bytes()
    assert num_bytes < len(whole.rstrip(b"\0"))
    (tmp_path / "0.tar").write_bytes(whole[:num_bytes])
    with pytest.raises(SpecError, match=r"0\.tar.*fetch it again"):
        opened(tmp_path)


def test_damaged_header_inside_a_tar_is_refused(tmp_path, images):
    write_with_library(tmp_path / "0.tar", images, LABELS)
    damaged = bytearray((tmp_path / "0.tar").read_bytes())
    damaged[2048:2060] = bytes(12)
    (tmp_path / "0.tar").write_bytes(damaged)
    with pytest.raises(SpecError, match=r"0\.tar: "):
        opened(tmp_path)


def test_tar_of_no_samples_is_refused(tmp_path):
    with pytest.raises(SpecError, match="holds no images"):
        opened(write_tar(tmp_path / "0.tar", [("README", b"")]))


def test_images_are_those_of_their_keys(tmp_path, images):
    members = [
        (f"{row}.{kind}", data)
        for row, image in enumerate(images)
        for kind, data in (("cls", str(LABELS[row]).encode()), ("png", encode(image)))
    ]
    source = opened(write_tar(tmp_path / "0.tar", members))
    assert np.array_equal(source.images, images)
    assert source.labels.tolist() == LABELS
