import numpy as np
import pytest

from factory.sources.hub import open_hub
from factory.sources.open import open_source
from factory.sources.source import Source
from factory.spec import SourceSpec, SpecError
from tests.sources.pictures import CLASS_NAMES, encode, pictures, write_parquet


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
    digests = {kind: open_source(SourceSpec(path=str(p))).digest for kind, p in packings.items()}
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
    source = open_source(SourceSpec(path=str(path)))
    assert np.array_equal(source.images, images)
    assert source.labels.tolist() == LABELS
    assert source.class_names == CLASS_NAMES
    assert str(tmp_path.parent) not in source.name


def test_parquet_source_without_declared_names_counts_its_classes(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS, names=None)
    assert open_source(SourceSpec(path=str(path))).class_names == ("0", "1", "2")


def test_image_folder_takes_classes_in_the_order_of_their_names(tmp_path, images):
    for name, image in zip(("cow", "ant", "zebra"), images, strict=False):
        (tmp_path / "train" / name / "deep").mkdir(parents=True)
        (tmp_path / "train" / name / "deep" / "1.PNG").write_bytes(encode(image))
    source = open_source(SourceSpec(path=str(tmp_path)))
    assert source.class_names == ("ant", "cow", "zebra")
    assert source.labels.tolist() == [0, 1, 2]
    assert np.array_equal(source.images, images[[1, 0, 2]])


def test_hub_source_equals_the_parquet_file_it_is_made_of(tmp_path, images):
    path = write_parquet(tmp_path / "repo" / "train.parquet", images, LABELS)
    from_hub = open_hub(SourceSpec(path="hub:org/name"), str(path.parent))
    assert from_hub.digest == open_source(SourceSpec(path=str(path))).digest


@pytest.mark.parametrize(("split", "each"), [("train", 200), ("test", 100)])
def test_embedded_source_is_balanced_and_no_prefix_is_one_class(split, each):
    source = open_source(SourceSpec(split=split))
    assert set(source.class_counts.values()) == {each}
    assert len(set(source.labels[:50].tolist())) == 10
    assert source.images.shape[1:] == (28, 28, 1)
    assert source.licence == "mit"


def test_embedded_splits_share_no_image():
    train, test = (open_source(SourceSpec(split=split)) for split in ("train", "test"))
    assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in test.images}


def test_missing_column_is_refused_with_the_columns_present(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS)
    with pytest.raises(SpecError, match="no column fine_label; it has image, label"):
        open_source(SourceSpec(path=str(path), label_column="fine_label"))


def test_column_of_another_type_is_refused(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, LABELS)
    with pytest.raises(SpecError, match="column label is int64, expected encoded images"):
        open_source(SourceSpec(path=str(path), image_column="label"))


def test_labels_without_a_class_are_all_named(tmp_path, images):
    path = write_parquet(tmp_path / "train.parquet", images, [0, 7, -1, 2, 1, 0, 0, 0, 1])
    with pytest.raises(SpecError, match=r"labels \[-1, 7\], but 3 classes"):
        open_source(SourceSpec(path=str(path)))


def test_empty_class_folder_is_named(tmp_path, images):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0.png").write_bytes(encode(images[0]))
    (tmp_path / "hollow").mkdir()
    with pytest.raises(SpecError, match="no images in hollow"):
        open_source(SourceSpec(path=str(tmp_path)))


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
        open_source(SourceSpec(**fields))
