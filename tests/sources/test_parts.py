"""Parts are exact, repeatable and disjoint where they must be; names decide labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.sources.open import open_source
from factory.sources.parts import (
    align,
    balanced_part,
    half_of,
    hold_out,
    long_tail_counts,
    long_tailed,
    take_part,
)
from factory.sources.source import Source
from factory.spec import LongTail, SourceSpec, SpecError
from tests.sources.pictures import CLASS_NAMES, in_memory, write_parquet

COUNTS = st.lists(st.integers(2, 30), min_size=2, max_size=3)


def contents(source):
    """Each image with its class name; images of `in_memory` are all different."""
    names = (source.class_names[label] for label in source.labels)
    return set(zip((image.tobytes() for image in source.images), names, strict=True))


def named(counts):
    return in_memory(counts, names=CLASS_NAMES[: len(counts)])


def test_part_is_balanced_repeatable_and_within_a_larger_one():
    source = in_memory([20, 30, 25])
    small, large = (balanced_part(source, count, seed=3) for count in (12, 31))
    assert list(small.class_counts.values()) == [4, 4, 4]
    assert list(large.class_counts.values()) == [11, 10, 10]
    assert small.digest == balanced_part(source, 12, seed=3).digest
    assert small.digest != balanced_part(source, 12, seed=4).digest
    assert {i.tobytes() for i in small.images} < {i.tobytes() for i in large.images}


def test_part_of_a_class_does_not_depend_on_other_classes():
    source = in_memory([20, 30, 25])
    without_first = np.flatnonzero(source.labels != 0)
    smaller = Source(
        "made",
        "train",
        source.images[without_first],
        source.labels[without_first] - 1,
        CLASS_NAMES[1:],
    )
    some = balanced_part(source, 15, seed=0)
    assert np.array_equal(some.images[some.labels != 0], balanced_part(smaller, 10, seed=0).images)


def test_part_of_too_small_classes_is_refused_with_their_counts():
    with pytest.raises(SpecError, match=r"5 of zebra, 3 of cow"):
        balanced_part(in_memory([5, 30, 3]), 24, seed=0)


def test_held_out_part_is_balanced_and_disjoint_from_the_rest():
    source = in_memory([40, 20, 60])
    rest, held = hold_out(source, 0.1, seed=0)
    assert list(held.class_counts.values()) == [4, 4, 4]
    both = {i.tobytes() for i in rest.images} | {i.tobytes() for i in held.images}
    assert len(rest) + len(held) == len(both) == len(source)


def test_holding_out_more_than_the_smallest_class_is_refused():
    with pytest.raises(SpecError, match="smallest class has 3"):
        hold_out(in_memory([90, 90, 3]), 0.1, seed=0)


@given(COUNTS, st.integers(0, 9))
def test_halves_are_disjoint_even_and_together_everything(counts, seed):
    source = named(counts)
    halves = [half_of(source, which, seed=seed) for which in ("first", "second")]
    sizes = np.array([list(half.class_counts.values()) for half in halves])
    assert sizes.sum(axis=0).tolist() == counts
    assert set((sizes[0] - sizes[1]).tolist()) <= {0, 1}
    assert contents(halves[0]) | contents(halves[1]) == contents(source)
    assert not contents(halves[0]) & contents(halves[1])


def test_halves_differ_with_the_seed():
    source = named([20, 20])
    first, other = (half_of(source, "first", seed=seed) for seed in (0, 1))
    assert first.digest == half_of(source, "first", seed=0).digest
    assert contents(first) != contents(other)


def test_half_that_would_empty_a_class_is_refused_naming_each():
    with pytest.raises(SpecError, match=r"second half .* of zebra \(has 1\), cow \(has 1\)"):
        half_of(named([1, 9, 1]), "second", seed=0)


def test_long_tail_of_ten_even_classes_is_that_of_the_equation():
    even = dict.fromkeys("abcdefghij", 5000)
    rounded = long_tail_counts(even, LongTail(factor=0.1))
    assert list(rounded) == list(even)
    assert list(rounded.values()) == [5000, 3871, 2997, 2321, 1797, 1391, 1077, 834, 646, 500]
    truncated = long_tail_counts(even, LongTail(factor=0.1, rounding="truncate"))
    assert sum(truncated.values()) == 20_431


def test_long_tail_rounds_halves_to_even_and_loses_no_image_to_floating_point():
    half = LongTail(factor=0.5)
    assert [long_tail_counts({"a": 9, "b": n}, half)["b"] for n in (5, 7)] == [2, 4]
    thousands = dict.fromkeys("abcd", 1000)
    exact = long_tail_counts(thousands, LongTail(factor=0.001, rounding="truncate"))
    assert list(exact.values()) == [1000, 100, 10, 1]


def test_long_tail_of_a_smaller_factor_lies_within_that_of_a_larger_one():
    source = in_memory([40, 30, 50])
    small, large = (long_tailed(source, LongTail(factor=factor), seed=5) for factor in (0.1, 0.4))
    assert small.class_counts == long_tail_counts(source.class_counts, LongTail(factor=0.1))
    assert contents(small) < contents(large) < contents(source)


def test_long_tail_that_would_empty_a_class_is_refused_naming_it():
    with pytest.raises(SpecError, match=r"factor 0\.01 .* of cow \(has 30\)"):
        long_tailed(in_memory([30, 30, 30]), LongTail(factor=0.01), seed=0)


def test_parts_are_taken_in_order_half_then_balanced_then_long_tail():
    source = in_memory([40, 48, 40])
    spec = SourceSpec(half="second", long_tail=LongTail(factor=0.25), num_images=48, seed=2)
    part = balanced_part(half_of(source, "second", seed=2), 48, seed=2)
    tail = long_tailed(part, LongTail(factor=0.25), seed=2)
    assert list(tail.class_counts.values()) == [16, 8, 4]
    assert take_part(source, spec).digest == tail.digest


def test_opened_part_is_the_part_of_the_opened_whole(tmp_path):
    source = in_memory([20, 20, 20])
    path = str(write_parquet(tmp_path / "train.parquet", source.images, source.labels))
    spec = SourceSpec(path=path, half="first", long_tail=LongTail(factor=0.5), seed=4)
    whole = open_source(SourceSpec(path=path))
    assert open_source(spec).digest == take_part(whole, spec).digest


@given(st.permutations(CLASS_NAMES))
def test_aligned_source_has_the_same_images_under_the_same_names(names):
    source = in_memory([4, 2, 3])
    aligned = align(source, names)
    assert aligned.class_names == tuple(names)
    assert contents(aligned) == contents(source)
    assert np.array_equal(aligned.images, source.images)
    assert align(aligned, CLASS_NAMES).digest == source.digest


def test_source_of_other_classes_is_refused_naming_missing_and_extra_ones():
    with pytest.raises(SpecError) as error:
        align(in_memory([4, 2, 3]), ("ant", "bee", "cow"))
    assert all(part in str(error.value) for part in ["made", "missing ['bee']", "['zebra']"])
