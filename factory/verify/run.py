"""Run the verify stage: check every shard, then draw some images again."""

import logging
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any

from factory.cluster import connect, map_on_actors, rows_of, waves
from factory.progress import Progress
from factory.records import ShardRecord
from factory.resolve import Resolved
from factory.sources.check import ShardCheck, check_row, check_shard
from factory.sources.promise import Dataset
from factory.spec import JobError
from factory.verify.prepare import Prepared
from factory.verify.replay import Load, ReplayShard, ShardReplay, load_sampler
from factory.verify.report import Tally, VerifyReport

_LOG = logging.getLogger(__name__)

SMALL_ROOT_BYTES = 16 * 2**20
"""Some 20,000 small images, which one process checks in about the time that Ray takes to start."""


def run(prepared: Prepared, address: str | None = None, load: Load = load_sampler) -> VerifyReport:
    """Check every shard of a root, and draw the chosen batches again; writes nothing.

    A small root is checked in this process unless `address` is given; replays are always on Ray.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.
        load: loads the model in an actor.

    Raises:
        SpecError: before any work, if the cluster cannot be used.
    """
    started = time.monotonic()
    store, records = prepared.dataset.store, prepared.records
    num_bytes = sum(record.num_bytes for record in records.values())
    checks_on_ray = address is not None or num_bytes > SMALL_ROOT_BYTES
    needs_ray = checks_on_ray or bool(prepared.replays)
    if needs_ray:
        store.check_shared()
    tally = Tally(prepared)
    with connect(address) if needs_ray else nullcontext():
        checks = _check_on_ray(prepared) if checks_on_ray else _check_in_threads(prepared)
        with Progress(num_images=sum(record.num_samples for record in records.values())) as bar:
            for check in checks:
                tally.add_check(check)
                bar.add(records[check.shard].num_samples)
        for replay in _replay(prepared, load):
            tally.add_replay(replay)
    return tally.report(seconds=time.monotonic() - started)


def _check_in_threads(prepared: Prepared) -> Iterator[ShardCheck]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(partial(check_shard, prepared.dataset), prepared.records.values())


def _check_on_ray(prepared: Prepared) -> Iterator[ShardCheck]:
    rows = ({"record": record.model_dump_json()} for record in prepared.records.values())
    for wave, _ in waves(rows):
        checks = wave.map(
            check_row,  # pyright: ignore[reportArgumentType] - Ray adds fn_args
            fn_args=(prepared.dataset,),
            num_cpus=1,
        )
        for row in rows_of(checks):
            yield pickle.loads(row["check"])


def _replay(prepared: Prepared, load: Load) -> Iterator[ShardReplay]:
    """Draw the chosen batches again, on as many actors as the cluster holds."""
    if not prepared.replays:
        return
    assert prepared.resolved is not None
    size = prepared.dataset.plan.batch_size
    num_batches = sum(map(len, prepared.replays.values()))
    _LOG.info("drawing %d batches of %d images again", num_batches, size)
    replays = map_on_actors(
        (
            {"record": prepared.records[shard].model_dump_json(), "batches": list(batches)}
            for shard, batches in prepared.replays.items()
        ),
        _ReplayActor,
        (prepared.dataset, prepared.resolved, load),
        resources=prepared.spec.resources,
        threads=prepared.resolved.spec.threads,
    )
    with Progress(num_images=num_batches * size) as bar:
        for row in replays:
            bar.add(row["num_batches"] * size)
            yield pickle.loads(row["replay"])


class _ReplayActor:
    def __init__(self, dataset: Dataset, resolved: Resolved, load: Load) -> None:
        self._replay = ReplayShard(dataset, resolved, load)

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes | int]:
        record = ShardRecord.model_validate_json(row["record"])
        batches = [int(number) for number in row["batches"]]
        # A row's columns are Arrow's, so what is found travels as bytes.
        return {
            "replay": pickle.dumps(self._replay(record, batches)),
            "num_batches": len(batches),
        }

    def give_up(self, row: dict[str, Any], error: str) -> dict[str, bytes | int]:
        """Stop: a replay that is left out would look like one that agreed."""
        raise JobError(f"{row['record']}: {error}")
