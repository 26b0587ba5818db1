"""Everything before shards are read: the root, the reports about it, where results go."""

from dataclasses import dataclass

from factory.cli import absolute_root
from factory.records import SPEC_NAME
from factory.sources.promise import OpenedRoot, open_dataset
from factory.spec import PublishSpec, SpecError
from factory.store import Store


@dataclass(frozen=True)
class Prepared:
    """A root to publish, and how."""

    spec: PublishSpec
    """With absolute paths."""
    folder: str
    """Gets what speaks of the dataset."""
    opened: OpenedRoot


def prepare(spec: PublishSpec, folder: str) -> Prepared:
    """Look at the root; writes nothing, asks nobody.

    Args:
        spec: what to publish.
        folder: absolute path or URL for card, manifest and the rest, but for the shards.

    Raises:
        SpecError: if the root is none or holds nothing, or the folder is one of a dataset.
    """
    if Store(folder).exists(SPEC_NAME):
        raise SpecError(
            f"root {folder}: holds a dataset or a model ({SPEC_NAME}); name the dataset as "
            f"root={folder}, and give what is written about it a --root of its own"
        )
    if spec.export is not None and "://" in spec.export:
        raise SpecError(f"export: is {spec.export}; give a local folder")
    paths = {"root": spec.root, "evaluate": spec.evaluate, "classify": spec.classify}
    paths |= {"export": spec.export}
    absolute = {name: path and absolute_root(path) for name, path in paths.items()}
    opened = open_dataset(absolute_root(spec.root))
    if not opened.inventory.records:
        raise SpecError(
            f"root {opened.dataset.store.url}: holds no finished shard; run jobs/generate.py with "
            "the dataset's spec and this root"
        )
    return Prepared(spec.model_copy(update=absolute), folder, opened)
