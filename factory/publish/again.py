"""The spec that makes a published dataset again: its counts as they are, its paths by name."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from factory.inputs import decide_layout
from factory.plan import Layout, class_counts
from factory.spec import GenerateSpec


def spec_to_make_again(
    asked: GenerateSpec,
    counts: Mapping[str, int],
    *,
    layout: Layout,
    source_counts: Mapping[str, int] | None,
) -> dict[str, Any]:
    """A spec with the fingerprint of the root that `asked` started, and these counts.

    Args:
        asked: the spec that the root was started with.
        counts: images of each class that it is to have, in label order.
        layout: of the root's shards.
        source_counts: of a reconstruction, images of each class in its source.

    Returns:
        What differs from the defaults. Folders, files and URLs are by their last part: where they
        lie is nobody's business, and what they hold is pinned by the fingerprint.
    """
    if source_counts is None:
        again = _with_counts(asked, counts, layout)
    else:
        again = _with_passes(asked, -(-sum(counts.values()) // sum(source_counts.values())))
    if layout != "pool" and decide_layout(again) != layout:
        again = again.model_copy(update={"layout": layout})
    left_out = {"resources", "recheck", "preview"}
    tree = again.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    _name_paths(tree)
    return tree


def _with_counts(asked: GenerateSpec, counts: Mapping[str, int], layout: Layout) -> GenerateSpec:
    total = sum(counts.values())
    by_number = asked.model_copy(update={"num_images": total, "images_per_class": None})
    if layout == "interleaved" or asked.labels == "as_found":
        return by_number
    if class_counts(by_number, tuple(counts)) == tuple(counts.values()):
        return by_number
    table = {name: count for name, count in counts.items() if count}
    return asked.model_copy(update={"num_images": None, "images_per_class": table})


def _with_passes(asked: GenerateSpec, passes: int) -> GenerateSpec:
    assert asked.reconstruct is not None
    reconstruct = asked.reconstruct.model_copy(update={"passes": passes})
    return asked.model_copy(update={"reconstruct": reconstruct})


def _name_paths(tree: dict[str, Any]) -> None:
    """Put names for the paths in a tree of sections and lists of sections."""
    for field, value in tree.items():
        match value:
            case dict():
                _name_paths(value)
            case list():
                for section in value:
                    if isinstance(section, dict):
                        _name_paths(section)
            case str() if field in _PATHS:
                tree[field] = name_of_path(value)
            case _:
                pass


_PATHS = {"model", "features", "adapters", "file", "path"}
"""Fields of a generate spec that name a folder, file or URL."""


def name_of_path(path: str) -> str:
    """The last part of an absolute path or of a URL; any other name as it is.

    A file of Parquet is called by its folder too, as sources are.
    """
    if not path.startswith(("/", "~")) and "://" not in path:
        return path
    parts = PurePosixPath(path.rstrip("/")).parts
    return "/".join(parts[-2:] if parts[-1].endswith((".parquet", ".tar")) else parts[-1:])
