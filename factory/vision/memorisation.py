"""Are synthetic images copies of the images that their generator has seen?

N images to look at, R images that the generator has seen, D features.

Between two images no distance says "copy": plain images lie near to each other, busy ones far from
their own copy shifted by a pixel. So an image's score is its distance to the nearest seen image,
over its mean distance to the `NEIGHBOURS` nearest (the shape of Carlini et al. 2023, "Extracting
Training Data from Diffusion Models", Eq. 1, who take 50): near 1 of an image like any other, near
0 of a copy. How small is suspicious, held-out images say: real ones that no generator has seen.

The distance alone finds fewer shifted copies of busy images, and accuses smooth images that nobody
has copied. As pixels, copies of plain images shifted by a pixel are not found by either.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom, binomtest

from factory.images import pixel_digest
from factory.spec import Frozen, SpecError
from factory.vision.near_real import Features, Nearest

NEIGHBOURS = 10
"""Seen images, mirror images included, whose mean distance a score is relative to."""


class Pair(Frozen):
    """An image and the seen one that it lies nearest to."""

    image: int
    """Place among the images."""
    seen: int
    """Place among the seen images."""
    is_mirrored: bool
    """Whether it is the seen one's mirror image that is near."""
    distance: float
    """Euclidean, in features."""
    score: float
    """In [0, 1], 0 of the same features."""


class Judgement(Frozen):
    """Whether images are nearer to seen ones than real images are that nobody has copied."""

    verdict: Literal["copies", "no evidence"]
    p_value: float
    """Probability that as many of a clean set's images were suspicious."""
    num_suspicious: int
    """Images whose score is below `threshold`."""
    share: float
    """Of the images that are suspicious."""
    low: float
    """Wilson's interval of `share` at this threshold, over images."""
    high: float
    expected: float
    """Share of a clean set that is suspicious, on average over sets and over held-out images."""
    limit: float
    """Largest share for which the verdict is "no evidence"; 1: too few images to accuse."""
    threshold: float
    num_images: int
    num_held_out: int
    """Held-out images that the generator has not seen."""
    num_shared: int
    """Held-out images that are left out: it has seen them, or their mirror images."""
    num_exact: int
    """Images with the very pixels of a seen image or its mirror image. Each is a copy; the verdict
    is about how many suspicious ones there are."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """How near each of N images lies to the seen ones."""

    scores: NDArray[np.float64]
    """[N] in [0, 1]."""
    distances: NDArray[np.float64]
    """To the nearest, [N]."""
    seen: NDArray[np.int64]
    """Place of the nearest among the seen images, [N]."""
    is_mirrored: NDArray[np.bool_]
    """Whether it is the nearest one's mirror image that is near, [N]."""
    is_exact: NDArray[np.bool_]
    """Whether a seen image or its mirror image has the same pixels, [N]."""


class Seen:
    """The images that a generator has seen, and their horizontal mirror images.

    Generators are trained with flips, so a mirror image is as much a copy.
    """

    def __init__(
        self, images: NDArray[np.uint8], *, features: Features, device: torch.device
    ) -> None:
        """Compute their features and keep them.

        Args:
            images: uint8 [R, H, W, C].
            features: where distances are measured.
            device: where they are computed.

        Raises:
            SpecError: if they are fewer than half of `NEIGHBOURS`.
        """
        if 2 * len(images) < NEIGHBOURS:
            raise SpecError(
                f"memorisation: the generator has seen {len(images)} images; their distances say "
                f"something from {NEIGHBOURS // 2} on"
            )
        mirrored = np.ascontiguousarray(images[:, :, ::-1])
        self._shape = images.shape[1:]
        self._features = features
        self._num_images = len(images)
        self._nearest = Nearest(np.concatenate([features(images), features(mirrored)]), device)
        self._digests = {pixel_digest(image) for both in (images, mirrored) for image in both}

    def closeness(self, images: NDArray[np.uint8]) -> Closeness:
        """How near images lie to these.

        Args:
            images: uint8 [N, H, W, C], of the seen images' H, W and C.

        Raises:
            SpecError: if the images have another shape than the seen ones.
        """
        if images.shape[1:] != self._shape:
            raise SpecError(
                f"memorisation: images are {list(images.shape[1:])}, those that the generator has "
                f"seen {list(self._shape)}; set image_size and channels of both"
            )
        distances, places = self._nearest.neighbours(self._features(images), NEIGHBOURS)
        return Closeness(
            scores=_scores(distances),
            distances=distances[:, 0],
            seen=places[:, 0] % self._num_images,
            is_mirrored=places[:, 0] >= self._num_images,
            is_exact=np.array([pixel_digest(image) in self._digests for image in images], bool),
        )


def judge(
    images: Closeness, held_out: Closeness, *, quantile: float, confidence: float
) -> Judgement:
    """Whether there are more suspicious images than in a clean set.

    Suspicious is an image whose score is below the r-th smallest of H held-out ones,
    r = ceil(quantile H). Of N images that are like the held-out ones the number of suspicious ones
    is beta-binomial with parameters N, r and H - r + 1, whatever the scores' distribution: the
    luck of the held-out images, which the threshold comes from, is in it. Equal scores, which
    continuous features have none of, only make an accusation rarer. Held-out images that are among
    the seen ones say nothing of unseen images and are left out.

    Args:
        images: N of them, against the seen images.
        held_out: H of them, against the same.
        quantile: share of held-out images, in (0, 1).
        confidence: a clean set is found to be without evidence at least so often.

    Raises:
        SpecError: if there are no images, or no held-out ones but those that were seen.
    """
    unseen = held_out.scores[~held_out.is_exact]
    num_images, num_held_out = len(images.scores), len(unseen)
    if not num_images or not num_held_out:
        raise SpecError(
            f"memorisation: there are {num_images} images and {num_held_out} held-out ones that "
            "the generator has not seen; give one or more of each"
        )
    # 0.07 * 100 is a little more than 7.
    rank = math.ceil(round(quantile * num_held_out, 9))
    threshold = float(np.sort(unseen)[rank - 1])
    num_suspicious = int((images.scores < threshold).sum())
    clean = betabinom(num_images, rank, num_held_out - rank + 1)
    p_value = min(1.0, max(0.0, float(clean.sf(num_suspicious - 1))))
    low, high = binomtest(num_suspicious, num_images).proportion_ci(confidence, method="wilson")
    return Judgement(
        verdict="copies" if p_value <= 1 - confidence else "no evidence",
        p_value=p_value,
        num_suspicious=num_suspicious,
        share=num_suspicious / num_images,
        low=low,
        high=high,
        expected=rank / (num_held_out + 1),
        limit=float(clean.isf(1 - confidence)) / num_images,
        threshold=threshold,
        num_images=num_images,
        num_held_out=num_held_out,
        num_shared=len(held_out.scores) - num_held_out,
        num_exact=int(images.is_exact.sum()),
    )


def closest_pairs(images: Closeness, at_most: int) -> tuple[Pair, ...]:
    """The images with the smallest scores, and what they lie nearest to; smallest first."""
    order = np.lexsort((images.distances, images.scores))[:at_most]
    return tuple(
        Pair(
            image=int(i),
            seen=int(images.seen[i]),
            is_mirrored=bool(images.is_mirrored[i]),
            distance=float(images.distances[i]),
            score=float(images.scores[i]),
        )
        for i in order
    )


def _scores(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of distances [N, k], nearest first."""
    local = distances.mean(axis=1)
    # Where all k are the same image, such as a blank one, it is no nearer than its like.
    return np.divide(distances[:, 0], local, out=np.ones_like(local), where=local > 0)
