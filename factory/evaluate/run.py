"""Run an evaluation on Ray: what networks see, block by block, then each dataset's measurements."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import ray

from factory.cluster import connect, map_on_actors, reason_of
from factory.diffusion.device import pick_device
from factory.evaluate.findings import synthetic_datasets
from factory.evaluate.measure import Measure
from factory.evaluate.pages import report_html
from factory.evaluate.pictures import draw_pictures
from factory.evaluate.prepare import BLOCK, Prepared
from factory.evaluate.report import make_report
from factory.evaluate.results import DatasetResult, EvaluateReport
from factory.evaluate.side_by_side import classifiers_at_work, reconstructions
from factory.evaluate.words import headline
from factory.evaluate.work import Worker, read_look, small_name
from factory.pages.folder import save_report
from factory.progress import Progress
from factory.records import ASKED_NAME
from factory.spec import JobError
from factory.store import Store

_LOG = logging.getLogger(__name__)
_STORE_MARGIN = 1.5
"""Object store of a private instance, over the bytes of the images that lie in it."""
_EMPTY = {"kind": "", "look": 0, "dataset": "", "start": 0, "name": ""}


class _Actor:
    def __init__(self, shared: list[ray.ObjectRef]) -> None:
        # One copy on each machine: arrays in the object store are mapped, not copied.
        prepared: Prepared = ray.get(shared[0])
        self._worker = Worker(prepared, pick_device())
        self._measure = Measure(prepared, pick_device())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A task -> its row with `result` (JSON of a measurement, else empty) and `failure`."""
        try:
            return {**row, "result": self._do(row), "failure": ""}
        except Exception as error:  # noqa: BLE001 - the one place: a failure becomes a row
            return self.give_up(row, reason_of(error))

    def _do(self, row: dict[str, Any]) -> str:
        match row["kind"]:
            case "train":
                self._worker.train()
            case "look":
                self._worker.look(int(row["look"]), row["dataset"], int(row["start"]), row["name"])
            case "measure":
                return self._measure(row["dataset"]).model_dump_json()
        return ""

    def give_up(self, row: dict[str, Any], error: str) -> dict[str, Any]:
        """The row of a task that failed, or in which processes keep dying."""
        return {**row, "result": "", "failure": error}


def run(prepared: Prepared, address: str | None = None) -> EvaluateReport:
    """Compute features that are not there yet, measure, and write the reports into the root.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.

    Raises:
        SpecError: before any work, if the root or the cluster cannot be used.
        JobError: if a network or a measurement fails.
    """
    started = time.monotonic()
    for warning in prepared.warnings:
        _LOG.warning("%s", warning)
    _LOG.info(
        "images: %s, networks that look at each: %d; looks in all: %s; starting Ray",
        f"{prepared.num_images:,}",
        len(prepared.looks),
        f"{prepared.num_looks:,}",
    )
    store, spec = Store(prepared.root), prepared.spec
    store.check_makeable()
    store.put(ASKED_NAME, spec.model_dump_json(indent=1).encode())
    sources = [*prepared.sources.values(), prepared.seen]
    num_bytes = sum(source.images.nbytes for source in sources)
    with connect(address, object_store_bytes=int(_STORE_MARGIN * num_bytes)):
        shared = ray.put(prepared)
        num_extracted = _look(prepared, shared)
        rows = [{"kind": "measure", "dataset": name} for name in prepared.sources if name != "real"]
        measured = {
            row["dataset"]: DatasetResult.model_validate_json(row["result"])
            for row in _tasks(prepared, shared, rows)
        }
    report = make_report(
        prepared,
        measured,
        num_extracted=num_extracted,
        seconds=time.monotonic() - started,
    )
    pictures = draw_pictures(
        report,
        prepared.sources,
        lambda name: read_look(prepared, prepared.looks[0], name),
        seen=prepared.seen,
        reconstructions=reconstructions(prepared),
        grad_cam=classifiers_at_work(prepared),
    )
    save_report(store, report, report_html(report, spec, pictures), pictures)
    for name, dataset in synthetic_datasets(report).items():
        _LOG.info("%s: %s", name, headline(report, dataset))
    _LOG.info("look at %s", report.html)
    return report


def _look(prepared: Prepared, shared: ray.ObjectRef) -> int:
    """Fill the root with what networks see; how many looks at an image that took."""
    first, second = [], []
    for number, (look, blocks) in enumerate(prepared.pending().items()):
        rows = [{"kind": "look", "look": number, **asdict(block)} for block in blocks]
        (second if prepared.is_small(look) else first).extend(rows)
    if second and not Store(prepared.root).exists(small_name(prepared)):
        first.insert(0, {"kind": "train"})
    total = sum(_num_images(prepared, row) for row in first + second)
    with Progress(num_images=total, unit="looks") as progress:
        for rows in (first, second):
            for row in _tasks(prepared, shared, rows):
                progress.add(_num_images(prepared, row))
    return total


def _tasks(
    prepared: Prepared, shared: ray.ObjectRef, rows: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    spec = prepared.spec
    # Rows of one shape: Ray Data holds them as tables.
    filled = [_EMPTY | row for row in rows]
    # The reference in a list, so that Ray hands on it and not what it refers to.
    for row in map_on_actors(
        filled, _Actor, ([shared],), resources=spec.resources, threads=spec.threads
    ):
        if row["failure"]:
            what = " ".join(str(row[name]) for name in ("kind", "dataset") if row[name])
            raise JobError(f"{what}: {row['failure']}")
        yield row


def _num_images(prepared: Prepared, row: dict[str, Any]) -> int:
    if row["kind"] != "look":
        return 0
    return min(BLOCK, len(prepared.sources[row["dataset"]]) - int(row["start"]))
