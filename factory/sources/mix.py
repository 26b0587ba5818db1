"""Which images of a real and of a synthetic source a mix takes, exactly and class by class.

A fraction of a class is rounded with Python's `round`: to the nearest, halves to even.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory.seeds import hash_seed
from factory.sources.source import Source
from factory.spec import (
    AddMix,
    Count,
    Counts,
    FillMix,
    KeepMix,
    Mix,
    MultiplierMix,
    OversampleMix,
    RatioMix,
    RealMix,
    ReplaceMix,
    SpecError,
)

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Mixed:
    """The images of a mix, as places in its two sources."""

    real: Indices
    """Ascending; a place occurs more than once only in an `oversample` mix."""
    synthetic: Indices
    """Ascending, each place once."""
    real_counts: dict[str, int]
    """Real images of each class, in label order, repeated ones counted each time."""
    synthetic_counts: dict[str, int]
    """Synthetic images of each class, in label order."""

    def __len__(self) -> int:
        """Images in all, repeated ones counted each time."""
        return len(self.real) + len(self.synthetic)


def synthetic_needed(mix: Mix, class_counts: Mapping[str, int]) -> dict[str, int]:
    """Synthetic images of each class that `mix` takes.

    Args:
        mix: what is asked.
        class_counts: real images of each class, in label order.

    Raises:
        SpecError: if the mix names unknown classes, or classes that hold more than it allows.
    """
    return {name: need.synthetic for name, need in _needed(mix, class_counts).items()}


def most_of_each(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The largest number of each class."""
    most: dict[str, int] = {}
    for own in counts:
        most |= {name: max(count, most.get(name, 0)) for name, count in own.items()}
    return most


def mix_sources(
    mix: Mix, real: Source, synthetic: Source | None, *, seed: int, make_with: str = ""
) -> Mixed:
    """Choose the images of `mix`.

    Real images are drawn with a random stream for each class, named by it, and a mix that takes
    fewer takes the first of them: so it lies within one that takes more. Synthetic images are the
    first of each class in the order of their source, so that a larger root adds and moves none.

    Args:
        mix: what is asked.
        real: the real source.
        synthetic: the synthetic source, with the same classes in the same order; None if the mix
            needs none.
        seed: of the draw of real images.
        make_with: the command that makes enough synthetic images, for the message that says how
            many are missing.

    Raises:
        SpecError: naming every class of which either source holds too few images, of which the
            mix holds none, or which the mix does not allow.
    """
    assert synthetic is None or synthetic.class_names == real.class_names
    needed = _needed(mix, real.class_counts)
    real_counts = {name: need.real for name, need in needed.items()}
    synthetic_counts = {name: need.synthetic for name, need in needed.items()}
    _refuse_empty_classes(mix, real, needed)
    if not isinstance(mix, OversampleMix):
        _refuse_too_few_real(real, real_counts)
    _refuse_too_few_synthetic(synthetic, synthetic_counts, make_with)
    return Mixed(
        real=_draw_real(real, real_counts, seed=seed),
        synthetic=_first_of_each(synthetic, synthetic_counts),
        real_counts=real_counts,
        synthetic_counts=synthetic_counts,
    )


class _Need(NamedTuple):
    """Images that a mix takes of one class."""

    real: int
    synthetic: int


def _needed(mix: Mix, counts: Mapping[str, int]) -> dict[str, _Need]:
    match mix:
        case RealMix():
            return {name: _Need(n, 0) for name, n in counts.items()}
        case AddMix():
            added = _table(mix.images_per_class, counts)
            return {name: _Need(n, added[name]) for name, n in counts.items()}
        case FillMix():
            wanted = _level(mix.images_per_class, counts)
            return {name: _Need(n, wanted - n) for name, n in counts.items()}
        case OversampleMix():
            wanted = _level(mix.images_per_class, counts)
            return {name: _Need(wanted, 0) for name in counts}
        case ReplaceMix():
            return {name: _share(n, mix.fraction) for name, n in counts.items()}
        case KeepMix():
            return {name: _Need(_share(n, mix.fraction).real, 0) for name, n in counts.items()}
        case RatioMix():
            totals = counts if mix.num_images is None else _apportion(mix.num_images, counts)
            return {name: _share(n, mix.synthetic_ratio) for name, n in totals.items()}
        case MultiplierMix():
            return {
                name: _Need(n if mix.with_real else 0, round(mix.multiplier * n))
                for name, n in counts.items()
            }


def _share(total: int, fraction: float) -> _Need:
    synthetic = round(fraction * total)
    return _Need(total - synthetic, synthetic)


def _table(asked: Counts, counts: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(asked, dict):
        return dict.fromkeys(counts, asked)
    unknown = sorted(asked.keys() - counts.keys())
    if unknown:
        raise SpecError(
            f"mix.images_per_class: {unknown} are no classes of the real source; "
            f"its classes are {list(counts)}"
        )
    return {name: asked.get(name, 0) for name in counts}


def _level(asked: Count | None, counts: Mapping[str, int]) -> int:
    largest = max(counts.values())
    wanted = largest if asked is None else asked
    above = {name: n for name, n in counts.items() if n > wanted}
    if above:
        raise SpecError(
            f"mix.images_per_class: is {wanted}, but there are {_listed(above)} already; "
            f"give {largest} or more"
        )
    return wanted


def _apportion(total: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Shares of `total` in proportion to `counts`, by largest remainder (ties: first classes)."""
    num_real = sum(counts.values())
    parts = {name: divmod(total * n, num_real) for name, n in counts.items()}
    left = total - sum(whole for whole, _ in parts.values())
    by_remainder = sorted(parts, key=lambda name: -parts[name][1])
    return {name: parts[name][0] + (name in by_remainder[:left]) for name in counts}


def _refuse_empty_classes(mix: Mix, real: Source, needed: Mapping[str, _Need]) -> None:
    # An image that does not exist cannot be repeated either.
    none_to_take = isinstance(mix, OversampleMix)
    counts = real.class_counts
    empty = [n for n, need in needed.items() if not sum(need) or (none_to_take and not counts[n])]
    if empty:
        raise SpecError(
            f"mix: a {mix.kind} mix of {real.name} ({len(real)} images) holds no image of {empty}; "
            "a classifier needs some of each class, so take more real or synthetic ones"
        )


def _refuse_too_few_real(real: Source, wanted: Mapping[str, int]) -> None:
    have = real.class_counts
    short = [name for name, n in wanted.items() if n > have[name]]
    if short:
        parts = ", ".join(f"{wanted[name]} of {name} (there are {have[name]})" for name in short)
        raise SpecError(
            f"mix.num_images: takes more real images than {real.name} has: {parts}; "
            "ask for fewer images or for a larger synthetic_ratio"
        )


def _refuse_too_few_synthetic(
    synthetic: Source | None, wanted: Mapping[str, int], make_with: str
) -> None:
    have = dict.fromkeys(wanted, 0) if synthetic is None else synthetic.class_counts
    missing = {name: n - have[name] for name, n in wanted.items() if n > have[name]}
    if missing:
        subject = "there is no synthetic source" if synthetic is None else synthetic.name
        remedy = f"make them: {make_with}" if make_with else "give a source that holds more"
        raise SpecError(
            f"{subject}: {sum(missing.values())} synthetic images are missing, "
            f"{_listed(missing)}; {remedy}"
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} of {name}" for name, n in counts.items())


def _draw_real(source: Source, counts: Mapping[str, int], *, seed: int) -> Indices:
    drawn = []
    for label, (class_name, count) in enumerate(counts.items()):
        generator = np.random.default_rng(hash_seed(seed, "mix", class_name))
        order = generator.permutation(np.flatnonzero(source.labels == label))
        # Going round the order again repeats every image once before any is repeated twice.
        drawn.append(np.resize(order, count))
    return np.sort(np.concatenate(drawn))


def _first_of_each(source: Source | None, counts: Mapping[str, int]) -> Indices:
    if source is None:
        return np.zeros(0, dtype=np.int64)
    firsts = [
        np.flatnonzero(source.labels == label)[:count]
        for label, count in enumerate(counts.values())
    ]
    return np.sort(np.concatenate(firsts))
