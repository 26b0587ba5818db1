"""The Croissant file is valid, and its record sets read what the shards hold."""

import hashlib
import json
import shutil

import mlcroissant
import pytest

from factory.shards.manifest import Manifest
from tests.datasets import make_dataset
from tests.publish.roots import published, save_real


@pytest.fixture(params=["parquet", "webdataset"])
def copy(request, tmp_path, tiny_model):
    """A copy of a repository: what is written about a root, and the root's shards."""
    make_dataset(tmp_path / "root", tiny_model, output={"format": request.param})
    published(tmp_path / "root", tmp_path / "copy")
    shutil.copytree(tmp_path / "root/data", tmp_path / "copy/data/synthetic")
    return tmp_path / "copy"


def test_file_is_valid_and_names_every_shard_by_its_digest(copy):
    dataset = mlcroissant.Dataset(copy / "croissant.json")
    assert dataset.metadata.ctx.issues.errors == set()
    files = {one.content_url: one for one in dataset.metadata.file_objects}
    assert len(files) == 3
    for path, file in files.items():
        data = (copy / path).read_bytes()
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.content_size == f"{len(data)} B"


def test_records_are_the_images(copy):
    manifest = Manifest.model_validate_json((copy / "manifest.json").read_text())
    dataset = mlcroissant.Dataset(copy / "croissant.json")
    records = list(dataset.records("synthetic"))
    assert len(records) == manifest.num_images
    assert {record["synthetic/image"].size for record in records} == {(8, 8)}
    assert len({record["synthetic/key"] for record in records}) == manifest.num_images
    if manifest.configs[0].format == "parquet":
        labels = [record["synthetic/label"] for record in records]
        assert [labels.count(label) for label in range(3)] == [14, 13, 13]


def test_published_files_lie_on_the_hub_and_each_config_has_its_records(tmp_path, tiny_model):
    make_dataset(tmp_path / "root", tiny_model)
    real = {"path": str(save_real(tmp_path / "real.parquet"))}
    fields = {
        "more": {"real": {"kind": "real", "source": real, "licence": "mit"}},
        "title": 'Sneakers, "drawn"\n---',
        "revision": "next",
    }
    folder = tmp_path / "folder"
    published(tmp_path / "root", folder, **fields)
    assert json.loads((folder / "croissant.json").read_text())["name"] == fields["title"]
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert [one.name for one in dataset.metadata.record_sets] == ["synthetic", "real"]
    assert len(dataset.metadata.file_objects) == 4
