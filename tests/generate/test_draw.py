"""Batches that the device has no memory for, on an exact fake of one."""

import numpy as np
import pytest
import torch

from factory.diffusion.sampler import Drawn
from factory.generate.draw import BatchTooLarge, draw_batch
from factory.generate.prepare import open_root, prepare
from factory.generate.shard import MakeShard
from factory.records import Device
from factory.resolve import resolve
from tests.datasets import small_spec


class SmallDevice:
    """A device with memory for a number of images, which a call gives back when it is freed."""

    device = Device(kind="GPU A", versions={})

    def __init__(self, num_images):
        self._num_images = num_images
        self._in_use = 0
        self.asked = []
        """Sizes of the batches, in turn."""

    def __call__(self, batch):
        size = len(batch)
        self.asked.append(size)
        taken = []
        for _ in batch:
            # What a failed call leaves knows itself: no count of references frees it.
            taken.append(Memory(self, taken))
        taken.clear()
        return Drawn(np.zeros((size, 8, 8, 3), np.uint8), ({},) * size, (None,) * size)

    def take(self):
        if self._in_use == self._num_images:
            raise torch.OutOfMemoryError("planted")
        self._in_use += 1

    def give_back(self):
        self._in_use -= 1


class Memory:
    """That of one image."""

    def __init__(self, device, others):
        self._held_by = None
        device.take()
        self._held_by, self._others = device, others

    def __del__(self):
        if self._held_by is not None:
            self._held_by.give_back()


@pytest.fixture
def batch(tiny_model):
    """Fifty candidates."""
    return resolve(small_spec(tiny_model, batch_size=50)).plan.batch(0, 0)


def test_a_batch_that_fits_is_drawn_once_and_whole(batch):
    device = SmallDevice(50)
    assert len(draw_batch(device, batch).images) == 50
    assert device.asked == [50]


@pytest.mark.parametrize(
    ("num_images", "asked"),
    [(49, [50, 25]), (24, [50, 25, 12]), (1, [50, 25, 12, 6, 3, 1])],
)
def test_a_batch_too_large_names_the_largest_fraction_that_could_be_drawn(batch, num_images, asked):
    device = SmallDevice(num_images)
    with pytest.raises(BatchTooLarge) as error:
        draw_batch(device, batch)
    assert device.asked == asked
    for words in ("batch_size: is 50", "GPU A", f"give batch_size={asked[-1]},", "--root"):
        assert words in str(error.value)


def test_a_device_without_memory_for_one_image_is_told_so(batch):
    device = SmallDevice(0)
    with pytest.raises(BatchTooLarge, match=r"is 50, .* not even 1 fits: .*num_gpus"):
        draw_batch(device, batch)
    assert device.asked == [50, 25, 12, 6, 3, 1]


def test_other_errors_of_a_sampler_pass(batch):
    def broken(_):
        raise ValueError("images [0] hold NaN")

    with pytest.raises(ValueError, match="hold NaN"):
        draw_batch(broken, batch)


def test_a_shard_whose_batches_do_not_fit_leaves_nothing_behind(tmp_path, tiny_model):
    opened, _ = open_root(prepare(small_spec(tiny_model), str(tmp_path)))
    with pytest.raises(BatchTooLarge, match=r"is 6, .*batch_size=3"):
        MakeShard(opened.resolved, str(tmp_path), lambda _: SmallDevice(5))(0)
    assert list(opened.store.sizes()) == ["spec.json"]


def test_the_size_that_is_named_makes_the_dataset(tmp_path, tiny_model):
    opened, _ = open_root(prepare(small_spec(tiny_model, batch_size=3), str(tmp_path)))
    make = MakeShard(opened.resolved, str(tmp_path), lambda _: SmallDevice(5))
    assert [make(shard).num_samples for shard in opened.pending()] == [16, 16, 8]
