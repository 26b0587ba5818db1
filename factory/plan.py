"""What is to do: the shards of a resolved spec, each a function of the spec and its number."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from factory.seeds import hash_seed
from factory.spec import GenerateSpec, SpecError


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image to draw: all that its pixels depend on, beside the model and its batch-mates."""

    key: str
    shard: int
    index: int
    """Number within its shard, from 0."""
    label: int | None
    """Index into the dataset's class names; None: a labeller finds it."""
    class_name: str | None
    turn: int
    """Number of its class's candidate or, of a reconstruction, of its class's source image (the
    images of a class are gone through again and again); from 0, over all shards."""
    seed: int


Layout = Literal["interleaved", "by_class", "pool"]
REDRAWS = 100
"""Candidates that a plan has for each source image of a reconstruction; one pool serves each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards that give every class its count.

    Interleaved: image g of the dataset (shard g // shard_size) has class g mod K.
    By class: shard s holds class s mod K only, and is the (s // K)-th shard of that class.
    Pool: candidates are drawn for no class, and a labeller says what came. Each shard takes the
    same number of each class (shard_size // K) from candidates of its own; without counts of
    classes (`as_found`) it takes whatever comes.
    Either way a larger count only lengthens the last shards or appends new ones.
    """

    name: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...] | None
    """Accepted images of each class; None: whatever comes, `total` in all."""
    layout: Layout
    shard_size: int
    batch_size: int
    seed: int
    total: int = 0
    """Accepted images in all, where `counts` does not say."""
    reconstructs: bool = False
    """Whether image n of a class is made of its source image n, again and again."""

    @property
    def num_images(self) -> int:
        """Accepted images in all."""
        return self.total if self.counts is None else sum(self.counts)

    @property
    def num_shards(self) -> int:
        """Shards that hold at least one image."""
        if self.counts is None or self.layout == "interleaved":
            return -(-self.num_images // self.shard_size)
        if self.layout == "pool":
            return -(-max(self.counts) // self.share)
        return sum(-(-count // self.shard_size) for count in self.counts)

    def shards(self) -> Iterator[int]:
        """Numbers of the shards, rising; those of `by_class` may have gaps."""
        if self.counts is None or self.layout != "by_class":
            yield from range(self.num_shards)
            return
        num_classes = len(self.counts)
        rounds = -(-max(self.counts, default=0) // self.shard_size)
        for round_ in range(rounds):
            for label, count in enumerate(self.counts):
                if count > round_ * self.shard_size:
                    yield round_ * num_classes + label

    def quota(self, shard: int) -> int:
        """Images that the shard must hold; 0 if the plan has no such shard."""
        quotas = self.quotas(shard)
        if quotas is not None:
            return sum(quotas)
        return min(max(self.total - shard * self.shard_size, 0), self.shard_size)

    @property
    def largest_quota(self) -> int:
        """Images of a shard that can grow no more."""
        if self.layout == "pool" and self.counts is not None:
            return self.share * len(self.class_names)
        return self.shard_size

    def quotas(self, shard: int) -> tuple[int, ...] | None:
        """Images of each class that the shard must hold; None: whatever comes."""
        if self.counts is None:
            return None
        num_classes, size = len(self.counts), self.shard_size
        match self.layout:
            case "interleaved":
                start, end = (min(g * size, self.num_images) for g in (shard, shard + 1))
                return tuple(
                    _turns(end, label, num_classes) - _turns(start, label, num_classes)
                    for label in range(num_classes)
                )
            case "by_class":
                round_, own = divmod(shard, num_classes)
                left = min(max(self.counts[own] - round_ * size, 0), size)
                return tuple(left if label == own else 0 for label in range(num_classes))
            case "pool":
                share = self.share
                return tuple(min(max(n - shard * share, 0), share) for n in self.counts)

    def candidate(self, shard: int, index: int) -> Candidate:
        """Candidate `index` of a shard."""
        # A reconstruction's candidates are numbered source image by source image.
        slot = index // REDRAWS if self.reconstructs else index
        place, num_classes = shard * self.shard_size + slot, len(self.class_names)
        match self.layout:
            case "interleaved":
                turn, label = divmod(place, num_classes)
            case "by_class":
                round_, label = divmod(shard, num_classes)
                turn = round_ * self.shard_size + slot
            case "pool":
                turn, label = place, None
        class_name = None if label is None else self.class_names[label]
        return Candidate(
            key=f"{'image' if class_name is None else slug(class_name)}-{shard:05d}-{index:06d}",
            shard=shard,
            index=index,
            label=label,
            class_name=class_name,
            turn=turn,
            seed=hash_seed(self.seed, self.name, class_name or "", shard, index),
        )

    def batch(self, shard: int, number: int) -> tuple[Candidate, ...]:
        """Candidate batch `number` of a shard, always full."""
        size = self.batch_size
        if not self.reconstructs:
            return tuple(self.candidate(shard, number * size + i) for i in range(size))
        # The same source images again for each redraw.
        group, redraw = divmod(number, REDRAWS)
        return tuple(
            self.candidate(shard, (group * size + i) * REDRAWS + redraw) for i in range(size)
        )

    def batch_of(self, index: int) -> int:
        """Number of the batch that holds candidate `index` of a shard."""
        if not self.reconstructs:
            return index // self.batch_size
        slot, redraw = divmod(index, REDRAWS)
        return slot // self.batch_size * REDRAWS + redraw

    def batches(self, shard: int, num_candidates: int) -> range:
        """Batches that drew most of a shard that took `num_candidates`; all of them, but for the
        redraws of reconstructions."""
        if not self.reconstructs:
            return range(-(-num_candidates // self.batch_size))
        groups = -(-self.quota(shard) // self.batch_size)
        return range(0, groups * REDRAWS, REDRAWS)

    @property
    def share(self) -> int:
        """Images of each class that a whole shard of a pool takes."""
        return self.shard_size // len(self.class_names)


def _turns(end: int, label: int, num_classes: int) -> int:
    """How many of the places 0 to `end` - 1 have class `label`."""
    return -(-(end - label) // num_classes) if end > label else 0


def make_plan(
    spec: GenerateSpec,
    class_names: tuple[str, ...],
    *,
    layout: Layout,
    source_counts: Mapping[str, int] | None = None,
) -> Plan:
    """The plan of a spec whose open questions were answered.

    Args:
        spec: what is asked.
        class_names: the dataset's classes in label order.
        layout: of the shards.
        source_counts: of a reconstruction, images of each class in its source.

    Raises:
        SpecError: if a table of counts names an unknown class, or a shard of a pool is too small
            for the classes.
    """
    total = DEFAULT_NUM_IMAGES if spec.num_images is None else spec.num_images
    if layout == "pool" and spec.shard_size < len(class_names):
        raise SpecError(
            f"shard_size: is {spec.shard_size}, but each shard of a pool takes images of all "
            f"{len(class_names)} classes; give that many or more"
        )
    if spec.reconstruct is not None:
        assert source_counts is not None
        counts = tuple(spec.reconstruct.passes * source_counts[name] for name in class_names)
    else:
        counts = None if spec.labels == "as_found" else class_counts(spec, class_names)
    return Plan(
        name=spec.name,
        class_names=class_names,
        counts=counts,
        layout=layout,
        shard_size=spec.shard_size,
        batch_size=spec.batch_size,
        seed=spec.seed,
        total=total if counts is None else 0,
        reconstructs=spec.reconstruct is not None,
    )


def slug(class_name: str) -> str:
    """`class_name` in lower-case ASCII letters, digits and '-', for keys; at most 40 characters.

    Not unique and not meant to be: a key is unique by its shard and candidate.
    """
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in class_name.lower())
    return "-".join(part for part in plain.split("-") if part)[:40] or "class"


def parse_key(key: str) -> tuple[int, int]:
    """Shard and candidate of a key.

    Raises:
        SpecError: if the text is no key.
    """
    parts = key.rsplit("-", 2)
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise SpecError(f"{key!r}: is no key; keys look like sneaker-00012-000037")
    return int(parts[1]), int(parts[2])


def class_counts(spec: GenerateSpec, class_names: tuple[str, ...]) -> tuple[int, ...]:
    """Accepted images asked of each class, in the order of `class_names`.

    `num_images` (1,000 if nothing is asked) goes evenly over the classes, the first ones taking
    the remainder.

    Raises:
        SpecError: if the table of counts names a class that is not in `class_names`.
    """
    asked = spec.images_per_class
    if isinstance(asked, dict):
        unknown = sorted(asked.keys() - set(class_names))
        if unknown:
            raise SpecError(
                f"images_per_class: {unknown} are no classes of this dataset; "
                f"its classes are {list(class_names)}"
            )
        return tuple(asked.get(name, 0) for name in class_names)
    if asked is not None:
        return (asked,) * len(class_names)
    total = DEFAULT_NUM_IMAGES if spec.num_images is None else spec.num_images
    share, rest = divmod(total, len(class_names))
    return tuple(share + (label < rest) for label in range(len(class_names)))


DEFAULT_NUM_IMAGES = 1_000
"""Images made when a spec asks for no count."""
