"""What trainings and trials of a search tell, and what it keeps of a trial that ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from factory.tune.space import Config

METRIC, TIME, SECONDS, FOUND = "accuracy", "percent", "seconds", "found"
"""What trials report: accuracy on the validation images, how much of their training is done, how
long that took, and whether it was on record before."""
DONE = 101
"""What a trial reports as its percent after its score is there."""


class Progress(NamedTuple):
    """How far a training is, and how good."""

    percent: int
    """Of its steps."""
    accuracy: float
    """Share of the validation images that it is right on."""
    seconds: float
    """Device time since its start."""
    is_found: bool = False
    """Whether this training was on record before: of an earlier run of the search, or of a trial
    that came to the same."""


class Score(NamedTuple):
    """What a finished training says of its configuration."""

    accuracy: float
    """Share of the validation images that it is right on."""
    seconds: float
    """Device time: of all its workers together."""
    fingerprint: str
    """Names all that it depends on, but the seed."""
    num_real: int
    """Real images that it was trained on."""
    num_synthetic: int


@dataclass(frozen=True)
class Tried:
    """A configuration that was trained, or whose training was stopped."""

    number: int
    config: Config
    accuracy: float
    percent: int
    seconds: float
    """Of its trainings."""
    scores: tuple[Score, ...]
    """Of its finished trainings."""

    @classmethod
    def from_metrics(cls, number: int, config: Config, metrics: Mapping[str, Any]) -> "Tried":
        """From what the trial reported last."""
        return cls(
            number=number,
            config=config,
            accuracy=metrics[METRIC],
            percent=min(100, metrics[TIME]),
            # Ray Train reports no seconds of its own for a training that was stopped.
            seconds=metrics.get(SECONDS, 0.0),
            scores=tuple(Score(**score) for score in metrics.get("scores", ())),
        )
