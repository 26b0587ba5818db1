"""What a configuration of a search asks of the stages: which images, and which training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from factory.classify.arms import Sources
from factory.classify.weights import pin_weights
from factory.inputs import open_start
from factory.sources.mix import synthetic_needed
from factory.sources.named import fit_named, open_named
from factory.sources.source import Source
from factory.spec import ClassifySpec, GenerateSpec, SourceSpec, TuneSpec, Validation

SEARCH_FOLDER = "search"
"""In the root: the trainings of the search, as those of a comparison."""
ARM = "trial"
"""The one arm of a trial."""
_SYNTHETIC = "synthetic"


class RealData(NamedTuple):
    """What all trainings of a search share."""

    real: Source
    """Without the images that the search chooses by."""
    validation: Source
    """Those."""


def images_needed(spec: TuneSpec, class_counts: Mapping[str, int]) -> dict[str, int]:
    """Synthetic images of each class that the mix of `spec` takes; empty if it takes none.

    Args:
        spec: with a configuration in it.
        class_counts: real images of each class, in label order.

    Raises:
        SpecError: if the mix names unknown classes, or classes that hold more than it allows.
    """
    needed = synthetic_needed(spec.arm.mix, class_counts)
    return needed if any(needed.values()) else {}


def images_spec(spec: TuneSpec, needed: Mapping[str, int]) -> GenerateSpec:
    """The dataset that holds the first `needed` images of each class; more of it is a superset.

    Args:
        spec: with a configuration in it.
        needed: as `images_needed` says, not empty.

    Raises:
        SpecError: if the source of a reconstruction cannot be opened.
    """
    generate = spec.generate
    names = generate.class_names or tuple(needed)
    if generate.reconstruct is not None:
        start = open_start(generate)
        assert start is not None
        # An unknown class is refused when the spec is resolved.
        counts = start.class_counts
        passes = max(-(-count // max(1, counts.get(name, 1))) for name, count in needed.items())
        reconstruct = generate.reconstruct.model_copy(update={"passes": passes})
        return _changed(generate, class_names=names, reconstruct=reconstruct)
    are_equal = len(set(needed.values())) == 1 and set(names) == set(needed)
    return _changed(
        generate,
        class_names=names,
        images_per_class=next(iter(needed.values())) if are_equal else dict(needed),
        # Named, so that it does not depend on whether the counts happen to be equal.
        layout=generate.layout or (None if generate.labels == "quota" else "by_class"),
    )


def _changed(generate: GenerateSpec, **changes: Any) -> GenerateSpec:
    # Without defaults: some fields refuse to be given beside others.
    return GenerateSpec.model_validate(generate.model_dump(exclude_unset=True) | changes)


def as_comparison(spec: TuneSpec, images: str | None) -> ClassifySpec:
    """A trial as a comparison of one arm.

    Args:
        spec: with the trial's configuration in it.
        images: root of its synthetic images; None: it takes none.
    """
    return ClassifySpec(
        name=spec.name,
        real=spec.real,
        test=spec.test,
        synthetic={_SYNTHETIC: synthetic_source(spec, images or "")},
        arms={ARM: spec.arm},
        classifier=spec.classifier,
        # On the search's own validation images, all of them.
        training=spec.training.model_copy(update={"validation": Validation(of="real")}),
        seed=spec.seed,
        num_seeds=1,
        threads=spec.threads,
        num_workers=spec.num_workers,
        resources=spec.resources,
    )


def synthetic_source(spec: TuneSpec, path: str) -> SourceSpec:
    """A root as a source, its images converted as the real ones are."""
    return SourceSpec(
        path=path,
        image_size=spec.real.image_size,
        resample=spec.real.resample,
        channels=spec.real.channels,
    )


def open_sources(spec: TuneSpec, data: RealData, images: str | None) -> Sources:
    """What a trial's arm is mixed from; where a comparison has test images, it has validation ones.

    Args:
        spec: with the trial's configuration in it.
        data: the real images.
        images: root of its synthetic images; None: it takes none.

    Raises:
        SpecError: if the synthetic images are of other classes or of another size.
    """
    synthetic: dict[str, Source] = {}
    if images is not None:
        needed = images_needed(spec, data.real.class_counts)
        source = synthetic_source(spec, images)
        opened = open_named("generate", source, images_per_class=needed)
        synthetic[_SYNTHETIC] = fit_named("generate", opened, data.real)
    _, weights = pin_weights(spec.classifier)
    return Sources(data.real, data.validation, data.validation, synthetic, weights)
