"""What a generator had seen, against what an arm has and what the arms are tested on."""

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

from factory.sources.open import open_source
from factory.sources.source import Source
from factory.sources.trained_on import chain, place_in_words, seen_in_words
from factory.spec import SourceSpec, SpecError

MOST_OVERLAP = 0.01
"""Share of the test images that may occur in a real source: real collections hold a few twice."""


def refuse_leaks(
    spec: SourceSpec, test: Source, trained_on: Mapping[str, dict[str, Any] | None]
) -> None:
    """Refuse a generator that was trained on the test images.

    Args:
        spec: the test images.
        test: these as they were opened, before their labels were put in another order.
        trained_on: synthetic source -> what its generator had seen.

    Raises:
        SpecError: naming each such source.
    """
    leaks = seen_images(spec, test, trained_on)
    if leaks:
        named = ", ".join(
            f"{name} ({place_in_words(seen['name'], seen['split'])})"
            for name, seen in leaks.items()
        )
        raise SpecError(
            f"test: {test.place} is what the generator of {named}, or a classifier "
            "that chose its images, was trained on, so it can tell nothing about these images; "
            "test on others"
        )


def seen_images(
    spec: SourceSpec, source: Source, trained_on: Mapping[str, dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """Synthetic source -> the data that its generator had seen and that are those of `source`.

    Known by the content of the whole split, as it is and as `spec` converts it, or else by its
    name and split.

    Args:
        spec: the images.
        source: these as they were opened.
        trained_on: synthetic source -> what its generator had seen.
    """
    digests = {source.digest, *_whole_digests(spec)}
    place = None if spec.half is not None else (source.name, source.split)
    return {
        name: seen
        for name, link in trained_on.items()
        for seen in chain(link)
        if seen.get("digest") in digests or (seen.get("name"), seen.get("split")) == place
    }


def count_overlap(test: Source, real: Source, synthetic: Mapping[str, Source]) -> dict[str, int]:
    """Source -> number of test images that occur in it, pixel by pixel; "real" for `real`.

    Raises:
        SpecError: if more than 1 % of the test images are among the real ones.
    """
    with_real = count_common(test, real)
    if with_real > MOST_OVERLAP * len(test):
        raise SpecError(
            f"test: {with_real} of {len(test)} images of {test.place} are among "
            "the real training images; give a test set of other images"
        )
    drawn = {name: count_common(test, source) for name, source in synthetic.items()}
    return {"real": with_real} | {f"synthetic.{name}": count for name, count in drawn.items()}


def count_common(one: Source, other: Source) -> int:
    """Images that occur in both, pixel by pixel; each counts once."""
    return len(_fingerprints(one) & _fingerprints(other))


def _fingerprints(source: Source) -> set[bytes]:
    return {hashlib.sha256(image.tobytes()).digest()[:16] for image in source.images}


def describe(source: Source, *, owner: str, num_real: int) -> str:
    """One sentence: what the generator of `source` had seen, against what its `owner` has."""
    has = f"{owner} has {num_real:,}" if num_real else f"{owner} has none"
    if source.trained_on is None:
        return f"what the generator of {source.name} had seen is not known; {has} real images"
    return f"the generator saw {seen_in_words(source.trained_on)}; {has}"


def _whole_digests(spec: SourceSpec) -> list[str]:
    """Digests of a split before any part of it was taken, converted and as its files hold it."""
    parts = {"half": None, "long_tail": None, "num_images": None}
    shape = {"image_size": None, "channels": None}
    others = []
    for changes in (parts, parts | shape):
        whole = spec.model_copy(update=changes)
        if whole != spec and whole not in others:
            others.append(whole)
    digests = []
    for whole in others:
        # Images of several sizes are no source until they are converted.
        with contextlib.suppress(SpecError):
            digests.append(open_source(whole).digest)
    return digests
