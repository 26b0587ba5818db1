"""A factory root is a source: all that is recorded, or a prefix that stays while the root grows."""

import json
import shutil

import numpy as np
import pytest
import webdataset

from factory.images import encode_png
from factory.records import SPEC_NAME
from factory.shards.reader import read_shard
from factory.sources.open import open_source
from factory.spec import LongTail, SourceSpec, SpecError
from tests.conftest import CLASS_NAMES
from tests.datasets import make_dataset
from tests.pools import save_labeller, save_unconditional
from tests.sources.pictures import write_parquet

TWO = {"class_names": ["cat", "dog"], "images_per_class": {"cat": 11, "dog": 5}}
"""Two shards of one class each: in an image folder, too, all cats come before all dogs."""


def opened(path, *, images_per_class=None, **fields):
    return open_source(SourceSpec(path=str(path), **fields), images_per_class=images_per_class)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_model):
    """Interleaved: shards of 16, 16 and 8 images."""
    return make_dataset(tmp_path_factory.mktemp("roots") / "out", tiny_model)


@pytest.fixture
def root(dataset, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(dataset.store.url, tmp_path / "out")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Makes a dataset of one pool, whose shards of 8 take 2 images of each of three classes."""
    folder = tmp_path_factory.mktemp("pool")
    model = save_unconditional(folder / "model")
    labeller = {"model": str(save_labeller(folder / "labeller", model))}

    def make(root, **fields):
        return make_dataset(root, model, labeller=labeller, **{"shard_size": 8, **fields})

    return make


def samples_of(prepared):
    form = prepared.resolved.spec.output.format
    return [
        sample
        for record in prepared.inventory.records.values()
        for sample in read_shard(prepared.store.get(record.file), form)
    ]


def names_of(source):
    return [source.class_names[label] for label in source.labels]


def write_folder(folder, source):
    for row, (image, name) in enumerate(zip(source.images, names_of(source), strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        data = encode_png(image, mark=None, compress_level=1)
        (folder / name / f"{row:03d}.png").write_bytes(data)
    return folder


def write_tar(path, source):
    with webdataset.TarWriter(str(path), mtime=0) as writer:
        for row, (image, label) in enumerate(zip(source.images, source.labels, strict=True)):
            data = encode_png(image, mark=None, compress_level=1)
            writer.write({"__key__": f"{row:03d}", "png": data, "cls": int(label)})
    return path


def test_one_content_has_one_digest_whatever_it_is_kept_in(tmp_path, tiny_model):
    parquet = make_dataset(tmp_path / "parquet", tiny_model, **TWO)
    tars = {"output": {"format": "webdataset"}}
    make_dataset(tmp_path / "tars", tiny_model, **TWO, **tars)
    make_dataset(f"memory://{tmp_path.name}", tiny_model, **TWO)
    source = opened(tmp_path / "parquet")
    places = [
        tmp_path / "tars",
        f"memory://{tmp_path.name}",
        tmp_path / "parquet" / "data",
        tmp_path / "tars" / "data",
        write_parquet(tmp_path / "0.parquet", source.images, source.labels, names=("cat", "dog")),
        write_folder(tmp_path / "folder", source),
    ]
    digests = {str(place): opened(place).digest for place in places}
    named = opened(write_tar(tmp_path / "0.tar", source), class_names=("cat", "dog"))
    assert source.class_counts == {"cat": 11, "dog": 5}
    assert len(samples_of(parquet)) == len(source)
    assert {*digests.values(), named.digest} == {source.digest}, digests


def test_root_holds_its_samples_in_shard_order_and_names_no_path(dataset):
    source = opened(dataset.store.url)
    samples = samples_of(dataset)
    assert source.labels.tolist() == [sample.label for sample in samples]
    assert source.class_names == CLASS_NAMES
    assert len(source) == 40
    assert source.name == "synthetic"


def test_root_says_what_its_model_was_trained_on(tmp_path, tiny_model, dataset):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    seen = {"name": "stripes", "split": "train", "num_images": 120, "digest": "ab"}
    index = model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"trained_on": seen}))
    make_dataset(tmp_path / "out", model, num_images=3)
    assert opened(tmp_path / "out").trained_on == seen
    assert opened(dataset.store.url).trained_on is None


def test_root_made_before_trained_on_was_recorded_is_read(root):
    spec = json.loads((root / SPEC_NAME).read_text())
    del spec["trained_on"]
    (root / SPEC_NAME).write_text(json.dumps(spec))
    assert opened(root).trained_on is None


@pytest.mark.parametrize("counts", [(3, 3, 3), (1, 0, 7), (0, 6, 0), (13, 13, 12)])
def test_needed_images_are_the_first_of_each_class(dataset, counts):
    asked = dict(zip(CLASS_NAMES, counts, strict=True))
    whole = opened(dataset.store.url)
    first = {
        name: np.flatnonzero(np.array(names_of(whole)) == name)[:n] for name, n in asked.items()
    }
    expected = whole.take(np.sort(np.concatenate(list(first.values()))))
    assert opened(dataset.store.url, images_per_class=asked).digest == expected.digest


def test_root_that_holds_fewer_images_gives_what_there_is(dataset):
    asked = dict.fromkeys(CLASS_NAMES, 1000)
    there = opened(dataset.store.url)
    assert opened(dataset.store.url, images_per_class=asked).digest == there.digest


@pytest.mark.parametrize(
    "layout", [{}, {"images_per_class": 14, "layout": "by_class", "shard_size": 8}]
)
def test_prefix_stays_while_the_root_grows(tmp_path, tiny_model, layout):
    asked = dict(zip(CLASS_NAMES, (5, 13, 2), strict=True))
    make_dataset(tmp_path, tiny_model, **layout)
    before = opened(tmp_path, images_per_class=asked)
    more = {**layout, "images_per_class": 20} if layout else {"num_images": 70}
    make_dataset(tmp_path, tiny_model, **more)
    assert opened(tmp_path, images_per_class=asked).digest == before.digest
    assert before.class_counts == asked


@pytest.mark.parametrize(
    ("few", "more"),
    [
        ({"labels": "as_found", "num_images": 21}, {"labels": "as_found", "num_images": 40}),
        (
            {"labels": "quota", "images_per_class": {"cat": 3, "dog": 7, "T-shirt/top": 0}},
            {"labels": "quota", "images_per_class": 9},
        ),
    ],
    ids=["as_found", "quota"],
)
def test_prefix_of_a_pool_stays_while_the_root_grows(tmp_path, pool, few, more):
    made = samples_of(pool(tmp_path, **few))
    everything = dict.fromkeys(CLASS_NAMES, 1000)
    before = opened(tmp_path, images_per_class=everything)
    assert before.digest == opened(tmp_path).digest
    assert len(before) == len(made)
    pool(tmp_path, **more)
    assert opened(tmp_path, images_per_class=before.class_counts).digest == before.digest
    assert len(opened(tmp_path, images_per_class=everything)) > len(before)


def test_only_the_shards_that_are_needed_are_read(root, dataset):
    last = dataset.inventory.records[2].file
    (root / last).write_bytes(bytes(dataset.inventory.records[2].num_bytes))
    prefix = opened(root, images_per_class=dict.fromkeys(CLASS_NAMES, 10))
    assert prefix.class_counts == dict.fromkeys(CLASS_NAMES, 10)
    with pytest.raises(SpecError) as error:
        opened(root)
    wanted = [last, dataset.inventory.records[2].sha256[:12], f"--root {root}", "recheck=true"]
    assert all(part in str(error.value) for part in wanted)


@pytest.mark.parametrize(
    ("fields", "gap", "counts"),
    [
        ({}, 1, {"cat": 6, "dog": 5, "T-shirt/top": 5}),
        # Shards 0 and 3 hold cats, 1 and 4 dogs, 2 and 5 shirts: only the cats are broken off.
        (
            {"images_per_class": 14, "layout": "by_class", "shard_size": 8},
            0,
            {"cat": 0, "dog": 14, "T-shirt/top": 14},
        ),
    ],
    ids=["interleaved", "by_class"],
)
def test_prefix_ends_before_a_shard_that_is_not_finished(tmp_path, tiny_model, fields, gap, counts):
    made = make_dataset(tmp_path, tiny_model, **fields)
    (tmp_path / made.inventory.records[gap].name).unlink()
    prefix = opened(tmp_path, images_per_class=dict.fromkeys(CLASS_NAMES, 1000))
    assert prefix.class_counts == counts
    recorded = sum(r.num_samples for shard, r in made.inventory.records.items() if shard != gap)
    assert len(opened(tmp_path)) == recorded


def test_prefix_of_quotas_ends_before_a_shard_that_is_not_finished(tmp_path, pool):
    made = pool(tmp_path, labels="quota", images_per_class=7)
    (tmp_path / made.inventory.records[2].name).unlink()
    prefix = opened(tmp_path, images_per_class=dict.fromkeys(CLASS_NAMES, 1000))
    assert prefix.class_counts == dict.fromkeys(CLASS_NAMES, 4)


def test_prefix_of_quotas_ends_with_each_class_that_has_yet_to_grow(tmp_path, pool):
    counts = {"cat": 6, "dog": 4, "T-shirt/top": 3}
    made = pool(tmp_path, labels="quota", images_per_class=counts)
    before = opened(tmp_path, images_per_class=dict.fromkeys(CLASS_NAMES, 1000))
    # Shards 2 and 3 grow before shard 1, which holds one shirt too few.
    short = made.inventory.records[1]
    kept = {name: (tmp_path / name).read_bytes() for name in (short.name, short.file)}
    grown = pool(tmp_path, labels="quota", images_per_class=8)
    (tmp_path / grown.inventory.records[1].name).unlink()
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    prefix = opened(tmp_path, images_per_class=dict.fromkeys(CLASS_NAMES, 1000))
    assert prefix.class_counts == {"cat": 8, "dog": 8, "T-shirt/top": 3}
    assert opened(tmp_path, images_per_class=counts).digest == before.digest


def test_prefix_ends_with_a_shard_that_has_yet_to_grow(tmp_path, tiny_model):
    make_dataset(tmp_path, tiny_model)
    short = opened(tmp_path, images_per_class=dict.fromkeys(CLASS_NAMES, 1000))
    grown = make_dataset(tmp_path, tiny_model, num_images=70)
    # Shards 3 and 4 are there before shard 2, of whose records only the shorter one is left.
    (tmp_path / grown.inventory.records[2].name).unlink()
    again = opened(tmp_path, images_per_class=dict.fromkeys(CLASS_NAMES, 1000))
    assert again.digest == short.digest
    assert len(opened(tmp_path)) == 62


def test_part_of_a_root_is_drawn_from_the_whole_whatever_is_needed(dataset):
    few = dict.fromkeys(CLASS_NAMES, 2)
    fields = {"num_images": 9, "long_tail": LongTail(factor=0.5), "half": "first"}
    for field, value in fields.items():
        part = opened(dataset.store.url, **{field: value})
        needed = opened(dataset.store.url, images_per_class=few, **{field: value})
        assert needed.digest == part.digest


def test_needed_images_of_other_kinds_are_left_to_the_mix(tmp_path, dataset):
    source = opened(dataset.store.url)
    path = write_parquet(tmp_path / "0.parquet", source.images, source.labels, names=CLASS_NAMES)
    assert len(opened(path, images_per_class={"cat": 1})) == len(source)


def test_root_is_converted_as_the_spec_says(dataset):
    source = opened(dataset.store.url, image_size=4, channels=1)
    assert source.images.shape == (40, 4, 4, 1)


def test_classes_that_the_root_does_not_have_are_named(dataset):
    with pytest.raises(SpecError, match=r"has no classes \['bee'\]; its classes are \['cat'"):
        opened(dataset.store.url, images_per_class={"cat": 1, "bee": 0})


def test_file_that_is_gone_is_named_with_the_command_that_mends_it(root, dataset):
    record = dataset.inventory.records[1]
    (root / record.file).unlink()
    with pytest.raises(SpecError) as error:
        opened(root, images_per_class={"cat": 1})
    assert all(
        part in str(error.value) for part in [record.name, record.file, f"--root {root} to mend"]
    )


def test_record_that_promises_other_classes_is_named(root, dataset):
    record = dataset.inventory.records[0]
    lie = record.model_copy(update={"class_counts": {"cat": 16}})
    (root / record.name).write_text(lie.model_dump_json())
    with pytest.raises(SpecError) as error:
        opened(root)
    assert all(part in str(error.value) for part in [record.file, record.name, "{'cat': 16}"])


def test_root_without_a_finished_shard_is_refused(root):
    shutil.rmtree(root / "records")
    with pytest.raises(SpecError, match=r"no finished shard yet; run jobs/generate\.py"):
        opened(root)


def test_root_of_something_else_is_refused(root):
    spec = json.loads((root / SPEC_NAME).read_text())
    del spec["identity"]["class_names"]
    (root / SPEC_NAME).write_text(json.dumps(spec))
    with pytest.raises(SpecError, match=r"is not that of a dataset"):
        opened(root)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("out", "make generate"),
        ("runs/big", "python jobs/generate.py --root runs/big"),
        ("memory://nothing-there", "jobs/generate.py --root memory://nothing-there"),
        (".", "python jobs/generate.py --root ."),
    ],
)
def test_place_where_nothing_is_names_the_command_that_makes_it(
    tmp_path, monkeypatch, path, command
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as error:
        opened(path)
    assert command in str(error.value)


def test_a_mistyped_file_is_no_place_for_a_dataset(tmp_path):
    with pytest.raises(SpecError, match="is no file, no folder") as error:
        opened(tmp_path / "train.parquet")
    assert "jobs/generate.py" not in str(error.value)
