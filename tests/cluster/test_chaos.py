"""Whatever dies while a dataset is made, the same command goes on, to the same bytes.

`pytest -m slow tests/cluster/test_chaos.py -rP` prints what was hit and what it cost; with
`pip install -e '.[stores]'` every other dataset lies on a server that may be hit too.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from factory.generate.prepare import prepare
from factory.records import dataset_digest
from factory.sources.check import check_shard
from factory.spec import VerifySpec
from factory.store import Store
from factory.verify.prepare import prepare as prepare_verify
from tests.cluster.chaos import Machines, Strike, make_disturbed, small_disk
from tests.cluster.heads import running_head
from tests.datasets import make_dataset, plain_words, small_spec
from tests.object_stores import BUCKET, Seaweed, seaweed_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ASKED = {
    "num_images": 480,
    "shard_size": 8,
    "batch_size": 4,
    "filters": [{"kind": "contrast", "min_deviation": 60}, {"kind": "duplicate"}],
}
NUM_SHARDS = 60
NUM_RUNS = 50


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory):
    """An object store; None where it is not installed."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(seaweed_store(tmp_path_factory.mktemp("weed")))
        except FileNotFoundError:
            yield None


@pytest.fixture(scope="module")
def machines(tmp_path_factory, seaweed):
    """A head that does no work, and two machines that do."""
    with running_head(tmp_path_factory.mktemp("home"), num_cpus=0, jobs=False) as head:
        known = {} if seaweed is None else seaweed.settings
        head = replace(head, shell={**head.shell, **known})
        nodes = Machines(head)
        try:
            yield head, nodes
        finally:
            nodes.end()


@pytest.fixture(scope="module")
def expected(tmp_path_factory, tiny_model):
    """Records of the dataset that nothing disturbed."""
    return make_dataset(tmp_path_factory.mktemp("alone"), tiny_model, **ASKED).inventory.records


@dataclass
class Place:
    """Where a dataset is made, and what may happen there."""

    root: str
    strikes: dict[str, Strike] = field(default_factory=dict)
    mend: Callable[[], None] = lambda: None


@contextmanager
def place(folder: Path, seaweed: Seaweed | None, seed: int | None) -> Iterator[Place]:
    """Of odd seeds a bucket, of others a small disk; a plain folder where neither can be had."""
    if seed is not None and seed % 2 and seaweed is not None:

        def lose(_: random.Random) -> str:
            seaweed.lose()
            return "server"

        yield Place(f"s3://{BUCKET}/{seed}", {"server": lose}, seaweed.wait_until_back)
        return
    with small_disk(folder / "disk") as disk:
        if disk is None:
            yield Place(str(folder / "root"))
        else:
            yield Place(str(disk.folder / "root"), {"disk": disk.fill}, disk.free)


def assert_whole(root, spec, expected):
    """All is there, right to the last byte, and nothing else."""
    now = prepare(spec, root)
    assert dataset_digest(now.inventory.records) == dataset_digest(expected)
    counted = {name for record in expected.values() for name in (record.name, record.file)}
    own = {"spec.json", "device.json", "report.json", "contact-sheet.png"}
    assert set(now.store.sizes()) == counted | own
    checked = prepare_verify(VerifySpec(), root)
    for record in checked.records.values():
        assert check_shard(checked.dataset, record).findings == ()


@pytest.fixture(scope="module")
def make(machines, tiny_model):
    """A function that makes the dataset at a place, disturbed as a seed decides."""
    head, nodes = machines
    asked = [f"{name}={json.dumps(value)}" for name, value in {**ASKED, "threads": 1}.items()]

    def make(there, begun, seed):
        store = Store(there.root)
        kills = {"actor": nodes.lose_process, "machine": nodes.lose_machine}
        job = ["-m", "tests.cluster.counted_generate", str(begun)]
        outcome = make_disturbed(
            [*job, *plain_words(tiny_model), *asked, "--root", there.root],
            head,
            lambda: len(store.sizes("records")),
            NUM_SHARDS,
            {} if seed is None else {**kills, **there.strikes},
            there.mend,
            random.Random(seed),
        )
        return replace(outcome, begun=begun.stat().st_size)

    return make


# Without a seed nothing happens: what the others take longer is lost.
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (None, *range(1, NUM_RUNS)))]
)
def test_a_dataset_survives_what_dies_while_it_is_made(
    make, seaweed, tmp_path, tiny_model, expected, seed
):
    with place(tmp_path, seaweed, seed) as there:
        outcome = make(there, tmp_path / "begun", seed)
        again = outcome.begun - NUM_SHARDS
        sys.stdout.write(f"seed {seed}: {outcome}, {again} shards made again\n")
        assert bool(outcome.landed) == (seed is not None)
        assert outcome.codes[-1] == 0
        assert again == 0 or outcome.landed
        there.mend()
        assert_whole(there.root, small_spec(tiny_model, **ASKED), expected)
