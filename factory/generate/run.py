"""Run the generate stage on Ray: one row a shard, one record a row."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import ray.util
from ray.util.metrics import Counter as MetricCounter
from ray.util.metrics import Gauge

from factory.cluster import connect, map_on_actors
from factory.generate.draw import BatchTooLarge
from factory.generate.pictures import save_contact_sheet
from factory.generate.prepare import OtherRoot, Prepared, open_root
from factory.generate.select import ShardUnfilled
from factory.generate.shard import MakeShard, Sampler, load_sampler
from factory.progress import Progress
from factory.records import OtherDevice, ShardRecord, dataset_digest, sweep, take_inventory
from factory.resolve import Resolved
from factory.spec import Frozen

_LOG = logging.getLogger(__name__)

ATTEMPTS = 2
"""Times that one actor tries a shard before it reports a failure."""
HOPELESS_AFTER = 3
"""Failed shards, with none made, after which the run stops."""
HOPELESS_IN_A_ROW = 10
"""Failed shards with none made between them after which a run that has made some stops: where the
root is full or gone, each that is left would be drawn for nothing."""
MISSING_NAMED = 100
_ENDS_RUN = (OtherDevice, OtherRoot)
"""What fails one shard of a machine and would fail all of them."""
_NO_USE = (ShardUnfilled, BatchTooLarge, *_ENDS_RUN)
"""Errors that another try would meet again."""
Load = Callable[[Resolved], Sampler]


class Failure(Frozen):
    """A shard that could not be made."""

    shard: int
    error: str
    host: str
    ends_run: bool = False
    """Whether no other shard can be made where it failed."""


class GenerateReport(Frozen):
    """What a run of generate did, and what the root holds now."""

    root: str
    fingerprint: str
    digest: str
    """sha256 over the digests of all shards in the root."""
    num_images: int
    """Images asked for and recorded."""
    num_shards: int
    class_counts: dict[str, int]
    """Images in the root, those beyond `num_images` of an earlier, larger request included."""
    num_candidates: int
    """Images drawn for those in the root."""
    rejected: dict[str, dict[str, int]]
    """Class (or "any", where a labeller finds it) -> reason -> candidates rejected."""
    made: int
    """Shards made by this run; one whose actor died before it could say so is not among them."""
    images_made: int
    """Images in these."""
    skipped: int
    """Shards that were there, or came from another driver meanwhile."""
    missing: list[int]
    """Planned shards without a record (at most 100 are named); empty if all went well."""
    failures: list[Failure]
    mended: dict[str, str]
    """Broken records and shards that were found and deleted -> why."""
    swept: int
    """Stray files deleted, and dead uploads aborted."""
    seconds: float
    images_per_second: float
    """Images made by this run over its wall-clock time, Ray's start included."""
    contact_sheet: str | None


class _Work(NamedTuple):
    """What the actors of a run say."""

    made: int
    images_made: int
    failures: list[Failure]


class _Metrics:
    """What one actor did, for Ray's metrics; docs/grafana-dashboard.json shows all of them.

    Ray adds the node and the process, and tells the last numbers when an actor ends in peace. What
    an actor did in the ten seconds before it was killed is not counted.
    """

    def __init__(self, dataset: str) -> None:
        def counter(name: str, description: str, *tags: str) -> MetricCounter:
            made = MetricCounter(f"factory_{name}", description, ("dataset", *tags))
            return made.set_default_tags({"dataset": dataset})

        self._made = counter("shards_made", "Shards committed")
        self._failed = counter("shards_failed", "Shards given up")
        self._accepted = counter("images_accepted", "Images committed")
        self._drawn = counter("candidates_drawn", "Images drawn")
        self._rejected = counter("candidates_rejected", "Images rejected", "reason")
        self._seconds = counter("seconds", "Working time", "step")
        self._bytes = counter("bytes_written", "Bytes of committed shards")

    def add(self, record: ShardRecord, *, seconds_loading: float) -> None:
        """Count a shard; the time of `commit` is that of writing, checking and storing it."""
        self._made.inc(1)
        self._accepted.inc(record.num_samples)
        self._drawn.inc(record.num_candidates)
        self._bytes.inc(record.num_bytes)
        for reason, count in record.rejected.items():
            self._rejected.inc(count, {"reason": reason})
        for step, seconds in {**record.seconds, "load": seconds_loading}.items():
            if seconds > 0:  # a counter refuses 0
                self._seconds.inc(seconds, {"step": step})

    def add_failure(self) -> None:
        """Count a shard that was given up."""
        self._failed.inc(1)


class _ShardActor:
    def __init__(self, resolved: Resolved, root: str, load: Load, shown: str | None) -> None:
        self._make = MakeShard(resolved, root, load, shown)
        self._metrics = _Metrics(resolved.spec.name)

    def __call__(self, row: dict[str, int]) -> dict[str, Any]:
        """A row with the shard's number -> a row with its record, or with its failure."""
        shard = int(row["shard"])
        for attempt in range(1, ATTEMPTS + 1):
            try:
                record = self._recorded(shard).model_dump_json()
                return {"record": record, "is_own": self._make.own is not None, "failure": ""}
            except Exception as error:  # noqa: BLE001 - the one place: a failure becomes a row
                if attempt == ATTEMPTS or isinstance(error, _NO_USE):
                    return self._given_up(_failure(shard, error))
        raise AssertionError("unreachable")

    def give_up(self, row: dict[str, int], error: str) -> dict[str, Any]:
        """The row of a shard in which processes keep dying."""
        return self._given_up(_failed(int(row["shard"]), error))

    def _recorded(self, shard: int) -> ShardRecord:
        before = self._make.seconds_loading
        record = self._make(shard)
        if self._make.own is not None:
            self._metrics.add(record, seconds_loading=self._make.seconds_loading - before)
        return record

    def _given_up(self, failure: Failure) -> dict[str, Any]:
        self._metrics.add_failure()
        return {"record": "", "is_own": False, "failure": failure.model_dump_json()}


def _failure(shard: int, error: Exception) -> Failure:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    told = f"{type(error).__name__}: {error}{notes}"
    return _failed(shard, told, ends_run=isinstance(error, _ENDS_RUN))


def _failed(shard: int, error: str, *, ends_run: bool = False) -> Failure:
    host = ray.util.get_node_ip_address()
    return Failure(shard=shard, error=error, host=host, ends_run=ends_run)


def run(
    prepared: Prepared, address: str | None = None, load: Load = load_sampler
) -> GenerateReport:
    """Make what is missing of a dataset, sweep, and check that nothing is missing.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.
        load: loads the model in an actor.

    Returns:
        The report, which is also put into the root as report.json if anything changed there.

    Raises:
        SpecError: before any work, if the root or the cluster cannot be used.
    """
    started = time.monotonic()
    store = prepared.store
    store.check_makeable()
    # A cluster that does not answer is found out before the root is claimed.
    with connect(address) if prepared.num_pending else nullcontext():
        opened, mended = open_root(prepared)
        work = _make_pending(opened, load)
    after = Prepared(opened.resolved, store, take_inventory(store, opened.resolved.fingerprint))
    most = opened.resolved.plan.largest_quota
    swept = sweep(store, after.inventory, most=most) + store.abort_uploads()
    seconds = time.monotonic() - started
    records = after.inventory.records
    is_changed = records != opened.inventory.records
    report = GenerateReport(
        root=store.url,
        fingerprint=opened.resolved.fingerprint,
        digest=dataset_digest(records),
        num_images=sum(opened.resolved.plan.quota(record.shard) for record in after.done()),
        num_shards=opened.resolved.plan.num_shards,
        class_counts=_class_counts(after),
        num_candidates=sum(record.num_candidates for record in records.values()),
        rejected=_rejected(after),
        made=work.made,
        images_made=work.images_made,
        skipped=len(after.done()) - work.made,
        missing=list(islice(after.pending(), MISSING_NAMED)),
        failures=work.failures,
        mended=mended,
        swept=len(swept),
        seconds=round(seconds, 1),
        images_per_second=round(work.images_made / seconds, 2),
        contact_sheet=save_contact_sheet(store, records, anew=is_changed),
    )
    # A look at a part of a root leaves the report of the whole as it is.
    if is_changed or mended or swept or not store.exists("report.json"):
        store.put("report.json", report.model_dump_json(indent=1).encode())
    return report


def _make_pending(opened: Prepared, load: Load) -> _Work:
    num_pending = opened.num_pending
    if not num_pending:
        plan = opened.resolved.plan
        _LOG.info(
            "nothing to make: all %d shards (%d images) are there", plan.num_shards, plan.num_images
        )
        return _Work(0, 0, [])
    failures: list[Failure] = []
    own: list[int] = []
    num_recorded = in_a_row = 0
    num_done = opened.resolved.plan.num_images - opened.num_images_pending
    _tell_done(opened, num_done)
    with opened.store.shown() as shown, Progress(num_images=opened.num_images_pending) as progress:
        for result, is_own in _results(opened, load, shown):
            if isinstance(result, ShardRecord):
                num_recorded += 1
                in_a_row = 0
                own += [result.num_samples] if is_own else []
                progress.add(result.num_samples)
                num_done += result.num_samples
                _tell_done(opened, num_done)
                continue
            failures.append(result)
            in_a_row += 1
            _LOG.warning("shard %d failed on %s: %s", result.shard, result.host, result.error)
            if result.ends_run:
                _LOG.error("its machine would fail every shard: stopping")
                break
            if in_a_row >= (
                HOPELESS_IN_A_ROW if num_recorded else min(HOPELESS_AFTER, num_pending)
            ):
                _LOG.error("%d shards in a row failed: stopping", in_a_row)
                break
    return _Work(len(own), sum(own), failures)


def _tell_done(opened: Prepared, num_images: int) -> None:
    """Tell Ray's metrics how many of the images asked for are there."""
    tags = {"dataset": opened.resolved.spec.name}
    _gauge("factory_images_planned", "Images asked for").set(opened.resolved.plan.num_images, tags)
    _gauge("factory_images_done", "Images asked for that are there").set(num_images, tags)


@cache
def _gauge(name: str, description: str) -> Gauge:
    # Ray forgets the number of a gauge together with its object.
    return Gauge(name, description, ("dataset",))


def _results(
    opened: Prepared, load: Load, shown: str | None
) -> Iterator[tuple[ShardRecord | Failure, bool]]:
    """What came of each shard, and whether an actor of this run made it."""
    spec = opened.resolved.spec
    results = map_on_actors(
        ({"shard": shard} for shard in opened.pending()),
        _ShardActor,
        (opened.resolved, opened.store.url, load, shown),
        resources=spec.resources,
        threads=spec.threads,
    )
    for row in results:
        if row["failure"]:
            yield Failure.model_validate_json(row["failure"]), False
        else:
            yield ShardRecord.model_validate_json(row["record"]), row["is_own"]


def _class_counts(prepared: Prepared) -> dict[str, int]:
    counts = dict.fromkeys(prepared.resolved.plan.class_names, 0)
    for record in prepared.inventory.records.values():
        for name, count in record.class_counts.items():
            counts[name] += count
    return counts


def _rejected(prepared: Prepared) -> dict[str, dict[str, int]]:
    plan = prepared.resolved.plan
    rejected: dict[str, Counter[str]] = {}
    for record in prepared.inventory.records.values():
        drawn_for = plan.candidate(record.shard, 0).class_name or "any"
        rejected.setdefault(drawn_for, Counter()).update(record.rejected)
    return {name: dict(reasons) for name, reasons in rejected.items() if reasons}
