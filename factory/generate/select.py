"""Which candidates become samples: labels that are found, filters, and quotas.

N images, H height, W width, C channels.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from factory.diffusion.sampler import Drawn
from factory.plan import REDRAWS, Candidate
from factory.resolve import Resolved
from factory.spec import DuplicateFilter, JobError
from factory.vision.duplicates import Duplicates
from factory.vision.filters import load_filter
from factory.vision.labeller import load_labeller


class ShardUnfilled(JobError):
    """A shard whose candidates are used up before it has its images; another try is no use."""


class Opinion(NamedTuple):
    """What is thought of a candidate."""

    label: int | None
    """Index into the dataset's classes; None: of none of them."""
    confidence: float | None
    """The labeller's, in the class that it found; None: it was asked for a class."""
    rejected: str | None
    """Reason; None: it may become a sample."""


class Screen:
    """The labeller and the filters of a dataset, loaded once an actor."""

    def __init__(self, resolved: Resolved, device: torch.device) -> None:
        """Load what the spec names; calibrates what needs it.

        Raises:
            SpecError: if a filter cannot judge these images.
        """
        spec = resolved.spec
        folders = {name: str(folder.local()) for name, folder in resolved.classifiers.items()}
        self._class_names = resolved.plan.class_names
        self._min_confidence = spec.labeller.min_confidence if spec.labeller else 0.0
        self._labeller = spec.labeller and load_labeller(folders[spec.labeller.model], device)
        self._filters = [
            load_filter(filter_, folders, device)
            for filter_ in spec.filters
            if not isinstance(filter_, DuplicateFilter)
        ]

    def __call__(self, batch: Sequence[Candidate], drawn: Drawn) -> list[Opinion]:
        """An opinion on each candidate of a batch, from its image alone."""
        opinions = [
            opinion._replace(rejected=own or opinion.rejected)
            for own, opinion in zip(drawn.rejected, self._label(batch, drawn.images), strict=True)
        ]
        for look in self._filters:
            asked = {place: o.label for place, o in enumerate(opinions) if o.rejected is None}
            names = [self._class_names[label] for label in asked.values() if label is not None]
            reasons = look(drawn.images[list(asked)], names)
            for place, reason in zip(asked, reasons, strict=True):
                opinions[place] = opinions[place]._replace(rejected=reason)
        return opinions

    def _label(self, batch: Sequence[Candidate], images: NDArray[np.uint8]) -> list[Opinion]:
        if self._labeller is None:
            return [Opinion(candidate.label, None, None) for candidate in batch]
        found = self._labeller(images)
        names = [self._labeller.class_names[label] for label in found.labels.tolist()]
        return [
            self._opinion(name, confidence)
            for name, confidence in zip(names, found.confidences.tolist(), strict=True)
        ]

    def _opinion(self, class_name: str, confidence: float) -> Opinion:
        if class_name not in self._class_names:
            return Opinion(None, confidence, "other class")
        reason = "confidence" if confidence < self._min_confidence else None
        return Opinion(self._class_names.index(class_name), confidence, reason)


class Selection:
    """What a shard takes of its candidates, in their order, until it has its quota."""

    def __init__(self, resolved: Resolved, shard: int) -> None:
        """Start with nothing taken."""
        plan = resolved.plan
        self._plan = plan
        self._shard = shard
        self._quota, self._quotas = plan.quota(shard), plan.quotas(shard)
        self._most = resolved.spec.max_candidates_per_image
        self._taken: Counter[int | None] = Counter()
        self._filled: set[int] = set()
        self._duplicates = [
            Duplicates(filter_)
            for filter_ in resolved.spec.filters
            if isinstance(filter_, DuplicateFilter)
        ]
        self.num_candidates = 0
        """Candidates looked at, up to the last one that was taken."""
        self.rejected: Counter[str] = Counter()
        """Reason -> candidates."""

    @property
    def is_full(self) -> bool:
        """Whether the shard has its images."""
        return self._taken.total() == self._quota

    def next_batch(self, last: int | None) -> int:
        """Number of the candidate batch to draw after batch `last`; None: the first.

        Raises:
            ShardUnfilled: if there are no more candidates within the bound.
        """
        plan = self._plan
        if not plan.reconstructs:
            number = 0 if last is None else last + 1
            if number and number * plan.batch_size >= self._most * self._quota:
                raise self._unfilled()
            return number
        if last is None:
            return 0
        group, redraw = divmod(last, REDRAWS)
        slots = range(group * plan.batch_size, (group + 1) * plan.batch_size)
        if self._filled.issuperset(slot for slot in slots if slot < self._quota):
            return (group + 1) * REDRAWS
        if redraw + 1 >= min(self._most, REDRAWS):
            raise self._unfilled()
        return last + 1

    def take(
        self, batch: Sequence[Candidate], images: NDArray[np.uint8], opinions: Sequence[Opinion]
    ) -> list[int]:
        """Places in the batch of the candidates that become samples."""
        places = []
        for place, (candidate, opinion) in enumerate(zip(batch, opinions, strict=True)):
            if self.is_full:
                break
            reason = opinion.rejected or self._repeated(images[place])
            if not self._is_planned(candidate):
                continue
            self.num_candidates += 1
            if reason is None and not self._is_needed(candidate, opinion):
                reason = "not needed"
            if reason is not None:
                self.rejected[reason] += 1
                continue
            places.append(place)
            self._taken[opinion.label] += 1
            self._filled.add(candidate.index // REDRAWS)
        return places

    def _repeated(self, image: NDArray[np.uint8]) -> str | None:
        """ "duplicate" of an image that was drawn before; None: it is new, and known from now on.

        Images that find no place are known too: which ones do depends on the quotas, and a shard
        that grows would lose an image to one that it has taken only now.
        """
        if not all(known.is_new(image) for known in self._duplicates):
            return "duplicate"
        for known in self._duplicates:
            known.add(image)
        return None

    def _is_planned(self, candidate: Candidate) -> bool:
        """Whether the shard has a place for it; a short shard ends amid a batch."""
        return not self._plan.reconstructs or candidate.index // REDRAWS < self._quota

    def _is_needed(self, candidate: Candidate, opinion: Opinion) -> bool:
        """Whether its source image, or its class, has a place left."""
        if self._plan.reconstructs and candidate.index // REDRAWS in self._filled:
            return False
        label = opinion.label
        assert label is not None
        return self._quotas is None or self._taken[label] < self._quotas[label]

    def _unfilled(self) -> ShardUnfilled:
        plan, taken = self._plan, self._taken
        if self._quotas is None:
            lacking = f"{taken.total()} of {self._quota}"
        else:
            lacking = ", ".join(
                f"{plan.class_names[label]} {taken[label]} of {quota}"
                for label, quota in enumerate(self._quotas)
                if taken[label] < quota
            )
        accepted = taken.total() / max(self.num_candidates, 1)
        rejected = ", ".join(f"{n} {reason}" for reason, n in self.rejected.most_common())
        return ShardUnfilled(
            f"shard {self._shard}: cannot be filled ({lacking}) from {self.num_candidates} "
            f"candidates, {accepted:.1%} of which were taken; rejected: {rejected}; loosen the "
            "filters, or raise max_candidates_per_image"
        )
