"""What a repository holds before a push: none of it is left behind, nor replaced unawares."""

from typing import NamedTuple

from huggingface_hub import HfApi
from pydantic import ValidationError

from factory.hub import Patience
from factory.publish.repository import Repository, Seen
from factory.shards.manifest import MANIFEST_NAME, Manifest


class Before(NamedTuple):
    """What a push would replace."""

    folders: tuple[str, ...]
    """Of the configs that are published there."""
    refused: dict[str, str]
    """Gate -> why it stands against replacing them; empty: they are of this dataset."""


NOTHING = Before((), {})


def look_before(
    manifest: Manifest,
    repo_id: str,
    revision: str,
    *,
    api: HfApi | None = None,
    patience: Patience | None = None,
) -> Before:
    """Look at a branch that is about to hold `manifest`; makes no repository.

    Raises:
        SpecError: if the Hub does not know who asks, or refuses them.
        JobError: if it cannot be reached.
    """
    repository = Repository(api or HfApi(), repo_id, patience or Patience())
    seen = repository.find(revision)
    if seen is None:
        return NOTHING
    if MANIFEST_NAME not in seen.files:
        return Before((), _refusal(manifest, _foreign(manifest, seen)))
    try:
        there = Manifest.model_validate_json(repository.read(MANIFEST_NAME, seen.commit))
    except ValidationError:
        what = f"a {MANIFEST_NAME} that jobs/publish.py has not written"
        return Before((), _refusal(manifest, what))
    if there.fingerprint == manifest.fingerprint:
        return Before(there.folders, {})
    what = f"{there.num_images:,} images of dataset {there.name} ({there.fingerprint})"
    return Before(there.folders, _refusal(manifest, what))


def _foreign(manifest: Manifest, seen: Seen) -> str | None:
    """Files in the way of a dataset where none was published, in words; None: there are none."""
    files = sorted(path for path in seen.files if path.startswith(manifest.folders))
    return f"{len(files)} files of no published dataset (first: {files[0]})" if files else None


def _refusal(manifest: Manifest, there: str | None) -> dict[str, str]:
    if there is None:
        return {}
    return {
        "another_dataset": f"the repository holds {there}, and this is dataset {manifest.name} "
        f"({manifest.fingerprint}); give another repo_id, or have what is there replaced"
    }
