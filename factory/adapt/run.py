"""Learn all concepts on Ray, one a task, as many at once as fit, and report them."""

import logging
import time
from typing import Any

import ray
import ray.util

from factory.adapt.concept import LearnConcept
from factory.adapt.pictures import stack
from factory.adapt.prepare import Concept, Prepared
from factory.adapters import Adapter, AdapterKind, Asked, list_adapters
from factory.cluster import connect, map_on_actors, reason_of
from factory.models import PipelineFolder
from factory.progress import duration
from factory.records import ASKED_NAME, claim_root
from factory.spec import AdaptSpec, Frozen
from factory.store import Store

_LOG = logging.getLogger(__name__)
_STORE_MARGIN = 1.5
"""Object store of a private instance, over the bytes of the images that lie in it."""
_SHEET_NAME, _REPORT_NAME = "sheet.png", "report.json"


class Failure(Frozen):
    """A concept that could not be learned."""

    class_name: str
    error: str
    host: str


class Learned(Frozen):
    """One adapter of a report."""

    kind: AdapterKind
    folder: str
    phrase: str
    digest: str
    first_loss: float
    """Mean over the first tenth of its training."""
    last_loss: float
    """Mean over the last tenth."""
    seconds: float
    """Time spent in steps."""


class AdaptReport(Frozen):
    """What a run of adapt did, and what the root holds now."""

    root: str
    fingerprint: str
    model: str
    adapters: dict[str, Learned]
    """By class, those of the spec that are there."""
    made: int
    """Adapters made by this run."""
    skipped: int
    """Adapters that were there."""
    missing: list[str]
    """Classes without an adapter; empty if all went well."""
    failures: list[Failure]
    mended: dict[str, str]
    """Broken records that were found and deleted -> why."""
    swept: int
    """Files deleted that no record names."""
    seconds: float
    sheet: str | None
    """Picture with every concept's real images and those drawn before and after."""


class _ConceptActor:
    def __init__(
        self,
        spec: AdaptSpec,
        root: str,
        base: PipelineFolder,
        resolution: int,
        concepts: dict[str, ray.ObjectRef],
    ) -> None:
        self._learn = LearnConcept(spec, root, base, resolution)
        self._concepts = concepts

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """A row with the class -> a row with its record, or with its failure."""
        try:
            adapter = self._learn(ray.get(self._concepts[row["class_name"]]))
        except Exception as error:  # noqa: BLE001 - the one place: a failure becomes a row
            return self.give_up(row, reason_of(error))
        return {"record": adapter.model_dump_json(), "failure": ""}

    def give_up(self, row: dict[str, Any], error: str) -> dict[str, str]:
        """The row of a concept that failed, or in which processes keep dying."""
        host = ray.util.get_node_ip_address()
        failure = Failure(class_name=row["class_name"], error=error, host=host)
        return {"record": "", "failure": failure.model_dump_json()}


def run(prepared: Prepared, address: str | None = None) -> AdaptReport:
    """Learn the concepts that have no record yet, and check that none is missing.

    Args:
        prepared: from `prepare`.
        address: Ray cluster; see `cluster.connect`.

    Returns:
        The report, which is also put into the root.

    Raises:
        SpecError: before any work, if the root or the cluster cannot be used.
    """
    started = time.monotonic()
    store = Store(prepared.root)
    store.check_makeable()
    before, broken = prepared.adapters()
    pending = [concept for concept in prepared.concepts if concept.class_name not in before]
    failures: list[Failure] = []
    if pending:
        num_bytes = sum(concept.num_bytes for concept in pending)
        with connect(address, object_store_bytes=int(_STORE_MARGIN * num_bytes)):
            _open_root(prepared, store, broken)
            failures = _learn(prepared, pending)
    else:
        _open_root(prepared, store, broken)
    adapters, _ = list_adapters(store)
    report = AdaptReport(
        root=store.url,
        fingerprint=prepared.root_spec.fingerprint,
        model=prepared.base.name,
        adapters={
            concept.class_name: _learned(adapters[concept.class_name])
            for concept in prepared.concepts
            if concept.class_name in adapters
        },
        made=sum(concept.class_name in adapters for concept in pending),
        skipped=len(prepared.concepts) - len(pending),
        missing=[c.class_name for c in prepared.concepts if c.class_name not in adapters],
        failures=failures,
        mended=broken,
        swept=_sweep(store, adapters),
        seconds=round(time.monotonic() - started, 1),
        sheet=_save_sheet(prepared, store, adapters),
    )
    store.put(_REPORT_NAME, report.model_dump_json(indent=1).encode())
    return report


def _open_root(prepared: Prepared, store: Store, broken: dict[str, str]) -> None:
    claim_root(store, prepared.root_spec)
    asked = Asked(class_names=tuple(concept.class_name for concept in prepared.concepts))
    store.put(ASKED_NAME, asked.model_dump_json(indent=1).encode())
    store.delete(broken)


def _learn(prepared: Prepared, pending: list[Concept]) -> list[Failure]:
    concepts = {concept.class_name: ray.put(concept) for concept in pending}
    rows = map_on_actors(
        ({"class_name": concept.class_name} for concept in pending),
        _ConceptActor,
        (prepared.spec, prepared.root, prepared.base, prepared.resolution, concepts),
        resources=prepared.spec.resources,
        threads=prepared.spec.threads,
        in_flight=1,
    )
    started, failures = time.monotonic(), []
    for done, row in enumerate(rows, start=1):
        if row["failure"]:
            failure = Failure.model_validate_json(row["failure"])
            failures.append(failure)
            _LOG.warning("%s failed on %s: %s", failure.class_name, failure.host, failure.error)
            continue
        adapter = Adapter.model_validate_json(row["record"])
        left = (time.monotonic() - started) / done * (len(pending) - done)
        _LOG.info(
            "%d of %d concepts: %s answers to %r, loss %.4f -> %.4f in %s, %s to go",
            done,
            len(pending),
            adapter.class_name,
            adapter.phrase,
            adapter.losses[0],
            adapter.losses[-1],
            duration(adapter.seconds),
            duration(left),
        )
    return failures


def _learned(adapter: Adapter) -> Learned:
    return Learned(
        kind=adapter.kind,
        folder=adapter.folder,
        phrase=adapter.phrase,
        digest=adapter.digest,
        first_loss=adapter.losses[0],
        last_loss=adapter.losses[-1],
        seconds=adapter.seconds,
    )


def _sweep(store: Store, adapters: dict[str, Adapter]) -> int:
    """Delete files of earlier attempts at the classes that have a record.

    A folder of a class without record may be another driver's adapter on its way, and stays.
    """
    kept = {adapter.folder for adapter in adapters.values()}
    slugs = {folder.rpartition("-")[0] for folder in kept}
    strays = [
        name
        for name in store.sizes("adapters")
        if (folder := "/".join(name.split("/")[:2])) not in kept
        if folder.rpartition("-")[0] in slugs
    ]
    store.delete(strays)
    return len(strays)


def _save_sheet(prepared: Prepared, store: Store, adapters: dict[str, Adapter]) -> str | None:
    names = [
        f"pictures/{concept.wording.slug}.png"
        for concept in prepared.concepts
        if concept.class_name in adapters
    ]
    pictures = store.get_many(names)
    if not pictures:
        return None
    store.put(_SHEET_NAME, stack([pictures[name] for name in names if name in pictures]))
    _LOG.info("look at %s/%s", store.url, _SHEET_NAME)
    _LOG.info(
        "to draw with them, jobs/generate.py with generator: "
        "{kind: text_to_image, model: %s, adapters: %s}",
        prepared.spec.model,
        store.url,
    )
    return f"{store.url}/{_SHEET_NAME}"
