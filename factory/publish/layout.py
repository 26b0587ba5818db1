"""What a repository gets: shards by config, and the files that speak of them."""

from pathlib import Path
from typing import NamedTuple

from factory.publish.card import CARD_NAME, make_card
from factory.publish.checked import Checked
from factory.publish.croissant import CROISSANT_NAME, make_croissant
from factory.publish.derived import Derived
from factory.publish.facts import SHEET_NAME, Facts
from factory.publish.manifest import make_manifest, published_path, root_config
from factory.publish.upload import PushFile
from factory.shards.manifest import MANIFEST_NAME, Manifest
from factory.sources.promise import Dataset
from factory.spec import PublishSpec


class Layout(NamedTuple):
    """A repository, before it is one."""

    manifest: Manifest
    shards: dict[str, PushFile]
    """Path -> file, in the order of the paths."""
    texts: dict[str, bytes]
    """Path -> content of what speaks of them: card, manifest, Croissant file, contact sheet."""

    @property
    def files(self) -> dict[str, PushFile]:
        """All of it."""
        return self.shards | {path: PushFile.of_bytes(data) for path, data in self.texts.items()}

    @property
    def num_bytes(self) -> int:
        """Size of all of it."""
        return sum(file.num_bytes for file in self.files.values())

    def listing(self) -> str:
        """Size in bytes and path of every file, a line each."""
        files = sorted(self.files.items())
        return "".join(f"{file.num_bytes:>14,}  {path}\n" for path, file in files)


def lay_out(
    spec: PublishSpec, dataset: Dataset, checked: Checked, facts: Facts, folder: Path
) -> Layout:
    """Lay out a repository; the same arguments give the same bytes.

    Args:
        spec: what is asked.
        dataset: the root.
        checked: what it holds; its whole shards are published, and there is at least one.
        facts: of these shards.
        folder: gets the shards of configs that are not the root's; it must outlive the layout.

    Raises:
        SpecError: if a further config cannot be made.
    """
    store, records = dataset.store, list(checked.records.values())
    root = root_config(
        spec.config,
        records,
        dataset.plan.class_names,
        num_synthetic=checked.num_synthetic,
        first=store.get(records[0].file),
    )
    derived = list(Derived(dataset, checked.records, folder).configs(spec.more))
    manifest = make_manifest(dataset.root_spec, records, [root, *derived])
    shards = {
        published_path(spec.config, record.file): PushFile.of_store(
            store, record.file, sha256=record.sha256, num_bytes=record.num_bytes
        )
        for record in records
    }
    shards |= {
        file.path: PushFile(file.sha256, file.num_bytes, (folder / file.path).read_bytes)
        for config in derived
        for file in config.files
    }
    texts = {
        CARD_NAME: make_card(facts, manifest, spec).encode(),
        MANIFEST_NAME: manifest.model_dump_json(indent=1).encode(),
        CROISSANT_NAME: make_croissant(manifest, spec).encode(),
    }
    if facts.has_sheet:
        texts[SHEET_NAME] = store.get(SHEET_NAME)
    return Layout(manifest, dict(sorted(shards.items())), texts)
