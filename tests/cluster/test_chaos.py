"""Whatever dies while a dataset is made, the same command goes on, to the same bytes."""

import json
import random
import sys

import pytest

from factory.generate.prepare import prepare
from factory.records import dataset_digest
from factory.sources.check import check_shard
from factory.spec import VerifySpec
from factory.verify.prepare import prepare as prepare_verify
from tests.cluster.chaos import Machines, make_disturbed, small_disk
from tests.cluster.heads import running_head
from tests.datasets import make_dataset, plain_words, small_spec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ASKED = {
    "num_images": 480,
    "shard_size": 8,
    "batch_size": 4,
    "filters": [{"kind": "contrast", "min_deviation": 60}, {"kind": "duplicate"}],
}
"""Sixty shards, which take two machines some seconds."""
NUM_RUNS = 50


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """A head that does no work, and two machines that do."""
    with running_head(tmp_path_factory.mktemp("home"), num_cpus=0, jobs=False) as head:
        nodes = Machines(head)
        try:
            yield head, nodes
        finally:
            nodes.end()


@pytest.fixture(scope="module")
def expected(tmp_path_factory, tiny_model):
    """Records of the dataset that nothing disturbed."""
    return make_dataset(tmp_path_factory.mktemp("alone"), tiny_model, **ASKED).inventory.records


def assert_whole(root, spec, expected):
    """All is there, right to the last byte, and nothing else."""
    now = prepare(spec, str(root))
    assert dataset_digest(now.inventory.records) == dataset_digest(expected)
    counted = {name for record in expected.values() for name in (record.name, record.file)}
    own = {"spec.json", "device.json", "report.json", "contact-sheet.png"}
    assert set(now.store.sizes()) == counted | own
    checked = prepare_verify(VerifySpec(), str(root))
    for record in checked.records.values():
        assert check_shard(checked.dataset, record).findings == ()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, NUM_RUNS))]
)
def test_a_dataset_survives_what_dies_while_it_is_made(
    machines, tmp_path, tiny_model, expected, seed
):
    head, nodes = machines
    spec = small_spec(tiny_model, **ASKED)
    asked = [f"{name}={json.dumps(value)}" for name, value in {**ASKED, "threads": 1}.items()]
    strikes = {"actor": nodes.lose_process, "machine": nodes.lose_machine}
    with small_disk(tmp_path / "disk") as disk:
        root = (tmp_path if disk is None else disk.folder) / "root"
        words = ["jobs/generate.py", *plain_words(tiny_model), *asked, "--root", str(root)]
        outcome = make_disturbed(
            words,
            head,
            lambda: any(root.glob("records/*/*.json")),
            strikes if disk is None else {**strikes, "disk": disk.fill},
            (lambda: None) if disk is None else disk.free,
            random.Random(seed),
        )
        sys.stdout.write(f"seed {seed}: {outcome}\n")
        assert outcome.codes[-1] == 0
        if disk is not None:
            disk.free()
        assert_whole(root, spec, expected)
