"""Which real image a reconstruction starts from, and how far it is noised first.

yamaguchi2024, Algorithm 1. t_re counts the sampler's steps from the clean end: 0 is the image
itself, and as many as there are steps is pure noise, with nothing of the image in it.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from factory.plan import Candidate
from factory.sources.source import Source


class Original(NamedTuple):
    """The real image of one candidate."""

    image: NDArray[np.uint8]
    """[H, W, C]."""
    t_re: int
    facts: dict[str, str | int]
    """`t_re`; `source_image`, as source digest:index; `source_pass`, the images that were made of
    this one before."""


class Originals:
    """The images of a source, each class's gone through in their order again and again."""

    def __init__(self, source: Source, t_re: int | tuple[int, int]) -> None:
        """Start from `source` at `t_re`; a pair is drawn from evenly, both ends included."""
        self._source = source
        self._low, self._high = (t_re, t_re) if isinstance(t_re, int) else t_re
        self._digest = source.digest[:12]
        self._of_class = {
            name: np.flatnonzero(source.labels == label)
            for label, name in enumerate(source.class_names)
        }

    def original(self, candidate: Candidate, stream: torch.Generator) -> Original:
        """The image that a candidate starts from; a t_re that is no fixed one is drawn."""
        assert candidate.class_name is not None, "a reconstruction has its image's class"
        images = self._of_class[candidate.class_name]
        source_pass, turn = divmod(candidate.turn, len(images))
        index = int(images[turn])
        t_re = self._draw(stream)
        facts = {
            "t_re": t_re,
            "source_image": f"{self._digest}:{index}",
            "source_pass": source_pass,
        }
        return Original(self._source.images[index], t_re, facts)

    def _draw(self, stream: torch.Generator) -> int:
        if self._low == self._high:
            return self._low
        return int(torch.randint(self._low, self._high + 1, (), generator=stream))
