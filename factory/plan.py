"""What is to do: the shards of a resolved spec, each a function of the spec and its number."""

from collections.abc import Iterator
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
    label: int
    """Index into the dataset's class names."""
    seed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards that give every class its count.

    Interleaved: image g of the dataset (shard g // shard_size) has class g mod K.
    By class: shard s holds class s mod K only, and is the (s // K)-th shard of that class.
    Either way a larger count only lengthens the last shards or appends new ones.
    """

    name: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    """Accepted images of each class."""
    layout: Literal["interleaved", "by_class"]
    shard_size: int
    batch_size: int
    seed: int

    @property
    def num_images(self) -> int:
        """Accepted images in all."""
        return sum(self.counts)

    @property
    def num_shards(self) -> int:
        """Shards that hold at least one image."""
        if self.layout == "interleaved":
            return -(-self.num_images // self.shard_size)
        return sum(-(-count // self.shard_size) for count in self.counts)

    def shards(self) -> Iterator[int]:
        """Numbers of the shards, rising; those of `by_class` may have gaps."""
        if self.layout == "interleaved":
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
        if self.layout == "interleaved":
            left = self.num_images - shard * self.shard_size
        else:
            round_, label = divmod(shard, len(self.counts))
            left = self.counts[label] - round_ * self.shard_size
        return min(max(left, 0), self.shard_size)

    def candidate(self, shard: int, index: int) -> Candidate:
        """Candidate `index` of a shard."""
        num_classes = len(self.class_names)
        if self.layout == "interleaved":
            label = (shard * self.shard_size + index) % num_classes
        else:
            label = shard % num_classes
        class_name = self.class_names[label]
        return Candidate(
            key=f"{slug(class_name)}-{shard:05d}-{index:06d}",
            shard=shard,
            index=index,
            label=label,
            seed=hash_seed(self.seed, self.name, class_name, shard, index),
        )

    def batch(self, shard: int, number: int) -> tuple[Candidate, ...]:
        """Candidate batch `number` of a shard, always full."""
        start = number * self.batch_size
        return tuple(self.candidate(shard, start + i) for i in range(self.batch_size))


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
