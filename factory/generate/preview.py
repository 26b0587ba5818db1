"""Draw the first batch of a dataset in this process, to look at it and to time it."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from factory.diffusion.draw import load_sampler
from factory.generate.draw import draw_batch
from factory.generate.pictures import class_sheet
from factory.generate.prepare import Estimate, Prepared, extrapolate
from factory.images import TRAINED_ALGORITHMIC_MEDIA, encode_png

_PER_CLASS = 10


def preview(prepared: Prepared, folder: Path) -> tuple[Path, Estimate]:
    """Draw batch 0 of shard 0 twice, time the second, and save the picture.

    Args:
        prepared: from `prepare`; its root is not written.
        folder: where the picture goes, named by the fingerprint.

    Returns:
        The picture's path, and the estimate for what is pending, if no image is rejected.

    Raises:
        BatchTooLarge: if this process's device has no memory for a batch.
    """
    resolved = prepared.resolved
    plan = resolved.plan
    shard = next(plan.shards(), 0)
    batch = plan.batch(shard, 0)
    names = [candidate.class_name or "any" for candidate in batch]
    sampler = load_sampler(resolved)
    draw_batch(sampler, batch)  # the first batch also pays for compilation and allocation
    started = time.perf_counter()
    images = sampler(batch).images
    level = resolved.spec.output.compress_level
    encoded = [encode_png(i, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=level) for i in images]
    seconds = time.perf_counter() - started
    path = folder / f"preview-{resolved.fingerprint}.png"
    path.write_bytes(class_sheet(_rows(names, images)))
    return path, extrapolate(
        prepared,
        measured_on=f"one batch of {len(batch)} images",
        device=sampler.device.kind,
        actor_seconds=seconds * _num_batches(prepared),
        bytes_per_image=sum(map(len, encoded)) / len(batch),
    )


def _num_batches(prepared: Prepared) -> int:
    """Batches that the pending shards draw if nothing is rejected; each is full."""
    plan = prepared.resolved.plan
    return sum(len(plan.batches(shard, plan.quota(shard))) for shard in prepared.pending())


def _rows(names: list[str], images: NDArray[np.uint8]) -> dict[str, list[NDArray[np.uint8]]]:
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for name, image in zip(names, images, strict=True):
        row = rows.setdefault(name, [])
        if len(row) < _PER_CLASS:
            row.append(image)
    return rows
