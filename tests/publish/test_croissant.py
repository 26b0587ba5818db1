"""The Croissant file is valid, and its record sets read what the shards hold."""

import hashlib
import json
import shutil

import huggingface_hub.constants
import mlcroissant
import pytest

from factory.shards.manifest import Manifest
from tests.datasets import make_dataset
from tests.publish.roots import laid_out, published, save_real


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


@pytest.mark.parametrize(
    ("revision", "place"),
    [(None, "main"), ("next", "next"), ("refs/pr/3", "main"), ("a/b c", "a%2Fb%20c")],
)
def test_published_files_lie_on_the_hub_and_each_config_has_its_records(
    tmp_path, tiny_model, revision, place
):
    make_dataset(tmp_path / "root", tiny_model)
    real = {"path": str(save_real(tmp_path / "real.parquet"))}
    fields = {
        "more": {"real": {"kind": "real", "source": real, "licence": "mit"}},
        "title": 'Sneakers, "drawn"\n---',
        "revision": revision,
        "repo_id": "alice/images",
    }
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in laid_out(tmp_path / "root", tmp_path / "spool", **fields).texts.items():
        (folder / name).write_bytes(text)
    assert json.loads((folder / "croissant.json").read_text())["name"] == fields["title"]
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert [one.name for one in dataset.metadata.record_sets] == ["synthetic", "real"]
    assert dataset.metadata.ctx.issues.errors == set()
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    where = f"{huggingface_hub.constants.ENDPOINT}/datasets/alice/images/resolve/{place}"
    urls = [one.content_url for one in dataset.metadata.file_objects]
    assert sorted(urls) == [f"{where}/{file.path}" for file in manifest.files]
