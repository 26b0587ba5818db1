"""The Merkle root stands for every name and digest; a manifest counts what its files hold."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.publish.manifest import make_manifest, root_config, shard_features
from factory.shards.manifest import Manifest, PublishedFile, merkle_root, tree_root
from factory.sources.promise import open_dataset
from tests.conftest import CLASS_NAMES
from tests.datasets import make_dataset

LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
)
"""Of the first one, two, ... leaves, as Certificate Transparency's own tests have them."""

files = st.lists(
    st.builds(
        PublishedFile,
        path=st.text("ab/", min_size=1, max_size=4),
        sha256=st.binary(min_size=1, max_size=2).map(lambda data: hashlib.sha256(data).hexdigest()),
        num_bytes=st.just(1),
        num_samples=st.just(1),
    ),
    max_size=9,
    unique_by=lambda file: file.path,
)


@pytest.mark.parametrize("size", range(1, 8))
def test_tree_is_that_of_rfc_6962(size):
    assert tree_root([bytes.fromhex(leaf) for leaf in LEAVES[:size]]) == ROOTS[size - 1]


def test_root_of_nothing_is_the_digest_of_nothing():
    assert merkle_root([]) == hashlib.sha256().hexdigest()


@given(files, st.randoms())
def test_root_depends_on_no_order(some, random):
    assert merkle_root(random.sample(some, len(some))) == merkle_root(some)


@given(files, files)
def test_root_tells_sets_of_files_apart(some, others):
    def facts(group):
        return {(file.path, file.sha256) for file in group}

    assert (merkle_root(some) == merkle_root(others)) == (facts(some) == facts(others))


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def opened(request, tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("root")
    make_dataset(folder, tiny_model, output={"format": request.param})
    return open_dataset(str(folder))


def test_manifest_counts_what_the_records_do_and_comes_back_from_json(opened):
    dataset, inventory, _ = opened
    records = list(inventory.records.values())
    first = dataset.store.get(records[0].file)
    config = root_config("main", records, CLASS_NAMES, num_synthetic=40, first=first)
    manifest = make_manifest(dataset.root_spec, records, [config])
    assert config.class_counts == {"cat": 14, "dog": 13, "T-shirt/top": 13}
    assert [file.num_samples for file in config.files] == [16, 16, 8]
    assert (config.num_images, config.num_real) == (40, 0)
    assert config.num_bytes == sum(record.num_bytes for record in records)
    assert all(file.path.startswith("data/main/train-") for file in manifest.files)
    assert manifest.versions == records[0].device.versions
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_features_name_every_column_with_its_type(opened):
    dataset, inventory, _ = opened
    data = dataset.store.get(inventory.records[0].file)
    features = shard_features(data, dataset.format, CLASS_NAMES)
    names = {"names": list(CLASS_NAMES), "_type": "ClassLabel"}
    if dataset.format == "parquet":
        assert (features["image"], features["label"]) == ({"_type": "Image"}, names)
        told = features
    else:
        assert (features["png"], features["cls"]) == ({"_type": "Image"}, names)
        told = features["json"]
    assert told["seed"] == {"dtype": "int64", "_type": "Value"}
    assert told["guidance_scale"] == {"dtype": "float64", "_type": "Value"}
    assert told["is_synthetic"] == {"dtype": "bool", "_type": "Value"}
