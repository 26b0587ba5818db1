"""Datasets on object stores that the suite does not install; `pip install -e '.[stores]'`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from factory.generate.prepare import open_root, prepare
from factory.generate.shard import MakeShard
from factory.records import dataset_digest
from factory.spec import SpecError
from tests.datasets import SMALL, make_dataset, plain_words, small_spec
from tests.object_stores import BUCKET, google_store, seaweed_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOB = Path(__file__).parents[2] / "jobs" / "generate.py"
MANY = 320
"""Images of twenty shards."""


def digest(prepared):
    return dataset_digest(prepared.inventory.records)


@pytest.fixture
def seaweed(tmp_path):
    """A server with an empty bucket, which this process is told of."""
    (tmp_path / "weed").mkdir()
    try:
        with seaweed_store(tmp_path / "weed") as server:
            yield server
    except FileNotFoundError:
        pytest.skip("SeaweedFS is not installed")


@pytest.fixture
def google(monkeypatch):
    """A server of Google's protocol, which this process is told of."""
    pytest.importorskip("gcsfs")
    try:
        with google_store() as settings:
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            yield
    except FileNotFoundError:
        pytest.skip("fake-gcs-server is not installed")


def assert_grows_as_a_folder_does(url, tmp_path, tiny_model):
    for num_images in (21, 40):
        here = make_dataset(tmp_path / "local", tiny_model, num_images=num_images)
        there = make_dataset(url, tiny_model, num_images=num_images)
        assert there.num_pending == 0
        assert digest(there) == digest(here)
    # Another spec is refused.
    with pytest.raises(SpecError, match="seed"):
        make_dataset(url, tiny_model, seed=1)


def test_seaweed_holds_what_a_folder_holds(seaweed, tmp_path, tiny_model):
    assert_grows_as_a_folder_does(f"s3://{BUCKET}/root", tmp_path, tiny_model)


def test_googles_store_holds_what_a_folder_holds(google, tmp_path, tiny_model):
    assert_grows_as_a_folder_does(f"gs://{BUCKET}/root", tmp_path, tiny_model)


def test_a_wrong_secret_is_refused_before_work(seaweed, tiny_model):
    words = [*plain_words(tiny_model), *(f"{key}={value}" for key, value in SMALL.items())]
    done = subprocess.run(
        [sys.executable, JOB, *words, "--root", f"s3://{BUCKET}/root"],
        env={**os.environ, "AWS_SECRET_ACCESS_KEY": "wrong-secret"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    assert f"root s3://{BUCKET}/root" in done.stderr
    assert "credentials" in done.stderr


def test_a_server_that_dies_and_comes_back_costs_nothing(seaweed, tmp_path, tiny_model):
    spec = small_spec(tiny_model, num_images=MANY)
    opened, _ = open_root(prepare(spec, f"s3://{BUCKET}/root"))
    make = MakeShard(opened.resolved, f"s3://{BUCKET}/root")
    pending = list(opened.pending())
    for shard in pending[:5]:
        make(shard)
    seaweed.lose()
    for shard in pending[5:]:
        make(shard)
    now = prepare(spec, f"s3://{BUCKET}/root")
    assert now.num_pending == 0
    assert digest(now) == digest(make_dataset(tmp_path, tiny_model, num_images=MANY))
