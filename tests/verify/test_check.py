"""What the light checks find: every planted fault by shard and key, and nothing in a clean root."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from factory.records import dataset_digest
from factory.sources.check import check_shard
from factory.spec import SpecError
from factory.store import Store
from tests.datasets import make_dataset
from tests.tampering import (
    put_record,
    put_samples,
    read_samples,
    with_other_pixels,
    with_provenance,
    without_mark,
)

TABLE = {"cat": 20, "dog": 3, "T-shirt/top": 17}


def keys(report):
    return {finding.key for finding in report.findings}


def shards(report):
    return {finding.shard for finding in report.findings}


def change_one(prepared, shard, place, change):
    """Apply `change` to one sample of a shard, and return its key."""
    samples = read_samples(prepared, shard)
    samples[place] = change(samples[place])
    put_samples(prepared, shard, samples)
    return samples[place].key


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, [14, 13, 13]),
        ({"images_per_class": TABLE}, [20, 3, 17]),
        ({"num_images": 5, "class_names": ["dog", "cat"]}, [3, 2]),
        ({"num_images": 0}, [0, 0, 0]),
    ],
)
def test_clean_root_is_ok(tmp_path, tiny_model, verify, form, fields, counts):
    made = make_dataset(tmp_path, tiny_model, output={"format": form}, **fields)
    report = verify(tmp_path)
    assert (report.ok, report.exit_code, report.mend) == (True, 0, None)
    assert list(report.class_counts.values()) == counts
    assert report.num_images == sum(counts)
    assert report.digest == dataset_digest(made.inventory.records)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        ({"num_images": 20}, {"num_images": 50}),
        ({"images_per_class": {"dog": 3}}, {"images_per_class": TABLE}),
    ],
)
def test_root_that_has_grown_is_ok(tmp_path, tiny_model, verify, few, many):
    make_dataset(tmp_path, tiny_model, **few)
    make_dataset(tmp_path, tiny_model, **many)
    report = verify(tmp_path)
    assert report.ok
    assert report.num_images == (50 if "num_images" in many else 40)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_flipped_byte_names_the_shard(root, opened, verify, place):
    record = opened(root).records[1]
    path = root / record.file
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)
    report = verify(root)
    assert report.exit_code == 3
    assert shards(report) == {1}
    assert {finding.file for finding in report.findings} == {record.file}


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-100])


def spoil_record(path: Path):
    path.write_text(path.read_text().replace("num_samples", "num_pictures"))


def cut_record(path: Path):
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("harm", "which"),
    [
        (truncate, "file"),
        (Path.unlink, "file"),
        (spoil_record, "name"),
        (cut_record, "name"),
    ],
)
def test_broken_files_are_named_and_mended_by_generating_again(
    root, tiny_model, opened, verify, harm, which
):
    record = opened(root).records[1]
    form, before = record.format, verify(root).digest
    harm(root / getattr(record, which))
    report = verify(root)
    assert report.exit_code == 3
    assert [(f.shard, f.file) for f in report.findings] == [(1, record.name)]
    assert report.missing == [1]
    assert report.mend.startswith("run jobs/generate.py")
    make_dataset(root, tiny_model, output={"format": form}, recheck=True)
    mended = verify(root)
    assert mended.ok
    assert mended.digest == before


def test_damaged_bytes_are_mended_by_generating_again(root, tiny_model, opened, verify):
    record, before = opened(root).records[2], verify(root).digest
    path = root / record.file
    path.write_bytes(bytes(path.stat().st_size))
    report = verify(root)
    assert shards(report) == {2}
    assert report.mend.startswith("run jobs/generate.py")
    make_dataset(root, tiny_model, output={"format": record.format}, recheck=True)
    mended = verify(root)
    assert (mended.ok, mended.digest) == (True, before)


def undecodable(sample):
    return replace(sample, image=sample.image[: len(sample.image) // 2])


def repainted(sample):
    return replace(sample, image=with_other_pixels(sample).image)


@pytest.mark.parametrize(
    "change",
    [
        without_mark,
        undecodable,
        repainted,
        lambda sample: replace(sample, label=1, class_name="dog"),
        lambda sample: replace(sample, key="cat-00001-999999"),
        lambda sample: replace(sample, key="cat-00007-000001"),
        lambda sample: replace(sample, key="nothing"),
        lambda sample: with_provenance(sample, seed=1),
        lambda sample: with_provenance(sample, seed=None),
        lambda sample: with_provenance(sample, width=9),
        lambda sample: with_provenance(sample, is_synthetic=False),
        lambda sample: with_provenance(sample, model_revision="0" * 64),
        lambda sample: with_provenance(sample, guidance_scale=2.0),
    ],
)
def test_changed_sample_is_named_though_its_record_agrees(root, opened, verify, change):
    prepared = opened(root)
    place = next(i for i, s in enumerate(read_samples(prepared, 1)) if s.class_name == "cat")
    key = change_one(prepared, 1, place, change)
    report = verify(root)
    assert report.exit_code == 3
    assert [(f.shard, f.key) for f in report.findings] == [(1, key)]


def test_swapped_labels_name_both_samples(root, opened, verify):
    prepared = opened(root)
    samples = read_samples(prepared, 0)
    one, two = samples[3], samples[7]
    assert one.label != two.label
    samples[3] = replace(one, label=two.label, class_name=two.class_name)
    samples[7] = replace(two, label=one.label, class_name=one.class_name)
    put_samples(prepared, 0, samples)
    assert keys(verify(root)) == {one.key, two.key}


def test_samples_out_of_order_or_of_another_shard_are_named(root, opened, verify):
    prepared = opened(root)
    first, second = read_samples(prepared, 0), read_samples(prepared, 1)
    put_samples(prepared, 0, [first[1], first[0], *first[2:]])
    put_samples(prepared, 1, [*second[:-1], first[-1]])
    report = verify(root)
    assert {(f.shard, f.key) for f in report.findings} == {(0, first[0].key), (1, first[-1].key)}
    assert report.num_duplicates == 1


def test_record_that_miscounts_is_named(root, opened, verify):
    prepared = opened(root)
    record = prepared.records[0]
    counts = {**record.class_counts, "cat": 1}
    put_record(prepared, record.model_copy(update={"class_counts": counts, "num_candidates": 99}))
    report = verify(root)
    assert [(f.shard, f.key) for f in report.findings] == [(0, None), (0, None)]


def test_shard_that_holds_more_than_its_size_is_named(root, opened, verify):
    prepared = opened(root)
    samples = read_samples(prepared, 0)
    extra = prepared.dataset.plan.candidate(0, len(samples)).key
    put_samples(prepared, 0, [*samples, replace(samples[1], key=extra)])
    report = verify(root)
    assert {(f.shard, f.key) for f in report.findings} == {(0, None), (0, extra)}


def test_file_of_another_name_is_named(root, opened, verify):
    prepared = opened(root)
    record = prepared.records[0]
    (root / record.file).rename(root / "data" / f"renamed{Path(record.file).suffix}")
    file = f"data/renamed{Path(record.file).suffix}"
    put_record(prepared, record.model_copy(update={"file": file}))
    assert [(f.shard, f.file) for f in verify(root).findings] == [(0, file)]


@pytest.mark.parametrize(("shard", "other"), [(1, 1), (1, 0)])
def test_planted_duplicate_names_both_keys(root, opened, verify, shard, other):
    prepared = opened(root)
    twin = read_samples(prepared, other)[5]
    key = change_one(
        prepared,
        shard,
        2,
        lambda sample: with_provenance(
            replace(sample, image=twin.image), pixel_sha256=twin.provenance["pixel_sha256"]
        ),
    )
    report = verify(root)
    assert report.findings == []
    assert (report.exit_code, report.num_duplicates) == (3, 1)
    assert [set(duplicate.keys) for duplicate in report.duplicates] == [{key, twin.key}]


def test_collapsed_model_is_counted_and_named_once(root, opened, verify):
    prepared = opened(root)
    one = read_samples(prepared, 0)[0]
    for shard in prepared.records:
        same = [
            with_provenance(
                replace(sample, image=one.image), pixel_sha256=one.provenance["pixel_sha256"]
            )
            for sample in read_samples(prepared, shard)
        ]
        put_samples(prepared, shard, same)
    report = verify(root)
    assert (report.num_findings, report.num_duplicates, len(report.duplicates)) == (0, 39, 1)


def test_mend_names_the_records_to_delete_and_then_mends(root, tiny_model, opened, verify):
    prepared, before = opened(root), verify(root).digest
    form = prepared.dataset.format
    change_one(prepared, 2, 0, without_mark)
    report = verify(root)
    name = prepared.records[2].name
    assert report.mend.startswith(f"delete {name}, then run jobs/generate.py")
    (root / name).unlink()
    make_dataset(root, tiny_model, output={"format": form}, recheck=True)
    mended = verify(root)
    assert (mended.ok, mended.digest) == (True, before)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_missing_shard_is_incomplete_and_no_mismatch(root, opened, verify, gone):
    record = opened(root).records[gone]
    for name in (record.name, record.file):
        (root / name).unlink()
    report = verify(root)
    assert (report.exit_code, report.missing, report.findings) == (1, [gone], [])
    assert (report.ok, report.num_images) == (False, 40 - record.num_samples)


def test_gap_in_a_growing_root_is_missing(tmp_path, tiny_model, opened, verify):
    make_dataset(tmp_path, tiny_model, num_images=20)
    short = opened(tmp_path).records[1]
    kept = {name: (tmp_path / name).read_bytes() for name in (short.name, short.file)}
    grown = make_dataset(tmp_path, tiny_model, num_images=60).inventory.records
    for name in (grown[1].name, grown[1].file, grown[2].name, grown[2].file):
        (tmp_path / name).unlink()
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    report = verify(tmp_path)
    assert (report.exit_code, report.missing) == (1, [1, 2])


def test_strays_are_counted_and_no_fault(root, verify):
    (root / "data" / "train-00001-00000000.parquet").write_bytes(b"late")
    report = verify(root)
    assert (report.ok, report.num_strays) == (True, 1)


def test_findings_beyond_a_hundred_are_counted(tmp_path, tiny_model, opened, verify):
    fields = {"num_images": 150, "shard_size": 120, "generator": {"num_inference_steps": 1}}
    make_dataset(tmp_path, tiny_model, **fields)
    prepared = opened(tmp_path)
    for shard in prepared.records:
        put_samples(prepared, shard, [without_mark(s) for s in read_samples(prepared, shard)])
    report = verify(tmp_path)
    assert (report.num_findings, len(report.findings)) == (150, 100)


def test_machine_that_does_not_see_the_root_says_so(root, opened, tmp_path):
    prepared = opened(root)
    elsewhere = replace(prepared.dataset, store=Store(str(tmp_path / "elsewhere")))
    with pytest.raises(SpecError, match="does not see it"):
        check_shard(elsewhere, prepared.records[0])


def test_file_that_vanishes_meanwhile_is_found(root, opened):
    prepared = opened(root)
    (root / prepared.records[0].file).unlink()
    check = check_shard(prepared.dataset, prepared.records[0])
    assert check.is_damaged
    assert check.num_findings


def test_checks_read_every_shard_once_and_write_nothing(root, verify):
    def listing():
        return {p: p.stat().st_mtime_ns for p in itertools.chain([root], root.rglob("*"))}

    before = listing()
    verify(root)
    assert listing() == before
