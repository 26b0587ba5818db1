"""What a generator had seen, against what an arm has and what the arms are tested on."""

from collections.abc import Mapping

from factory.sources.open import open_source
from factory.sources.source import Source
from factory.spec import ClassifySpec, SpecError

MOST_OVERLAP = 0.01
"""Share of the test images that may occur in a real source: real collections hold a few twice."""


def refuse_leaks(spec: ClassifySpec, test: Source, synthetic: Mapping[str, Source]) -> None:
    """Refuse a generator that was trained on the test images.

    Raises:
        SpecError: naming each such source.
    """
    digests = {test.digest, _whole_digest(spec, test)}
    leaks = {
        name: seen
        for name, source in synthetic.items()
        if (seen := next((s for s in chain(source.trained_on) if s["digest"] in digests), None))
    }
    if leaks:
        named = ", ".join(
            f"{name} ({seen['name']} {seen['split']})" for name, seen in leaks.items()
        )
        raise SpecError(
            f"test: {test.name} {test.split} is what the generator of {named} was trained on, so "
            "it can tell nothing about these images; test on others"
        )


def count_overlap(test: Source, sources: Mapping[str, Source]) -> dict[str, int]:
    """Source -> number of test images that occur in it, pixel by pixel.

    Raises:
        SpecError: if more than 1 % of the test images are among the real ones.
    """
    images = [image.tobytes() for image in test.images]
    overlap = {
        name: len(set(images) & {image.tobytes() for image in source.images})
        for name, source in sources.items()
    }
    if overlap["real"] > MOST_OVERLAP * len(test):
        raise SpecError(
            f"test: {overlap['real']} of {len(test)} images of {test.name} {test.split} are among "
            "the real training images; give a test set of other images"
        )
    return overlap


def describe(source: Source, *, num_real: int) -> str:
    """One sentence: what the generator of `source` had seen, against what the arm has."""
    has = f"this arm has {num_real:,}" if num_real else "this arm has none"
    seen = chain(source.trained_on)
    if not seen:
        return f"what the generator of {source.name} had seen is not known; {has} real images"
    parts = " and ".join(f"{s['num_images']:,} ({s['name']} {s['split']})" for s in seen)
    return f"the generator saw {parts} real images, {has}"


def chain(trained_on: dict | None) -> list[dict]:
    """What a model was trained on, last, and the models before it that it started from."""
    seen = []
    while trained_on is not None:
        seen.append(trained_on)
        trained_on = trained_on.get("before")
    return seen


def _whole_digest(spec: ClassifySpec, test: Source) -> str:
    """Digest of the test split before any part of it was taken."""
    parts = {"half": None, "long_tail": None, "num_images": None}
    if all(getattr(spec.test, field) is None for field in parts):
        return test.digest
    return open_source(spec.test.model_copy(update=parts)).digest
