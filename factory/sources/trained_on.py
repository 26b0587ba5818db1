"""What a model had seen: its own training images, and what the models before it had."""

from typing import Any

from factory.records import is_shard_file


def place_in_words(name: str, split: str) -> str:
    """Where images lie, e.g. "fashion_mnist train"; a file has no splits, so its name will do."""
    return name if is_shard_file(name) else f"{name} {split}"


def chain(trained_on: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What a model was trained on, last, and the models before it that it started from."""
    seen = []
    while trained_on is not None:
        seen.append(trained_on)
        trained_on = trained_on.get("before")
    return seen


def seen_in_words(trained_on: dict[str, Any] | None) -> str:
    """What a generator had seen, e.g. "60,000 real images (fashion_mnist train)"."""
    return " and ".join(
        f"{seen['num_images']:,} real images ({place_in_words(seen['name'], seen['split'])})"
        if "digest" in seen
        else f"whatever {seen['name']} had seen, which is not known"
        for seen in chain(trained_on)
    )
