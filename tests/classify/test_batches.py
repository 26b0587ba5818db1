"""Batches are functions of the step: nothing lost, nothing doubled, any worker's share."""

import itertools
from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.classify.arms import Part
from factory.classify.batches import BatchStream, Order

CPU = torch.device("cpu")


def numbered(count, *, label=0, first=0):
    """Images whose one pixel is their number."""
    images = (np.arange(count, dtype=np.uint8) + first).reshape(count, 1, 1, 1)
    return Part(images, np.full(count, label, dtype=np.int64))


def numbers(images):
    return ((images + 1) * 127.5).round().int().flatten().tolist()


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 5))
def test_every_epoch_holds_every_place_once(num_images, count, seed):
    order = Order(num_images, seed=seed)
    row = [order.take(start, count) for start in range(0, 3 * num_images * count, count)]
    row = np.concatenate(row)[: 3 * num_images].reshape(3, num_images)
    assert (np.sort(row, axis=1) == np.arange(num_images)).all()


@given(st.integers(0, 100), st.integers(1, 30))
def test_a_place_does_not_depend_on_what_was_asked_before(start, count):
    whole = Order(13, seed=1).take(0, start + count)
    assert (Order(13, seed=1).take(start, count) == whole[start:]).all()


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = Order(50, seed=0).take(0, 100).reshape(2, 50)
    assert (first != second).any()
    assert (first != Order(50, seed=1).take(0, 50)).any()


def test_paired_batches_hold_as_many_of_each_part():
    parts = [numbered(10, label=0), numbered(25, label=1, first=100)]
    stream = BatchStream(parts, sizes=(4, 4), seed=0, device=CPU)
    for step in range(8):
        images, labels = stream.batch(step)
        assert labels.tolist() == [0] * 4 + [1] * 4
        assert [number >= 100 for number in numbers(images)] == [False] * 4 + [True] * 4


def test_a_share_of_every_step_is_of_the_second_part_and_each_goes_round_by_itself():
    parts = [numbered(10), numbered(7, first=100)]
    stream = BatchStream(parts, sizes=(5, 2), seed=0, device=CPU)
    steps = [numbers(stream.batch(step)[0]) for step in range(14)]
    assert all([n >= 100 for n in step] == [False] * 5 + [True] * 2 for step in steps)
    seen = Counter(itertools.chain(*steps))
    assert {n: seen[n] for n in range(10)} == dict.fromkeys(range(10), 7)
    assert {n: seen[n] for n in range(100, 107)} == dict.fromkeys(range(100, 107), 4)


def test_adding_a_part_leaves_the_order_of_the_other():
    alone = BatchStream([numbered(10)], sizes=[4], seed=0, device=CPU)
    paired = BatchStream([numbered(10), numbered(9)], sizes=(4, 3), seed=0, device=CPU)
    for step in range(5):
        assert numbers(alone.batch(step)[0]) == numbers(paired.batch(step)[0][:4])


def test_shares_of_all_workers_make_the_batch():
    def stream():
        return BatchStream(
            [numbered(30), numbered(30, label=1, first=100)], sizes=(6, 3), seed=0, device=CPU
        )

    for step in range(7):
        whole = numbers(stream().batch(step)[0])
        places = [stream().share(rank, 3).tolist() for rank in range(3)]
        shares = [[whole[place] for place in own] for own in places]
        assert sorted(itertools.chain(*shares)) == sorted(whole)
        assert [[n >= 100 for n in share] for share in shares] == [[False] * 2 + [True]] * 3


def test_images_are_scaled_to_plus_minus_one_and_channels_last():
    images = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=3)
    part = Part(images, np.zeros(2, dtype=np.int64))
    batch, _ = BatchStream([part], sizes=[2], seed=0, device=CPU).batch(0)
    assert sorted(batch[:, 0].flatten().tolist()) == [-1.0, 1.0]
    assert batch.shape == (2, 3, 1, 1)
    assert batch.is_contiguous(memory_format=torch.channels_last)
