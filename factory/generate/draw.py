"""Draw a candidate batch, or find out how many images at once the device has memory for."""

import gc
from collections.abc import Sequence

import torch

from factory.diffusion.sampler import Drawn, Sampler
from factory.plan import Candidate
from factory.spec import JobError


class BatchTooLarge(JobError):
    """A candidate batch that the device has no memory for; another try is no use."""


def draw_batch(sampler: Sampler, batch: Sequence[Candidate]) -> Drawn:
    """Draw a whole candidate batch.

    Raises:
        BatchTooLarge: if the device runs out of memory; it names the largest of a half, a quarter,
            an eighth, ... of the batch that could be drawn.
    """
    drawn = _try(sampler, batch)
    if drawn is None:
        raise _too_large(sampler, batch)
    return drawn


def _try(sampler: Sampler, batch: Sequence[Candidate]) -> Drawn | None:
    """The drawn images; None: out of memory."""
    try:
        return sampler(batch)
    except torch.OutOfMemoryError:
        pass
    # Only now, out of the block, is the failed call gone with all the memory that it held.
    gc.collect()
    return None


def _too_large(sampler: Sampler, batch: Sequence[Candidate]) -> BatchTooLarge:
    size = len(batch) // 2
    while size and _try(sampler, batch[:size]) is None:
        size //= 2
    if size:
        remedy = (
            f"{size} at once were drawn and fit: give batch_size={size}, and another --root where "
            "this one was begun (batch_size is part of what decides its bytes)"
        )
    else:
        remedy = (
            "not even 1 fits: look at what else runs on the device, give each actor more of it "
            "(resources.num_gpus), or take a smaller model or a larger device"
        )
    return BatchTooLarge(
        f"batch_size: is {len(batch)}, but {sampler.device.kind} has no memory for so many images "
        f"at once; {remedy}"
    )
