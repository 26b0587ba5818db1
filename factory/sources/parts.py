"""Parts of a source, drawn class by class: halves, long tails, balanced parts, held-out ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from factory.seeds import hash_seed
from factory.sources.source import Source
from factory.spec import LongTail, SourceSpec, SpecError


def take_part(source: Source, spec: SourceSpec) -> Source:
    """What `spec` asks of `source`: a half of it, of that a balanced part, of that a long tail.

    Raises:
        SpecError: naming every class that is too small.
    """
    if spec.half is not None:
        source = half_of(source, spec.half, seed=spec.seed)
    if spec.num_images is not None:
        source = balanced_part(source, spec.num_images, seed=spec.seed)
    if spec.long_tail is not None:
        source = long_tailed(source, spec.long_tail, seed=spec.seed)
    return source


def has_part(spec: SourceSpec) -> bool:
    """Whether `take_part` takes anything but the whole."""
    return (spec.half, spec.long_tail, spec.num_images) != (None, None, None)


def half_of(source: Source, which: Literal["first", "second"], *, seed: int) -> Source:
    """One of two disjoint halves that together are `source`, in its order.

    Cut class by class with `seed`; of an odd class the first half has one image more.

    Raises:
        SpecError: naming every class that would be empty.
    """
    counts = source.class_counts
    first = {name: -(-count // 2) for name, count in counts.items()}
    second = {name: count // 2 for name, count in counts.items()}
    _refuse_empty(source, f"the {which} half", first if which == "first" else second)
    is_first = np.zeros(len(source), dtype=bool)
    is_first[_draw(source, list(first.values()), seed=seed, purpose="half")] = True
    return source.take(np.flatnonzero(is_first if which == "first" else ~is_first))


def long_tail_counts(class_counts: Mapping[str, int], long_tail: LongTail) -> dict[str, int]:
    """Images that each class keeps: N_i factor^(i / (K - 1)) for class i of K (basu2022, Eq. 1).

    Args:
        class_counts: N_i of each class, in label order.
        long_tail: the factor, and what becomes of a fraction of an image: rounded (halves to
            even), or cut off.
    """
    last = max(len(class_counts) - 1, 1)
    kept = {}
    for label, (name, count) in enumerate(class_counts.items()):
        # The power's last bits must not cost an image: 1000 * 0.001 ** (1 / 3) is below 100.
        exact = round(count * long_tail.factor ** (label / last), 9)
        kept[name] = round(exact) if long_tail.rounding == "round" else int(exact)
    return kept


def long_tailed(source: Source, long_tail: LongTail, *, seed: int) -> Source:
    """As many images of each class as `long_tail_counts` says, in the order of `source`.

    With the same seed a smaller factor's images lie within a larger one's.

    Raises:
        SpecError: naming every class that would be empty.
    """
    kept = long_tail_counts(source.class_counts, long_tail)
    _refuse_empty(source, f"a long tail of factor {long_tail.factor:g}", kept)
    drawn = _draw(source, list(kept.values()), seed=seed, purpose="long_tail")
    return source.take(np.sort(drawn))


def balanced_part(source: Source, num_images: int, *, seed: int) -> Source:
    """The images at `balanced_indices`."""
    return source.take(balanced_indices(source, num_images, seed=seed))


def balanced_indices(source: Source, num_images: int, *, seed: int) -> NDArray[np.int64]:
    """As many images of each class, drawn with `seed`, in the order of `source`.

    A smaller part drawn with the same seed lies within a larger one, class by class. Where
    `num_images` is no multiple of K, the first classes take one more.

    Raises:
        SpecError: naming every class that holds too few, with its count.
    """
    wanted = _shares(num_images, len(source.class_names))
    return np.sort(_draw(source, wanted, seed=seed, purpose="part"))


def hold_out(source: Source, fraction: float, *, seed: int) -> tuple[Source, Source]:
    """Split into (the rest, a class-balanced `fraction`), both in the order of `source`.

    Raises:
        SpecError: if a class would hold nothing on one side.
    """
    num_classes = len(source.class_names)
    smallest = min(source.class_counts.values())
    each = round(fraction * len(source) / num_classes)
    if not 0 < each < smallest:
        raise SpecError(
            f"{source.name}: holding out {fraction:g} of {len(source)} images takes {each} of each "
            f"class, and the smallest class has {smallest}; give held_out a source of its own"
        )
    held = np.zeros(len(source), dtype=bool)
    held[_draw(source, [each] * num_classes, seed=seed, purpose="part")] = True
    return source.take(np.flatnonzero(~held)), source.take(np.flatnonzero(held))


def align(source: Source, class_names: Sequence[str]) -> Source:
    """The same images in the same order, their labels counting in the order of `class_names`.

    Raises:
        SpecError: if the names are not the same, naming those that are missing and those that are
            too many.
    """
    missing = [name for name in class_names if name not in source.class_names]
    extra = [name for name in source.class_names if name not in class_names]
    if missing or extra:
        raise SpecError(
            f"{source.name}: its classes are others than those it is used with: "
            f"missing {missing}, too many {extra}; sources of one mix need the same class names, "
            "in any order, so rename the classes or give another source"
        )
    place = {name: label for label, name in enumerate(class_names)}
    new_labels = np.array([place[name] for name in source.class_names], dtype=np.int64)
    return replace(source, labels=new_labels[source.labels], class_names=tuple(class_names))


def _shares(total: int, parts: int) -> list[int]:
    each, more = divmod(total, parts)
    return [each + (part < more) for part in range(parts)]


def _refuse_empty(source: Source, part: str, kept: Mapping[str, int]) -> None:
    counts = source.class_counts
    empty = [f"{name} (has {counts[name]})" for name, count in kept.items() if not count]
    if empty:
        raise SpecError(
            f"{source.name}: {part} would hold no image of {', '.join(empty)}; "
            "ask for a larger part, or give a source with more images of them"
        )


def _draw(source: Source, wanted: list[int], *, seed: int, purpose: str) -> NDArray[np.int64]:
    counts = source.class_counts
    short = {n: counts[n] for n, w in zip(source.class_names, wanted, strict=True) if w > counts[n]}
    if short:
        raise SpecError(
            f"{source.name}: {sum(wanted)} images need {max(wanted)} of each class, but there are "
            + ", ".join(f"{count} of {name}" for name, count in short.items())
            + "; ask for fewer images"
        )
    drawn = []
    for label, (class_name, count) in enumerate(zip(source.class_names, wanted, strict=True)):
        # A stream for each class, named by it: other classes do not move this one's draw.
        generator = np.random.default_rng(hash_seed(seed, purpose, class_name))
        drawn.append(generator.permutation(np.flatnonzero(source.labels == label))[:count])
    return np.concatenate(drawn)
