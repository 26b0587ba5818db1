import re

import numpy as np
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from pydantic import TypeAdapter

from factory.sources.mix import Mixed, mix_sources, synthetic_needed
from factory.sources.source import Source
from factory.spec import Mix, SpecError

NAMES = ("zebra", "ant", "cow")
PLENTY = dict.fromkeys(NAMES, 60)


def made(counts, *, seed=0, name="made"):
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    labels = np.random.default_rng(seed).permutation(labels)
    return Source(name, "train", np.zeros((len(labels), 1, 1, 1), np.uint8), labels, tuple(counts))


def mix_of(kind, **fields):
    return TypeAdapter(Mix).validate_python({"kind": kind, **fields})


def mix(asked, counts, *, synthetic=PLENTY, seed=0):
    synthetic = None if synthetic is None else made(synthetic, seed=1, name="drawn")
    return mix_sources(asked, made(counts), synthetic, seed=seed)


def places(source, indices, name):
    """Where among its class's images each chosen image of a class stands."""
    own = np.flatnonzero(source.labels == source.class_names.index(name))
    return np.searchsorted(own, indices[np.isin(indices, own)]).tolist()


COUNTS = st.tuples(*[st.integers(1, 30)] * 3).map(lambda n: dict(zip(NAMES, n, strict=True)))
FRACTIONS = st.floats(0, 1)
MIXES = st.one_of(
    st.just(mix_of("real")),
    st.just(mix_of("fill")),
    st.just(mix_of("oversample")),
    st.builds(lambda n: mix_of("fill", images_per_class=n), st.integers(30, 60)),
    st.builds(lambda n: mix_of("oversample", images_per_class=n), st.integers(30, 95)),
    st.builds(lambda n: mix_of("add", images_per_class=n), st.integers(0, 60)),
    st.builds(
        lambda table: mix_of("add", images_per_class=table),
        st.dictionaries(st.sampled_from(NAMES), st.integers(0, 60)),
    ),
    st.builds(lambda f: mix_of("replace", fraction=f), FRACTIONS),
    st.builds(lambda f: mix_of("keep", fraction=f), FRACTIONS),
    st.builds(lambda f: mix_of("ratio", synthetic_ratio=f), FRACTIONS),
    st.builds(
        lambda f, n: mix_of("ratio", synthetic_ratio=f, num_images=n), FRACTIONS, st.integers(1, 60)
    ),
    st.builds(
        lambda m, real: mix_of("multiplier", multiplier=m, with_real=real),
        st.floats(0.01, 2),
        st.booleans(),
    ),
)


def mix_if_possible(asked, counts, **options) -> Mixed:
    try:
        return mix(asked, counts, **options)
    except SpecError:
        reject()


@given(MIXES, COUNTS)
def test_any_mix_holds_what_its_counts_say(asked, counts):
    mixed = mix_if_possible(asked, counts)
    real, synthetic = made(counts), made(PLENTY, seed=1)
    assert real.take(mixed.real).class_counts == mixed.real_counts
    assert synthetic.take(mixed.synthetic).class_counts == mixed.synthetic_counts
    assert mixed.synthetic_counts == synthetic_needed(asked, counts)
    assert len(mixed) == sum(mixed.real_counts.values()) + sum(mixed.synthetic_counts.values())
    assert all(mixed.real_counts[name] + mixed.synthetic_counts[name] for name in NAMES)


@given(MIXES, COUNTS)
def test_any_mix_but_oversample_takes_no_image_twice(asked, counts):
    assume(asked.kind != "oversample")
    mixed = mix_if_possible(asked, counts)
    assert len(set(mixed.real.tolist())) == len(mixed.real)
    assert len(set(mixed.synthetic.tolist())) == len(mixed.synthetic)


@given(MIXES, COUNTS, st.integers(0, 2**40))
def test_any_mix_is_the_same_twice(asked, counts, seed):
    first, second = (mix_if_possible(asked, counts, seed=seed) for _ in range(2))
    assert np.array_equal(first.real, second.real)
    assert np.array_equal(first.synthetic, second.synthetic)


LONG_TAIL = {"zebra": 10, "ant": 5, "cow": 1}


@pytest.mark.parametrize(
    ("kind", "fields", "real", "synthetic"),
    [
        ("real", {}, (10, 5, 1), (0, 0, 0)),
        ("add", {"images_per_class": 7}, (10, 5, 1), (7, 7, 7)),
        ("add", {"images_per_class": {"cow": 9}}, (10, 5, 1), (0, 0, 9)),
        ("fill", {}, (10, 5, 1), (0, 5, 9)),
        ("fill", {"images_per_class": 12}, (10, 5, 1), (2, 7, 11)),
        ("oversample", {}, (10, 10, 10), (0, 0, 0)),
        ("oversample", {"images_per_class": 12}, (12, 12, 12), (0, 0, 0)),
        # 2.5 and 0.5 images: halves go to even.
        ("replace", {"fraction": 0.5}, (5, 3, 1), (5, 2, 0)),
        ("keep", {"fraction": 0.5}, (5, 3, 1), (0, 0, 0)),
        ("ratio", {"synthetic_ratio": 0.5}, (5, 3, 1), (5, 2, 0)),
        ("ratio", {"synthetic_ratio": 1}, (0, 0, 0), (10, 5, 1)),
        # 8 of 10 : 5 : 1 is 5, 2.5 and 0.5: the first of equal remainders gets the last image.
        ("ratio", {"synthetic_ratio": 1, "num_images": 8}, (0, 0, 0), (5, 3, 0)),
        ("ratio", {"synthetic_ratio": 0.25, "num_images": 11}, (5, 2, 1), (2, 1, 0)),
        ("multiplier", {"multiplier": 1.5}, (10, 5, 1), (15, 8, 2)),
        ("multiplier", {"multiplier": 2, "with_real": False}, (0, 0, 0), (20, 10, 2)),
    ],
)
def test_mix_of_a_long_tail_has_these_counts(kind, fields, real, synthetic):
    asked = mix_of(kind, **fields)
    assert tuple(synthetic_needed(asked, LONG_TAIL).values()) == synthetic
    # A mix that leaves a class empty has counts, but is refused.
    if all(r or s for r, s in zip(real, synthetic, strict=True)):
        assert tuple(mix(asked, LONG_TAIL).real_counts.values()) == real


@given(COUNTS, FRACTIONS, st.integers(1, 200))
def test_ratio_has_the_asked_total_in_the_proportions_of_the_real_source(counts, ratio, total):
    # The synthetic images of ratio 1 are all there are.
    asked = mix_of("ratio", synthetic_ratio=1, num_images=total)
    shares = synthetic_needed(asked, counts)
    assert sum(shares.values()) == total
    for name, n in counts.items():
        assert abs(shares[name] - total * n / sum(counts.values())) < 1
    part = synthetic_needed(mix_of("ratio", synthetic_ratio=ratio, num_images=total), counts)
    assert part == {name: round(ratio * n) for name, n in shares.items()}


@given(COUNTS, FRACTIONS)
def test_keep_is_the_real_part_of_replace_and_ratio_is_replace(counts, fraction):
    replaced = mix_if_possible(mix_of("replace", fraction=fraction), counts)
    ratio = mix(mix_of("ratio", synthetic_ratio=fraction), counts)
    assert np.array_equal(ratio.real, replaced.real)
    assert np.array_equal(ratio.synthetic, replaced.synthetic)
    kept = mix_if_possible(mix_of("keep", fraction=fraction), counts, synthetic=None)
    assert np.array_equal(kept.real, replaced.real)
    assert len(kept.synthetic) == 0


@given(COUNTS)
def test_ratio_without_synthetic_images_is_every_real_one(counts):
    mixed = mix(mix_of("ratio", synthetic_ratio=0), counts, synthetic=None)
    assert mixed.real.tolist() == list(range(sum(counts.values())))


@given(COUNTS, FRACTIONS, FRACTIONS, st.sampled_from(["replace", "keep", "ratio"]))
def test_real_part_beside_more_synthetic_images_lies_within_that_beside_fewer(counts, a, b, kind):
    field = "synthetic_ratio" if kind == "ratio" else "fraction"
    few, many = (
        mix_if_possible(mix_of(kind, **{field: share}), counts) for share in sorted([a, b])
    )
    assert set(many.real.tolist()) <= set(few.real.tolist())
    assert set(few.synthetic.tolist()) <= set(many.synthetic.tolist())


@given(COUNTS, st.floats(0.01, 2), st.floats(0.01, 2))
def test_larger_multiplier_keeps_the_synthetic_images_of_a_smaller_one(counts, a, b):
    few, many = (mix(mix_of("multiplier", multiplier=m), counts) for m in sorted([a, b]))
    assert set(few.synthetic.tolist()) <= set(many.synthetic.tolist())
    assert np.array_equal(few.real, many.real)


@given(COUNTS, st.integers(0, 60), st.integers(0, 60))
def test_larger_add_keeps_the_synthetic_images_of_a_smaller_one(counts, a, b):
    few, many = (mix(mix_of("add", images_per_class=n), counts) for n in sorted([a, b]))
    assert set(few.synthetic.tolist()) <= set(many.synthetic.tolist())


@given(COUNTS, st.integers(0, 20))
def test_synthetic_images_are_the_first_of_each_class(counts, added):
    mixed = mix(mix_of("add", images_per_class=added), counts)
    for name in NAMES:
        assert places(made(PLENTY, seed=1), mixed.synthetic, name) == list(range(added))


@given(COUNTS, FRACTIONS)
def test_another_class_moves_no_image_of_the_others(counts, fraction):
    asked = mix_of("replace", fraction=fraction)
    more = {"bee": 17, **counts}
    before = mix_if_possible(asked, counts)
    after = mix_if_possible(asked, more, synthetic={"bee": 60, **PLENTY})
    for name in NAMES:
        assert places(made(more), after.real, name) == places(made(counts), before.real, name)


@given(COUNTS, FRACTIONS, st.integers(60, 90))
def test_a_larger_synthetic_source_changes_nothing(counts, fraction, size):
    asked = mix_of("replace", fraction=fraction)
    small = mix_if_possible(asked, counts)
    # The same images, and more after them.
    root = made(PLENTY, seed=1)
    labels = np.concatenate([root.labels, np.repeat(np.arange(3), size - 60)])
    grown = Source("drawn", "train", np.zeros((len(labels), 1, 1, 1), np.uint8), labels, NAMES)
    large = mix_sources(asked, made(counts), grown, seed=0)
    assert np.array_equal(small.real, large.real)
    assert np.array_equal(small.synthetic, large.synthetic)


@given(COUNTS, st.integers(30, 95))
def test_oversample_repeats_every_image_about_as_often(counts, level):
    mixed = mix(mix_of("oversample", images_per_class=level), counts, synthetic=None)
    times = np.bincount(mixed.real, minlength=sum(counts.values()))
    for label, n in enumerate(counts.values()):
        own = times[made(counts).labels == label]
        assert set(own.tolist()) <= {level // n, -(-level // n)}


def test_real_images_are_drawn_with_the_seed():
    counts = dict.fromkeys(NAMES, 50)
    a, b = (mix(mix_of("keep", fraction=0.5), counts, seed=seed) for seed in (0, 1))
    # Two independent halves of 150 images share 37.5, with a standard deviation of 3.
    assert 22 < len(set(a.real.tolist()) & set(b.real.tolist())) < 53


def refusal(asked, counts=LONG_TAIL, **options):
    with pytest.raises(SpecError) as refused:
        mix_sources(asked, made(counts), options.pop("synthetic", None), seed=0, **options)
    return str(refused.value)


def test_too_few_synthetic_images_are_counted_with_the_command_that_makes_them():
    asked = mix_of("add", images_per_class=7)
    drawn = made({"zebra": 9, "ant": 2, "cow": 0}, name="drawn")
    message = refusal(asked, synthetic=drawn, make_with="python jobs/generate.py")
    assert message.startswith("drawn: 12 synthetic images are missing, 5 of ant, 7 of cow;")
    assert message.endswith("python jobs/generate.py")
    without = refusal(mix_of("fill"))
    assert "14 synthetic images are missing, 5 of ant, 9 of cow" in without


def test_too_few_real_images_are_refused_naming_the_classes():
    message = refusal(mix_of("ratio", synthetic_ratio=0, num_images=32))
    assert "20 of zebra (there are 10), 10 of ant (there are 5), 2 of cow (there are 1)" in message


@pytest.mark.parametrize("kind", ["fill", "oversample"])
def test_classes_above_the_asked_level_are_refused(kind):
    message = refusal(mix_of(kind, images_per_class=4))
    assert "is 4, but there are 10 of zebra, 5 of ant already; give 10 or more" in message


@pytest.mark.parametrize(
    ("asked", "counts", "empty"),
    [
        (mix_of("keep", fraction=1), LONG_TAIL, list(NAMES)),
        (mix_of("keep", fraction=0.6), LONG_TAIL, ["cow"]),
        (mix_of("multiplier", multiplier=0.1, with_real=False), LONG_TAIL, ["ant", "cow"]),
        (mix_of("real"), {"zebra": 2, "ant": 0, "cow": 1}, ["ant"]),
        (mix_of("oversample"), {"zebra": 2, "ant": 0, "cow": 1}, ["ant"]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_classes_without_an_image_are_refused(asked, counts, empty):
    assert re.search(re.escape(f"holds no image of {empty};"), refusal(asked, counts))


def test_unknown_classes_are_refused():
    asked = mix_of("add", images_per_class={"cow": 1, "yak": 2, "gnu": 3})
    assert "['gnu', 'yak'] are no classes" in refusal(asked)
    with pytest.raises(SpecError, match="yak"):
        synthetic_needed(asked, LONG_TAIL)
