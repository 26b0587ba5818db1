"""Progress that reads well on a terminal and in a job's log."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts images: a bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self, *, num_images: int) -> None:
        """Start counting towards `num_images`."""
        self._total = num_images
        self._done = 0
        self._started = self._spoke = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=num_images, unit=" images", smoothing=0.1)

    def __enter__(self) -> "Progress":
        """Count within a `with` block, so that the bar is closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def add(self, num_images: int) -> None:
        """Count images that were made."""
        self._done += num_images
        if self._bar is not None:
            self._bar.update(num_images)
            return
        now = time.monotonic()
        if now - self._spoke >= _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._spoke = now
            _LOG.info("%s", self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        rate = self._done / max(seconds, 1e-9)
        left = (self._total - self._done) / rate if rate else float("inf")
        return (
            f"{self._done:,} of {self._total:,} images, {rate:,.1f} images/s, "
            f"{duration(seconds)} gone, {duration(left)} to go"
        )


def duration(seconds: float) -> str:
    """E.g. "45 s", "3 min 40 s", "2 h 5 min"."""
    if seconds == float("inf"):
        return "unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
