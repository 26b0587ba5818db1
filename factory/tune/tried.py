"""What the search keeps of a trial that ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from factory.tune.searchers import METRIC, SECONDS, TIME
from factory.tune.space import Config
from factory.tune.trial import Score


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
