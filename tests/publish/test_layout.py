"""A repository gets whole shards and what speaks of them; real images and mixes are as marked."""

import json
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest

from factory.images import (
    COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
    TRAINED_ALGORITHMIC_MEDIA,
    decode_image,
    read_mark,
)
from factory.publish.checked import check_root
from factory.publish.derived import Derived
from factory.shards.manifest import Manifest
from factory.shards.reader import read_shard
from factory.sources.open import open_source
from factory.sources.promise import open_dataset
from factory.spec import JobError, PublishSpec, SourceSpec, SpecError
from tests.datasets import make_dataset
from tests.publish.roots import FIELDS, laid_out, save_real


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def clean_root(request, tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("layout")
    make_dataset(folder, tiny_model, output={"format": request.param})
    return folder


@pytest.fixture
def root(clean_root, tmp_path):
    """Three shards of 16, 16 and 8 images."""
    return shutil.copytree(clean_root, tmp_path / "root")


@pytest.fixture
def real(tmp_path):
    """Real images: 5, 3 and 4 of the classes."""
    return save_real(tmp_path / "real.parquet")


@pytest.fixture
def layout(tmp_path):
    def make(root, name="spool", **fields):
        return laid_out(root, tmp_path / name, **fields)

    return make


def more(real, **mixes):
    configs = {"real": {"kind": "real", "source": {"path": str(real)}, "licence": "mit"}}
    mixes = {name: {"kind": "mix", "real": "real", "mix": mix} for name, mix in mixes.items()}
    return configs | mixes


def samples_of(made, config):
    """The samples of a config, from the files that would be pushed."""
    found = next(one for one in made.manifest.configs if one.name == config)
    return [
        sample
        for file in found.files
        for sample in read_shard(made.shards[file.path].read(), found.format)
    ]


def numbers(paths):
    return sorted(path.split("-")[1] for path in paths)


def test_layout_holds_every_shard_under_its_own_name(root, layout):
    made = layout(root, config="main")
    there = {path.name: path.read_bytes() for path in (root / "data").iterdir()}
    assert {path: file.read() for path, file in made.shards.items()} == {
        f"data/main/{name}": data for name, data in there.items()
    }
    assert sorted(made.texts) == ["README.md", "croissant.json", "manifest.json"]
    assert Manifest.model_validate_json(made.texts["manifest.json"]) == made.manifest


def test_contact_sheet_of_the_root_goes_along(root, layout):
    (root / "contact-sheet.png").write_bytes(b"sheet")
    assert layout(root).texts["contact-sheet.png"] == b"sheet"


def test_same_spec_and_root_give_the_same_bytes(root, real, layout):
    fields = {"more": more(real, half={"kind": "replace", "fraction": 0.5})}
    first, second = (layout(root, name, **fields) for name in "ab")
    assert {path: file.read() for path, file in first.files.items()} == {
        path: file.read() for path, file in second.files.items()
    }


def test_growth_changes_only_the_short_last_shard(tmp_path, tiny_model, layout):
    few, many = (tmp_path / name for name in ("few", "many"))
    make_dataset(few, tiny_model)
    make_dataset(many, tiny_model, num_images=60)
    before, after = (set(layout(root, root.name).shards) for root in (few, many))
    assert numbers(before - after) == ["00002"]
    assert numbers(after - before) == ["00002", "00003"]


def test_damaged_shard_is_left_out(root, layout):
    file = sorted((root / "data").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    made = layout(root)
    assert (made.manifest.num_images, len(made.shards)) == (24, 2)
    assert not any(path.endswith(file.name) for path in made.shards)


def test_real_config_holds_the_real_pixels_without_a_mark(root, real, layout):
    made = layout(root, more=more(real))
    source = open_source(SourceSpec(path=str(real)))
    samples = samples_of(made, "real")
    assert np.array_equal(np.stack([decode_image(s.image) for s in samples]), source.images)
    assert [sample.label for sample in samples] == source.labels.tolist()
    assert {read_mark(sample.image) for sample in samples} == {None}
    assert {sample.provenance["is_synthetic"] for sample in samples} == {False}
    config = made.manifest.configs[1]
    assert config.class_counts == source.class_counts
    assert (config.num_synthetic, config.num_real) == (0, 12)


def test_mix_holds_the_roots_own_images_and_says_which_they_are(root, real, layout):
    made = layout(root, more=more(real, fuller={"kind": "fill", "images_per_class": 7}))
    own = {sample.key: sample.image for sample in samples_of(made, "synthetic")}
    samples = samples_of(made, "fuller")
    assert Counter(sample.class_name for sample in samples) == {
        "cat": 7,
        "dog": 7,
        "T-shirt/top": 7,
    }
    drawn = [sample for sample in samples if sample.provenance["is_synthetic"]]
    assert len(drawn) == 21 - 12
    for sample in samples:
        if sample in drawn:
            assert sample.image == own[sample.key]
            assert read_mark(sample.image) == TRAINED_ALGORITHMIC_MEDIA
        else:
            assert read_mark(sample.image) is None
            assert sample.provenance["model_id"] is None
    config = made.manifest.configs[2]
    assert (config.num_images, config.num_synthetic, config.num_real) == (21, 9, 12)
    # The first shard is a mix, too.
    first = {sample.provenance["is_synthetic"] for sample in samples[:16]}
    assert first == {True, False}


def test_shard_that_changed_since_it_was_checked_goes_into_no_mix(root, real, tmp_path):
    fields = {"more": more(real, fuller={"kind": "fill", "images_per_class": 7})}
    spec = PublishSpec.model_validate({"root": str(root), **FIELDS, **fields})
    opened = open_dataset(str(root))
    checked = check_root(opened)
    changed = sorted((root / "data").iterdir())
    changed[1].write_bytes(changed[2].read_bytes())
    derived = Derived(opened.dataset, checked.records, tmp_path / "spool")
    with pytest.raises(JobError, match=f"data/{changed[1].name} has changed since it was checked"):
        list(derived.configs(spec.more))


def test_image_that_a_mix_repeats_has_a_key_a_time(root, real, layout):
    made = layout(root, more=more(real, repeated={"kind": "oversample", "images_per_class": 8}))
    samples = samples_of(made, "repeated")
    assert len({sample.key for sample in samples}) == 24
    turns = defaultdict(list)
    for sample in samples:
        turns[sample.provenance["source_image"]].append(sample.provenance["source_pass"])
    assert all(sorted(passes) == list(range(len(passes))) for passes in turns.values())
    # 8 images each of 5, 3 and 4.
    assert sorted(map(len, turns.values())) == [1, 1, *[2] * 8, 3, 3]


def test_repository_listing_has_every_file_with_its_size(root, layout):
    made = layout(root)
    lines = [line.split() for line in made.listing().splitlines()]
    assert {path: int(size.replace(",", "")) for size, path in lines} == {
        path: file.num_bytes for path, file in made.files.items()
    }
    assert made.num_bytes == sum(len(file.read()) for file in made.files.values())


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ({"kind": "fill", "images_per_class": 100}, "synthetic images are missing"),
        ({"kind": "fill", "images_per_class": 2}, "give 5 or more"),
    ],
)
def test_mix_that_cannot_be_is_refused_by_its_name(root, real, layout, mix, said):
    with pytest.raises(SpecError, match=rf"more\.fuller: .*{said}"):
        layout(root, more=more(real, fuller=mix))


def test_real_images_of_other_classes_are_refused(root, layout):
    with pytest.raises(SpecError, match=r"more\.real\.source: .*missing \['cat', 'dog'\]"):
        layout(root, more=more("fashion_mnist_small"))


def test_root_is_no_source_of_real_images(root, layout):
    with pytest.raises(SpecError, match=rf"more\.real\.source: root {root} .*a model has drawn"):
        layout(root, more=more(root))


def test_marked_images_in_plain_files_are_no_real_ones(root, layout, tmp_path):
    (tmp_path / "plain").mkdir()
    shutil.copy(next(root.glob("data/*-00002-*")), tmp_path / "plain")
    said = r"more\.real\.source: 8 images of plain \(first: .*\) carry the mark"
    with pytest.raises(SpecError, match=said):
        layout(root, more=more(tmp_path / "plain"))


def test_one_marked_image_among_real_ones_is_named(root, layout, tmp_path):
    marks = [None, COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA, None]
    real = save_real(tmp_path / "real.parquet", (1, 1, 1), marks=marks)
    said = r"1 images of .*real\.parquet \(first: row 1.*\) carry the mark"
    with pytest.raises(SpecError, match=said):
        layout(root, more=more(real))


def test_real_images_of_another_size_are_refused_in_a_mix(root, real, layout):
    configs = more(real, fuller={"kind": "fill", "images_per_class": 7})
    configs["real"]["source"]["image_size"] = 4
    with pytest.raises(SpecError, match=r"more\.fuller: its real images are 4x4 RGB"):
        layout(root, more=configs)


def test_manifest_holds_no_path_of_this_machine(root, real, layout, tmp_path):
    made = layout(root, more=more(real))
    for name, text in made.texts.items():
        assert str(tmp_path).encode() not in text, name
    assert json.loads(made.texts["manifest.json"])["configs"][1]["name"] == "real"
