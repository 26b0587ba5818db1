"""What is refused before checks start, and which batches are chosen to be drawn again."""

import json
import math
import shutil

import pytest

from factory.records import SPEC_NAME
from factory.spec import SpecError
from factory.verify.prepare import dry_run
from tests.conftest import save_tiny_model
from tests.datasets import make_dataset


def test_folder_without_a_dataset_is_refused_with_what_to_run(tmp_path, opened):
    with pytest.raises(SpecError, match="make generate"):
        opened(tmp_path / "nothing")


def test_changed_identity_is_refused(root, opened):
    path = root / SPEC_NAME
    tree = json.loads(path.read_text())
    tree["identity"]["seed"] = 1
    path.write_text(json.dumps(tree))
    with pytest.raises(SpecError, match="its identity has fingerprint"):
        opened(root)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sneaker", "is no key"),
        ("dog-00000-000000", "calls candidate 0 cat-00000-000000"),
        ("cat-0-0", "calls candidate 0 cat-00000-000000"),
    ],
)
def test_key_of_another_dataset_is_refused(root, opened, key, said):
    with pytest.raises(SpecError, match=said):
        opened(root, only=key)


def test_model_is_needed_only_to_draw(tmp_path, tiny_model, opened, verify):
    moved = shutil.copytree(tiny_model, tmp_path / "model")
    make_dataset(tmp_path / "root", moved)
    shutil.rmtree(moved)
    assert verify(tmp_path / "root").ok
    with pytest.raises(SpecError, match=r"no folder.*model=FOLDER"):
        opened(tmp_path / "root", replay=0.1)
    assert opened(tmp_path / "root", replay=0.1, model=str(tiny_model)).resolved is not None


def test_other_model_is_refused_with_both_digests(tmp_path, root, opened):
    other = save_tiny_model(tmp_path / "other", seed=1)
    then = opened(root).dataset.root_spec.identity["generator"]["digest"]
    with pytest.raises(SpecError, match=rf'generator.digest: "{then}" -> "\w{{64}}"'):
        opened(root, replay=0.1, model=str(other))


@pytest.mark.parametrize("replay", [0.0, 0.001, 0.3, 0.5, 1.0])
def test_chosen_batches_are_the_asked_share_rounded_up(root, opened, replay):
    replays = opened(root, replay=replay).replays
    batches = [(shard, number) for shard, numbers in replays.items() for number in numbers]
    assert len(set(batches)) == len(batches) == math.ceil(replay * 8)
    # 16, 16 and 8 images in batches of 6.
    assert set(batches) <= {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)}
    assert opened(root, replay=replay).replays == replays


def test_dry_run_says_what_would_be_done(root, opened):
    prepared = opened(root, replay=0.3)
    (root / prepared.records[1].file).unlink()
    said = dry_run(opened(root, replay=0.3))
    assert (said.num_shards, said.num_images, said.missing) == (2, 24, 1)
    assert list(said.broken) == [prepared.records[1].name]
    # 0.3 of the 5 batches that are left, rounded up.
    assert (said.replay_batches, said.replay_images) == (2, 12)
    sizes = [record.num_bytes for shard, record in prepared.records.items() if shard != 1]
    assert sum(sizes) < said.num_bytes <= 2 * sum(sizes)
