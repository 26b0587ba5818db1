import shutil
from functools import partial
from pathlib import Path

import pytest

from factory.sources.check import check_shard
from factory.spec import VerifySpec
from factory.verify.prepare import prepare
from factory.verify.replay import ReplayShard, load_sampler
from factory.verify.report import Tally
from tests.datasets import make_dataset


@pytest.fixture(scope="session")
def clean_roots(tmp_path_factory, tiny_model):
    """A small dataset a format, to copy."""
    roots = {}
    for form in ("parquet", "webdataset"):
        roots[form] = tmp_path_factory.mktemp(form)
        make_dataset(roots[form], tiny_model, output={"format": form})
    return roots


@pytest.fixture(params=["parquet", "webdataset"])
def root(request, clean_roots, tmp_path) -> Path:
    """A dataset of three shards with 16, 16 and 8 images, in either format."""
    return shutil.copytree(clean_roots[request.param], tmp_path / "root")


@pytest.fixture(scope="session", name="opened")
def opener():
    """A function from a root and the fields of a VerifySpec to what `prepare` gives."""
    return lambda root, **fields: prepare(VerifySpec(**fields), str(root))


@pytest.fixture(scope="session", name="verify")
def verifier(opened):
    """A function from a root and the fields of a VerifySpec to the report, without Ray."""
    return partial(_verify, opened)


def _verify(opened, root, load=load_sampler, **fields):
    prepared = opened(root, **fields)
    tally = Tally(prepared)
    for record in prepared.records.values():
        tally.add_check(check_shard(prepared.dataset, record))
    replay = ReplayShard(prepared.dataset, prepared.resolved, load)
    for shard, batches in prepared.replays.items():
        tally.add_replay(replay(prepared.records[shard], batches))
    return tally.report(seconds=0)
