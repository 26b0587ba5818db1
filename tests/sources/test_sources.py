import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from factory.sources.hub import open_hub
from factory.sources.open import open_source
from factory.sources.source import Source, balanced_part, hold_out
from factory.spec import RealSource, SpecError

CLASS_NAMES = ("zebra", "ant", "cow")


def pictures(count, *, size=8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def encode(pixels, kind="PNG", **options):
    encoded = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(encoded, kind, **options)
    return encoded.getvalue()


def write_parquet(path, images, labels, *, names=CLASS_NAMES, as_struct=True, kind="PNG"):
    cells = [
        image if isinstance(image, bytes) else encode(image, kind, lossless=True)
        for image in images
    ]
    if as_struct:
        cells = [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(cells)]
    table = pa.table({"image": cells, "label": pa.array(labels, pa.int64())})
    if names is not None:
        label = {"names": list(names), "_type": "ClassLabel"}
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def in_memory(counts, *, names=CLASS_NAMES):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = np.random.default_rng(1).permutation(len(labels))
    return Source(
        name="made",
        split="train",
        images=pictures(len(labels)),
        labels=labels[order],
        class_names=names,
    )


@pytest.fixture
def images():
    return pictures(9)


LABELS = [0, 1, 2, 2, 1, 0, 0, 0, 1]


def test_digest_of_one_content_in_any_packing_is_equal(tmp_path, images):
    packings = {
        "struct": write_parquet(tmp_path / "a.parquet", images, LABELS),
        "binary": write_parquet(tmp_path / "b.parquet", images, LABELS, as_struct=False),
        "webp": write_parquet(tmp_path / "c.parquet", images, LABELS, kind="BMP"),
    }
    write_parquet(tmp_path / "split" / "0.parquet", images[:4], LABELS[:4])
    write_parquet(tmp_path / "split" / "1.parquet", images[4:], LABELS[4:])
    packings |= {"folder": tmp_path / "split", "glob": tmp_path / "spl*" / "?.parquet"}
    digests = {kind: open_source(RealSource(path=str(p))).digest for kind, p in packings.items()}
    assert len(set(digests.values())) == 1, digests


def test_digest_changes_with_a_pixel_a_label_an_order_and_a_name(images):
    labels = np.array(LABELS)

    def digest(images=images, labels=labels, names=CLASS_NAMES):
        return Source("made", "train", images, labels, names).digest

    other = images.copy()
    other[3, 2, 1, 0] ^= 1
    changed = [
        digest(images=other),
        digest(labels=(labels + 1) % 3),
        digest(images=images[::-1], labels=labels[::-1]),
        digest(names=("zebra", "ant", "bee")),
        digest(),
    ]
    assert len(set(changed)) == len(changed)


def test_parquet_source_holds_pixels_labels_and_declared_names_in_row_order(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS)
    source = open_source(RealSource(path=str(path)))
    assert np.array_equal(source.images, images)
    assert source.labels.tolist() == LABELS
    assert source.class_names == CLASS_NAMES
    assert str(tmp_path.parent) not in source.name


def test_parquet_source_without_declared_names_counts_its_classes(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS, names=None)
    assert open_source(RealSource(path=str(path))).class_names == ("0", "1", "2")


def test_image_folder_takes_classes_in_the_order_of_their_names(tmp_path, images):
    for name, image in zip(("cow", "ant", "zebra"), images, strict=False):
        (tmp_path / "train" / name / "deep").mkdir(parents=True)
        (tmp_path / "train" / name / "deep" / "1.PNG").write_bytes(encode(image))
    source = open_source(RealSource(path=str(tmp_path)))
    assert source.class_names == ("ant", "cow", "zebra")
    assert source.labels.tolist() == [0, 1, 2]
    assert np.array_equal(source.images, images[[1, 0, 2]])


def test_hub_source_equals_the_parquet_file_it_is_made_of(tmp_path, images):
    path = write_parquet(tmp_path / "repo" / "train.parquet", images, LABELS)
    from_hub = open_hub(RealSource(path="hub:org/name"), str(path.parent))
    assert from_hub.digest == open_source(RealSource(path=str(path))).digest


@pytest.mark.parametrize(("split", "each"), [("train", 200), ("test", 100)])
def test_embedded_source_is_balanced_and_no_prefix_is_one_class(split, each):
    source = open_source(RealSource(split=split))
    assert set(source.class_counts.values()) == {each}
    assert len(set(source.labels[:50].tolist())) == 10
    assert source.images.shape[1:] == (28, 28, 1)
    assert source.licence == "mit"


def test_embedded_splits_share_no_image():
    train, test = (open_source(RealSource(split=split)) for split in ("train", "test"))
    assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in test.images}


def test_part_is_balanced_repeatable_and_within_a_larger_one():
    source = in_memory([20, 30, 25])
    small, large = (balanced_part(source, count, seed=3) for count in (12, 31))
    assert list(small.class_counts.values()) == [4, 4, 4]
    assert list(large.class_counts.values()) == [11, 10, 10]
    assert small.digest == balanced_part(source, 12, seed=3).digest
    assert small.digest != balanced_part(source, 12, seed=4).digest
    assert {i.tobytes() for i in small.images} < {i.tobytes() for i in large.images}


def test_part_of_a_class_does_not_depend_on_other_classes():
    source = in_memory([20, 30, 25])
    without_first = np.flatnonzero(source.labels != 0)
    smaller = Source(
        "made",
        "train",
        source.images[without_first],
        source.labels[without_first] - 1,
        CLASS_NAMES[1:],
    )
    some = balanced_part(source, 15, seed=0)
    assert np.array_equal(some.images[some.labels != 0], balanced_part(smaller, 10, seed=0).images)


def test_part_of_too_small_classes_is_refused_with_their_counts():
    with pytest.raises(SpecError, match=r"5 of zebra, 3 of cow"):
        balanced_part(in_memory([5, 30, 3]), 24, seed=0)


def test_held_out_part_is_balanced_and_disjoint_from_the_rest():
    source = in_memory([40, 20, 60])
    rest, held = hold_out(source, 0.1, seed=0)
    assert list(held.class_counts.values()) == [4, 4, 4]
    both = {i.tobytes() for i in rest.images} | {i.tobytes() for i in held.images}
    assert len(rest) + len(held) == len(both) == len(source)


def test_holding_out_more_than_the_smallest_class_is_refused():
    with pytest.raises(SpecError, match="smallest class has 3"):
        hold_out(in_memory([90, 90, 3]), 0.1, seed=0)


def test_corrupt_image_is_named(tmp_path, images):
    cells = [*images[:3], encode(images[3])[:40], *images[4:]]
    path = write_parquet(tmp_path / "train.parquet", cells, LABELS)
    with pytest.raises(SpecError, match=r"row 3 \(3\.png\)"):
        open_source(RealSource(path=str(path)))


def test_images_of_two_sizes_are_refused_naming_the_first_offender(tmp_path, images):
    cells = [*images[:8], pictures(1, size=9)[0]]
    path = write_parquet(tmp_path / "train.parquet", cells, LABELS)
    with pytest.raises(SpecError, match=r"row 8 \(8\.png\) is 9x9 grey, but .* is 8x8 grey"):
        open_source(RealSource(path=str(path)))


def test_missing_column_is_refused_with_the_columns_present(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS)
    with pytest.raises(SpecError, match="no column fine_label; it has image, label"):
        open_source(RealSource(path=str(path), label_column="fine_label"))


def test_column_of_another_type_is_refused(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS)
    with pytest.raises(SpecError, match="column label is int64, expected encoded images"):
        open_source(RealSource(path=str(path), image_column="label"))


def test_labels_without_a_class_are_all_named(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, [0, 7, -1, 2, 1, 0, 0, 0, 1])
    with pytest.raises(SpecError, match=r"labels \[-1, 7\], but 3 classes"):
        open_source(RealSource(path=str(path)))


def test_empty_class_folder_is_named(tmp_path, images):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0.png").write_bytes(encode(images[0]))
    (tmp_path / "hollow").mkdir()
    with pytest.raises(SpecError, match="no images in hollow"):
        open_source(RealSource(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "no/such/file.parquet"}, r"embedded: \['fashion_mnist_small'"),
        ({"split": "validation"}, r"it has \['test', 'train'\]"),
        ({"revision": "main"}, "not on the Hub"),
        ({"path": "hub:no/such"}, "give the path of local files"),
        ({"num_images": 5_000}, "200 of Trouser"),
    ],
)
def test_source_that_cannot_be_had_is_refused_with_a_remedy(fields, message):
    with pytest.raises(SpecError, match=message):
        open_source(RealSource(**fields))
