"""Everything before shards are read: the root, the reports about it, where results go."""

from collections.abc import Mapping
from dataclasses import dataclass

from factory.cli import absolute_root
from factory.pages.folder import REPORT_NAME
from factory.publish.licences import check_licences
from factory.records import SPEC_NAME, refuse_results
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
        SpecError: if the root is none or holds nothing, the folder is one of a dataset or of other
            results, results that the spec names are not there, or a licence is none of the Hub.
    """
    if Store(folder).exists(SPEC_NAME):
        raise SpecError(
            f"root {folder}: holds a dataset or a model ({SPEC_NAME}); name the dataset as "
            f"root={folder}, and give what is written about it a --root of its own"
        )
    refuse_results(Store(folder))
    if spec.export is not None and "://" in spec.export:
        raise SpecError(f"export: is {spec.export}; give a local folder")
    check_licences(spec)
    paths = {"root": spec.root, "evaluate": spec.evaluate, "classify": spec.classify}
    paths |= {"export": spec.export}
    absolute = {name: path and absolute_root(path) for name, path in paths.items()}
    _check_results(spec, absolute)
    opened = open_dataset(absolute_root(spec.root))
    if not opened.inventory.records:
        raise SpecError(
            f"root {opened.dataset.store.url}: holds no finished shard; run jobs/generate.py with "
            "the dataset's spec and this root"
        )
    return Prepared(spec.model_copy(update=absolute), folder, opened)


def _check_results(spec: PublishSpec, absolute: Mapping[str, str | None]) -> None:
    """Refuse results that are not there; of the default folder a gate speaks."""
    given = {name: absolute[name] for name in ("evaluate", "classify")}
    missing = [
        f"{name}: there are no results of jobs/{name}.py in {folder} (no {REPORT_NAME})"
        for name, folder in given.items()
        if folder is not None and name in spec.model_fields_set
        if not Store(folder).exists(REPORT_NAME)
    ]
    if missing:
        raise SpecError(
            f"{'; '.join(missing)}; give the --root of a finished job, or leave the field out"
        )
