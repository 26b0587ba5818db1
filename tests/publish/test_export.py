"""An exported folder holds every image byte by byte, with all that is known of it."""

import json
import os
import subprocess
import sys

import pytest

from factory.publish.export import METADATA_NAME, class_folders, export_images
from factory.shards.reader import read_shard
from factory.sources.promise import open_dataset
from factory.spec import SpecError
from tests.datasets import make_dataset


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def opened(request, tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("export")
    make_dataset(folder, tiny_model, output={"format": request.param})
    return open_dataset(str(folder))


def export(opened, folder):
    return export_images(opened.dataset, opened.inventory.records, folder)


def samples_of(opened):
    return [
        sample
        for record in opened.inventory.records.values()
        for sample in read_shard(opened.dataset.store.get(record.file), record.format)
    ]


def lines_of(folder):
    return [json.loads(line) for line in (folder / METADATA_NAME).read_text().splitlines()]


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_image_is_there_with_label_and_provenance(opened, tmp_path):
    done = export(opened, tmp_path / "images")
    samples = samples_of(opened)
    assert (done.num_images, done.num_written) == (40, 40)
    lines = lines_of(tmp_path / "images")
    assert len(lines) == len(samples)
    for line, sample in zip(lines, samples, strict=True):
        assert (tmp_path / "images" / line.pop("file_name")).read_bytes() == sample.image
        assert line == {
            "label": sample.label,
            "class_name": sample.class_name,
            "key": sample.key,
            **sample.provenance,
        }
    folders = {path.name for path in (tmp_path / "images").iterdir() if path.is_dir()}
    assert folders == {"cat", "dog", "t-shirt-top"}


def test_stopped_export_goes_on(opened, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    export(opened, whole)
    export(opened, stopped)
    (stopped / METADATA_NAME).rename(stopped / ".metadata.jsonl")
    images = sorted((stopped / "cat").iterdir())
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:10])
    assert export(opened, stopped).num_written == 2
    assert files_of(stopped) == files_of(whole)


def test_export_again_writes_no_image(opened, tmp_path):
    export(opened, tmp_path)
    before = files_of(tmp_path)
    assert export(opened, tmp_path).num_written == 0
    assert files_of(tmp_path) == before


def test_root_that_has_grown_adds_its_images(tmp_path, tiny_model):
    root, folder = tmp_path / "root", tmp_path / "images"
    for num_images, written in ((20, 20), (50, 30)):
        make_dataset(root, tiny_model, num_images=num_images)
        assert export(open_dataset(str(root)), folder).num_written == written
    assert len(lines_of(folder)) == 50


@pytest.mark.parametrize("name", ["holiday.png", "cat/holiday.png", "cats/cat-00000-000000.png"])
def test_folder_with_other_files_is_refused_and_left_alone(opened, tmp_path, name):
    for has_export in (False, True):
        folder = tmp_path / str(has_export)
        if has_export:
            export(opened, folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"mine")
        before = files_of(folder)
        with pytest.raises(SpecError, match=f"holds other files .{name}"):
            export(opened, folder)
        assert files_of(folder) == before


def test_folder_of_another_dataset_is_refused(opened, tmp_path, tiny_model):
    make_dataset(tmp_path / "other", tiny_model, seed=1)
    export(open_dataset(str(tmp_path / "other")), tmp_path / "images")
    with pytest.raises(SpecError, match="holds images of dataset"):
        export(opened, tmp_path / "images")


def test_classes_of_one_plain_name_have_folders_of_their_own():
    assert class_folders(["a/b", "a b", "c"]) == ("0000-a-b", "0001-a-b", "0002-c")


READER = """
import sys, datasets
split = datasets.load_dataset("imagefolder", data_dir=sys.argv[1], split="train")
print(split.num_rows, split[0]["image"].size, [split["class_name"].count(n) for n in sys.argv[2:]])
"""


def test_datasets_loads_it_as_an_image_folder(opened, tmp_path):
    export(opened, tmp_path / "images")
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "images"), "cat", "dog", "T-shirt/top"],
        env=os.environ | {"HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.stdout.split("\n")[0] == "40 (8, 8) [14, 13, 13]", done.stderr
