"""What every system that draws looks like from outside: candidates in, images out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from factory.images import resize
from factory.plan import Candidate
from factory.records import Device
from factory.shards.sample import ProvenanceValue


class Drawn(NamedTuple):
    """N drawn images, in the order of their candidates."""

    images: NDArray[np.uint8]
    """[N, H, W, C], C 1 (grey) or 3 (RGB)."""
    facts: tuple[Mapping[str, ProvenanceValue], ...]
    """N times what provenance says of one image beyond the spec, e.g. its prompt; the same columns
    for all images of a dataset."""
    rejected: tuple[str | None, ...]
    """N times the reason why the system itself rejects the image, e.g. "safety"; None: it does
    not."""
    seconds_swapping: float = 0.0
    """Time that the batch took to change adapters."""


class Sampler(Protocol):
    """A loaded model on its device."""

    device: Device

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """Draw one image for each candidate.

        Each image's noise comes from a stream of its own, drawn on the CPU.

        Raises:
            ValueError: if the network gave NaN or infinity.
        """
        ...


class Resized:
    """A sampler whose images are resized, before anything else looks at them."""

    def __init__(self, sampler: Sampler, size: int, *, resample: str) -> None:
        """Make the images of `sampler` squares of `size` px by Pillow's filter `resample`."""
        self.device = sampler.device
        self._sampler = sampler
        self._size = size
        self._resample = resample

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """As `Sampler`; images are uint8 [N, size, size, C]."""
        drawn = self._sampler(batch)
        resized = [resize(image, self._size, resample=self._resample) for image in drawn.images]
        return drawn._replace(images=np.stack(resized))
