"""A source in the words of a report."""

from typing import Any

from factory.sources.source import Source
from factory.sources.trained_on import place_in_words
from factory.spec import Frozen


class SourceSummary(Frozen):
    """A source as it took part."""

    name: str
    split: str
    digest: str
    num_images: int
    class_counts: dict[str, int]
    image_size: tuple[int, int]
    """Height and width, px."""
    channels: int
    skipped: int
    """Corrupt images left out."""
    trained_on: dict[str, Any] | None
    """Of a synthetic source: what its generator had seen, where that is known."""

    @property
    def place(self) -> str:
        """Where it lies, in words."""
        return place_in_words(self.name, self.split)


def summarize(source: Source) -> SourceSummary:
    """What reports say of a source."""
    height, width, channels = source.images.shape[1:]
    return SourceSummary(
        name=source.name,
        split=source.split,
        digest=source.digest,
        num_images=len(source),
        class_counts=source.class_counts,
        image_size=(height, width),
        channels=channels,
        skipped=len(source.skipped),
        trained_on=source.trained_on,
    )
