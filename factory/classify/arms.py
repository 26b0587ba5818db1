"""What each arm trains on: its images, its length, and the fingerprint of both."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory.classify.schedule import epoch_steps, images_per_step, num_steps, step_sizes
from factory.seeds import hash_seed
from factory.sources.mix import Mixed, mix_sources, synthetic_needed
from factory.sources.source import Source
from factory.spec import Arm, ClassifySpec, Match, SourceSpec, SpecError, fingerprint

Indices = NDArray[np.int64]

_HELD_OUT_FIELD = "training.validation"


class Part(NamedTuple):
    """Images that are shuffled together."""

    images: NDArray[np.uint8]
    """[N, H, W, C]."""
    labels: NDArray[np.int64]
    """[N]."""


class Chosen(NamedTuple):
    """Images of an arm, as places in its two sources."""

    real: Indices
    synthetic: Indices


class Sources(NamedTuple):
    """What arms are mixed from, all with the same classes in the same order."""

    real: Source
    """Without the images that are held out for validation."""
    validation: Source | None
    """Real images for the validation of every arm."""
    test: Source
    synthetic: dict[str, Source]
    weights: str | None
    """Digest of the pre-trained weights that all trainings start from; None: random ones."""


@dataclass(frozen=True, slots=True)
class PreparedArm:
    """An arm whose images and length are fixed."""

    name: str
    arm: Arm
    """With its augmentation filled in."""
    synthetic: str | None
    """Name of the synthetic source it takes images of; None: it takes none."""
    mixed: Mixed
    """What it trains on and is validated on."""
    train: Chosen
    validation: Chosen | None
    """Images of `mixed` that are held out of training."""
    num_steps: int
    fingerprint: str
    """Names all that its trainings depend on, but the seed."""

    def parts(self, sources: Sources) -> list[Part]:
        """The images to train on: one part, or two that give a batch each."""
        real, synthetic = self._parts(self.train, sources)
        if self.arm.batches == "paired":
            return [real, synthetic]
        return [_join(real, synthetic)]

    def validation_part(self, sources: Sources) -> Part | None:
        """The images that training is watched by."""
        if sources.validation is not None:
            return Part(sources.validation.images, sources.validation.labels)
        return None if self.validation is None else _join(*self._parts(self.validation, sources))

    def _parts(self, chosen: Chosen, sources: Sources) -> tuple[Part, Part]:
        real = _part(sources.real, chosen.real)
        if self.synthetic is None:
            return real, _part(sources.real, chosen.synthetic)
        return real, _part(sources.synthetic[self.synthetic], chosen.synthetic)


def synthetic_name(spec: ClassifySpec, arm: Arm, needed: Mapping[str, int]) -> str | None:
    """Which synthetic source the arm takes images of; None if it takes none."""
    if not any(needed.values()):
        return None
    return arm.synthetic or next(iter(spec.synthetic))


def prepare_arms(spec: ClassifySpec, sources: Sources) -> dict[str, PreparedArm]:
    """All arms of the spec, then the controls that it asks for.

    Raises:
        SpecError: naming the arm whose images there are too few of.
    """
    first = baseline_name(spec)
    baseline = _prepare_arm(spec, sources, first, None)
    arms = {
        name: baseline if name == first else _prepare_arm(spec, sources, name, baseline)
        for name in spec.arms
    }
    for kind in spec.controls:
        for name in spec.arms:
            steps = _matching_steps(spec, arms[name].arm, baseline, kind)
            if steps != arms[name].num_steps:
                control = replace(arms[name], name=f"{name}, same {kind}", num_steps=steps)
                control = _pinned(spec, sources, control)
                # With joint batches as many steps are as many images.
                if control.fingerprint not in {arm.fingerprint for arm in arms.values()}:
                    arms[control.name] = control
    return arms


def baseline_name(spec: ClassifySpec) -> str:
    """The arm that the others are compared with."""
    return spec.baseline or next(iter(spec.arms))


def _prepare_arm(
    spec: ClassifySpec, sources: Sources, name: str, baseline: PreparedArm | None
) -> PreparedArm:
    arm = spec.arms[name]
    arm = arm.model_copy(update={"augmentation": arm.augmentation or spec.training.augmentation})
    needed = synthetic_needed(arm.mix, sources.real.class_counts)
    key = synthetic_name(spec, arm, needed)
    try:
        mixed = mix_sources(
            arm.mix,
            sources.real,
            None if key is None else sources.synthetic[key],
            seed=hash_seed(spec.seed, "mix"),
            make_with="" if key is None else _command(spec.synthetic[key], max(needed.values())),
        )
        train, validation = _cut_validation(spec, sources, key, mixed)
    except SpecError as error:
        raise SpecError(f"arms.{name}: {error}") from None
    sizes = _part_sizes(arm, train)
    if not min(sizes):
        raise SpecError(
            f"arms.{name}: paired batches need real and synthetic images, and its {arm.mix.kind} "
            f"mix leaves {sizes[0]} real and {sizes[-1]} synthetic ones to train on; give "
            "batches: joint"
        )
    steps = num_steps(spec.training, epoch_steps=epoch_steps(sizes, step_sizes(spec.training, arm)))
    if arm.match is not None and baseline is not None:
        steps = _matching_steps(spec, arm, baseline, arm.match)
    return _pinned(spec, sources, PreparedArm(name, arm, key, mixed, train, validation, steps, ""))


def _part_sizes(arm: Arm, train: Chosen) -> list[int]:
    real, synthetic = len(train.real), len(train.synthetic)
    return [real, synthetic] if arm.batches == "paired" else [real + synthetic]


def _command(source: SourceSpec, images_per_class: int) -> str:
    # One number grows a root of any counts; a table would need one that was made by a table.
    return (
        f"run jobs/generate.py with the dataset's spec, images_per_class={images_per_class} and "
        f"--root {source.path}"
    )


def _matching_steps(spec: ClassifySpec, arm: Arm, baseline: PreparedArm, match: Match) -> int:
    """Steps in which `arm` takes as many steps, or sees as many images, as the baseline."""
    if match == "steps":
        return baseline.num_steps
    images = baseline.num_steps * images_per_step(spec.training, baseline.arm)
    return max(1, round(images / images_per_step(spec.training, arm)))


def _cut_validation(
    spec: ClassifySpec, sources: Sources, key: str | None, mixed: Mixed
) -> tuple[Chosen, Chosen | None]:
    """Hold out a share of each class of the real and of the synthetic images of a mix."""
    validation = spec.training.validation
    if validation is None or validation.of == "real":
        return Chosen(mixed.real, mixed.synthetic), None
    real = _draw_share(mixed.real, sources.real, validation.fraction, seed=spec.seed)
    synthetic = mixed.synthetic[:0]
    if key is not None:
        source = sources.synthetic[key]
        synthetic = _draw_share(mixed.synthetic, source, validation.fraction, seed=spec.seed)
    train = Chosen(
        mixed.real[~np.isin(mixed.real, real)],
        mixed.synthetic[~np.isin(mixed.synthetic, synthetic)],
    )
    labels = sources.real.labels[train.real]
    if key is not None:
        labels = np.concatenate([labels, sources.synthetic[key].labels[train.synthetic]])
    names = sources.real.class_names
    counts = np.bincount(labels, minlength=len(names)).tolist()
    left = dict(zip(names, counts, strict=True))
    _check_held_out(left, len(real) + len(synthetic), field=_HELD_OUT_FIELD)
    return train, Chosen(real, synthetic)


def hold_out(
    source: Source, fraction: float, *, seed: int, field: str = _HELD_OUT_FIELD
) -> tuple[Source, Source]:
    """What is left of a source, and a share of each of its classes, rounded.

    Raises:
        SpecError: beginning with `field`, if no image is held out, or no image of a class is left.
    """
    everything = np.arange(len(source))
    held = _draw_share(everything, source, fraction, seed=seed)
    left = source.take(np.setdiff1d(everything, held))
    _check_held_out(left.class_counts, len(held), field=field)
    return left, source.take(np.sort(held))


def _draw_share(indices: Indices, source: Source, fraction: float, *, seed: int) -> Indices:
    """A share of each class, rounded; an image that occurs twice is drawn once, for all copies."""
    seed = hash_seed(seed, "validation")
    unique = np.unique(indices)
    drawn = []
    for label, class_name in enumerate(source.class_names):
        own = unique[source.labels[unique] == label]
        generator = np.random.default_rng(hash_seed(seed, class_name))
        drawn.append(generator.permutation(own)[: round(fraction * len(own))])
    return np.concatenate(drawn)


def _check_held_out(left: Mapping[str, int], num_held_out: int, *, field: str) -> None:
    """Refuse a share that takes a class's last image, or none at all."""
    empty = [name for name, count in left.items() if count == 0]
    if empty or not num_held_out:
        raise SpecError(
            f"{field}: "
            + (f"leaves no image of {empty} to train on" if empty else "holds out no image at all")
            + "; change the fraction, or give more images"
        )


def _pinned(spec: ClassifySpec, sources: Sources, arm: PreparedArm) -> PreparedArm:
    validation = arm.validation_part(sources)
    identity = {
        "classifier": spec.classifier.model_dump(mode="json", exclude={"weights", "revision"}),
        "weights": sources.weights,
        # The augmentation is the arm's.
        "training": spec.training.model_dump(mode="json", exclude={"num_steps", "augmentation"}),
        "augmentation": arm.arm.augmentation,
        "class_names": list(sources.real.class_names),
        "parts": [_digest(part) for part in arm.parts(sources)],
        "step_sizes": step_sizes(spec.training, arm.arm),
        "validation": None if validation is None else _digest(validation),
        "test": sources.test.digest,
        "num_steps": arm.num_steps,
        "seed": spec.seed,
        "threads": spec.threads,
        "num_workers": spec.num_workers,
    }
    return replace(arm, fingerprint=fingerprint(identity))


def _digest(part: Part) -> str:
    total = hashlib.sha256(repr(part.images.shape).encode())
    total.update(part.labels.astype("<i8").tobytes())
    total.update(np.ascontiguousarray(part.images).data)
    return total.hexdigest()


def _part(source: Source, indices: Indices) -> Part:
    return Part(source.images[indices], source.labels[indices])


def _join(real: Part, synthetic: Part) -> Part:
    if not len(synthetic.labels):
        return real
    return Part(
        np.concatenate([real.images, synthetic.images]),
        np.concatenate([real.labels, synthetic.labels]),
    )
