from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.plan import REDRAWS, Plan, class_counts, parse_key, slug
from factory.spec import GenerateSpec, SpecError

NAMES = ("a", "b", "c")


def make_plan(counts, layout, shard_size=7, batch_size=4):
    return Plan("s", NAMES, tuple(counts), layout, shard_size, batch_size, seed=0)


def balanced(total):
    return class_counts(GenerateSpec(num_images=total), NAMES)


def accepted(plan):
    """Every image of an unfiltered plan: the first candidates of each shard."""
    return [plan.candidate(s, i) for s in plan.shards() for i in range(plan.quota(s))]


sizes = st.integers(0, 60)


@given(sizes, st.integers(1, 9))
def test_interleaved_plan_gives_exact_counts(total, shard_size):
    plan = make_plan(balanced(total), "interleaved", shard_size)
    counts = Counter(c.label for c in accepted(plan))
    assert tuple(counts[label] for label in range(3)) == plan.counts
    assert len(list(plan.shards())) == plan.num_shards


@given(st.tuples(sizes, sizes, sizes), st.integers(1, 9))
def test_by_class_plan_gives_exact_counts_and_one_class_a_shard(counts, shard_size):
    plan = make_plan(counts, "by_class", shard_size)
    images = accepted(plan)
    found = Counter(c.label for c in images)
    assert tuple(found[label] for label in range(3)) == counts
    assert all(len({c.label for c in images if c.shard == s}) == 1 for s in plan.shards())
    assert len(list(plan.shards())) == plan.num_shards
    assert plan.num_images == sum(counts)


@given(sizes, sizes, st.sampled_from(["interleaved", "by_class"]))
def test_a_larger_count_keeps_every_image_of_a_smaller_one(one, two, layout):
    small, large = sorted((one, two))
    few, many = (make_plan(balanced(n), layout) for n in (small, large))
    assert set(accepted(few)) <= set(accepted(many))
    assert all(few.quota(s) <= many.quota(s) for s in few.shards())


@given(st.integers(1, 60), st.sampled_from(["interleaved", "by_class"]))
def test_keys_and_seeds_are_unique(total, layout):
    images = accepted(make_plan(balanced(total), layout))
    assert len({c.key for c in images}) == len({c.seed for c in images}) == len(images)


@given(st.integers(0, 99), st.integers(0, 999))
def test_parse_key_returns_shard_and_candidate(shard, index):
    plan = make_plan((1, 1, 1), "by_class")
    assert parse_key(plan.candidate(shard, index).key) == (shard, index)


def test_batches_are_full_and_cover_the_candidates_in_order():
    plan = make_plan((30, 30, 30), "interleaved")
    indices = [c.index for number in range(3) for c in plan.batch(5, number)]
    assert indices == list(range(12))


def test_seeds_depend_on_the_class_name_and_not_on_its_place():
    one = Plan("s", ("a", "b"), (9, 9), "by_class", 7, 4, seed=0)
    other = Plan("s", ("z", "b"), (9, 9), "by_class", 7, 4, seed=0)
    assert one.candidate(1, 3).seed == other.candidate(1, 3).seed
    assert one.candidate(0, 3).seed != other.candidate(0, 3).seed


@pytest.mark.parametrize(
    ("name", "expected"),
    [("T-shirt/top", "t-shirt-top"), ("crane, the bird", "crane-the-bird"), ("猫", "class")],
)
def test_slug_keeps_only_what_a_key_may_hold(name, expected):
    assert slug(name) == expected


@pytest.mark.parametrize("key", ["", "cat", "cat-1-x", "12-13"])
def test_parse_key_refuses_what_is_no_key(key):
    with pytest.raises(SpecError, match="is no key"):
        parse_key(key)


def test_class_counts_names_an_unknown_class():
    with pytest.raises(SpecError, match=r"\['z'\].*'a', 'b', 'c'"):
        class_counts(GenerateSpec(images_per_class={"z": 1, "a": 2}), NAMES)


@given(st.tuples(sizes, sizes, sizes), st.integers(3, 12))
def test_pool_gives_exact_counts_in_shards_that_only_grow(counts, shard_size):
    plan = make_plan(counts, "pool", shard_size)
    quotas = [plan.quotas(s) for s in plan.shards()]
    assert tuple(sum(q[label] for q in quotas) for label in range(3)) == counts
    assert all(0 < sum(q) <= shard_size for q in quotas)
    more = make_plan([n + 5 for n in counts], "pool", shard_size)
    assert all(
        few <= many
        for s in plan.shards()
        for few, many in zip(plan.quotas(s), more.quotas(s), strict=True)
    )


@given(sizes, st.sampled_from(["interleaved", "by_class"]), st.integers(1, 9))
def test_quotas_of_classes_are_those_of_the_candidates(total, layout, shard_size):
    plan = make_plan(balanced(total), layout, shard_size)
    for shard in plan.shards():
        found = Counter(plan.candidate(shard, i).label for i in range(plan.quota(shard)))
        assert plan.quotas(shard) == tuple(found[label] for label in range(3))


@given(st.integers(0, 9), st.integers(0, 500))
def test_redraws_of_a_source_image_keep_its_turn_and_its_batch(shard, number):
    plan = replace(make_plan((30, 30, 30), "by_class"), reconstructs=True)
    batch = plan.batch(shard, number)
    assert {plan.batch_of(candidate.index) for candidate in batch} == {number}
    again = plan.batch(shard, number + 1) if (number + 1) % REDRAWS else batch
    assert [c.turn for c in batch] == [c.turn for c in again]


def test_reconstructions_go_through_a_class_in_order():
    plan = replace(make_plan((20, 0, 20), "by_class"), reconstructs=True)
    first = [
        candidate
        for shard in plan.shards()
        for number in plan.batches(shard, 0)
        for candidate in plan.batch(shard, number)
        if candidate.index // REDRAWS < plan.quota(shard)
    ]
    for name in "a", "c":
        assert [c.turn for c in first if c.class_name == name] == list(range(20))
    assert len({c.key for c in first}) == len({c.seed for c in first}) == 40


def test_golden_seed_and_key():
    """A plan is a format: this fails when a change would make other images of old specs."""
    candidate = Plan("synthetic", ("Sneaker",), (1,), "interleaved", 250, 50, seed=0).candidate(
        12, 37
    )
    assert candidate.key == "sneaker-00012-000037"
    assert candidate.seed == 5549889814197781124
