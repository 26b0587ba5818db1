"""Run the publish stage: check, refuse, lay out, write what speaks of it, export, push."""

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import get_token

from factory.pages.folder import REPORT_NAME
from factory.publish.before import NOTHING, look_before
from factory.publish.checked import Checked, check_root
from factory.publish.export import Exported, export_images
from factory.publish.facts import Facts, gather_facts
from factory.publish.gates import find_refusals, refuse
from factory.publish.layout import Layout, lay_out
from factory.publish.prepare import Prepared
from factory.publish.push import Pushed, push
from factory.spec import Frozen, PublishSpec, SpecError
from factory.store import Store

_LOG = logging.getLogger(__name__)
_LISTING_NAME = "layout.txt"


class ConfigSummary(Frozen):
    """A config in the words of a report."""

    name: str
    kind: str
    num_images: int
    num_synthetic: int
    num_files: int
    num_bytes: int


class PublishReport(Frozen):
    """What was published, or would be."""

    root: str
    fingerprint: str
    merkle_root: str
    configs: tuple[ConfigSummary, ...]
    num_files: int
    num_bytes: int
    """Size of the repository."""
    refused: dict[str, str]
    """Gate -> why it stands against publishing; empty once something was pushed."""
    accepted: dict[str, str]
    """Gate -> what was published in spite of."""
    folder: str | None
    """Where card, manifest, Croissant file, contact sheet and listing lie; None: not written."""
    exported: Exported | None
    pushed: Pushed | None
    seconds: float


def run(prepared: Prepared) -> PublishReport:
    """Write what speaks of the dataset, export it where asked, and push it where asked.

    Raises:
        SpecError: before anything is written or sent, if something stands against publishing.
        JobError: if a push cannot be finished; the same again goes on.
    """
    return _publish(prepared, is_dry=False)


def dry_run(prepared: Prepared) -> PublishReport:
    """What `run` would publish and what stands against it; writes nothing, asks nobody."""
    return _publish(prepared, is_dry=True)


def _publish(prepared: Prepared, *, is_dry: bool) -> PublishReport:
    started = time.monotonic()
    spec, dataset = prepared.spec, prepared.opened.dataset
    checked = check_root(prepared.opened)
    facts = _gather(prepared, checked)
    found = find_refusals(spec, dataset.plan, checked, facts)
    accepted = {gate: why for gate, why in found.items() if gate in spec.accept}
    facts = facts.model_copy(update={"accepted": tuple(accepted)})
    refused = {gate: why for gate, why in found.items() if gate not in accepted}
    refused |= _token_refusal(spec)
    if spec.repo_id is not None and not is_dry:
        refuse(spec.repo_id, refused)
    for gate, why in refused.items():
        _LOG.warning("stands against publishing: %s: %s", gate, why)
    exported = pushed = None
    with tempfile.TemporaryDirectory(prefix="factory-publish-") as folder:
        layout = lay_out(spec, dataset, checked, facts, Path(folder))
        before = NOTHING
        if spec.repo_id is not None and not is_dry:
            before = look_before(layout.manifest, spec.repo_id, spec.revision or "main")
            against = {gate: why for gate, why in before.refused.items() if gate not in spec.accept}
            refuse(spec.repo_id, against)
            accepted |= before.refused
        if not is_dry:
            if spec.export is not None:
                exported = export_images(dataset, checked.records, Path(spec.export))
            _save(layout, Store(prepared.folder))
            if spec.repo_id is not None:
                pushed = _push(layout, spec, spec.repo_id, before.folders)
    return PublishReport(
        root=dataset.store.url,
        fingerprint=dataset.root_spec.fingerprint,
        merkle_root=layout.manifest.merkle_root,
        configs=_summaries(layout),
        num_files=len(layout.files),
        num_bytes=layout.num_bytes,
        refused=refused,
        accepted=accepted,
        folder=None if is_dry else prepared.folder,
        exported=exported,
        pushed=pushed,
        seconds=round(time.monotonic() - started, 1),
    )


def _gather(prepared: Prepared, checked: Checked) -> Facts:
    spec, store = prepared.spec, prepared.opened.dataset.store
    if not checked.records:
        raise SpecError(
            f"root {store.url}: no shard is what its record says; run jobs/generate.py with the "
            "dataset's spec, this root and recheck=true"
        )
    # Without results the gates speak, in their own words.
    if spec.evaluate is not None and not Store(spec.evaluate).exists(REPORT_NAME):
        spec = spec.model_copy(update={"evaluate": None})
    return gather_facts(spec, store, checked.records, prepared.opened.dataset.plan)


def _token_refusal(spec: PublishSpec) -> dict[str, str]:
    if spec.repo_id is None or get_token() is not None:
        return {}
    return {
        "token": "no token of the Hub was found; log in with `hf auth login` or set HF_TOKEN, or "
        "leave repo_id out"
    }


def _save(layout: Layout, store: Store) -> None:
    store.check_writable()
    for name, data in layout.texts.items():
        store.put(name, data)
    store.put(_LISTING_NAME, layout.listing().encode())
    _LOG.info("look at %s/README.md", store.url)


def _push(layout: Layout, spec: PublishSpec, repo_id: str, published: Sequence[str]) -> Pushed:
    return push(
        layout.files,
        repo_id=repo_id,
        # Without the number of images: by it an open pull request is found when the root has grown.
        message=f"Publish {layout.manifest.name}",
        # Without those that were published, a config that was renamed would stay for ever.
        replace=[*layout.manifest.folders, *published],
        private=spec.private,
        revision=spec.revision,
        create_pr=spec.create_pr,
        tag=spec.tag,
    )


def _summaries(layout: Layout) -> tuple[ConfigSummary, ...]:
    return tuple(
        ConfigSummary(
            name=config.name,
            kind=config.kind,
            num_images=config.num_images,
            num_synthetic=config.num_synthetic,
            num_files=len(config.files),
            num_bytes=config.num_bytes,
        )
        for config in layout.manifest.configs
    )
