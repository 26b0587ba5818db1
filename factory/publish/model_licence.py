"""The licence of a generator, as the card in its own folder says it."""

from pathlib import Path

import yaml

from factory.models import ASSETS, folder_digest, hub_errors
from factory.spec import SpecError

_CARD_NAME = "README.md"


def read_model_licence(name: str, revision: str | None, *, digest: str) -> str | None:
    """Licence in the front matter of a model's card.

    Args:
        name: embedded model, folder or Hub id, as the root's spec has it.
        revision: commit on the Hub; None: it is none of the Hub.
        digest: of the model's files when the images were drawn.

    Returns:
        The licence's identifier, or its name where it has none of the Hub's; None where the model
        cannot be had, is another one by now, or does not name a single one.
    """
    try:
        card = _local_card(name, digest) if revision is None else _hub_card(name, revision)
    except SpecError:
        return None
    return None if card is None or not card.is_file() else _licence(card.read_text("utf-8"))


def _local_card(name: str, digest: str) -> Path | None:
    embedded = ASSETS / name
    folder = embedded if embedded.is_dir() else Path(name)
    is_same = folder.is_dir() and folder_digest(folder, field="generator.model") == digest
    return folder / _CARD_NAME if is_same else None


def _hub_card(name: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    with hub_errors(name, field="generator.model", instead="model_licence"):
        return Path(hf_hub_download(name, _CARD_NAME, revision=revision))


def _licence(card: str) -> str | None:
    from huggingface_hub import ModelCard

    try:
        front = ModelCard(card, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, yaml.YAMLError):
        return None
    licence = front.get("license")
    named = front.get("license_name") if licence == "other" else licence
    return named if isinstance(named, str) and named not in ("", "unknown") else None
