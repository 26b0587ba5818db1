"""Classifier-free guidance of any pixel network (Ho and Salimans 2022)."""

import math

import torch

from factory.diffusion.pixel import Raw


class GuidedNetwork:
    """A network that is moved away from its null class: F_null + scale (F_class - F_null).

    With scale = 1 + w this is (1 + w) F_class - w F_null, as lundberg2022 writes it. What is linear
    in F at a given x and level, such as EDM's D or DDPM's predicted image, is guided alike. Images
    outside the interval keep F_class; where no image is inside, the null class costs no evaluation.
    """

    def __init__(
        self,
        network: Raw,
        *,
        null_label: int,
        scale: float,
        interval: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        """Guide `network`; scale 1 is no guidance.

        Args:
            network: takes labels, unless scale is 1.
            null_label: the label that stands for no class.
            scale: diffusers' guidance scale.
            interval: levels of noise at which to guide, as the network takes them, both ends
                included.
        """
        self._network = network
        self._null_label = null_label
        self._scale = scale
        self._low, self._high = interval

    def __call__(
        self, x: torch.Tensor, level: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """As `RawNetwork.forward`."""
        inside = (level >= self._low) & (level <= self._high)
        if labels is None or self._scale == 1 or not bool(inside.any()):
            return self._network(x, level, labels)
        null = torch.full_like(labels, self._null_label)
        both = self._network(
            torch.cat([x, x]), torch.cat([level, level]), torch.cat([labels, null])
        )
        with_class, without = both.chunk(2)
        moved = without + self._scale * (with_class - without)
        return torch.where(inside.view(-1, 1, 1, 1), moved, with_class)
