"""Progress that reads well on a terminal and in a job's log."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 5.0
"""At least, as results come."""
SILENT_SECONDS = 30.0
"""From one line to the next, at most, if none comes."""
_LEAST_SECONDS = 1.0
"""A rate over less says how results came together, not how fast they are made."""


class Progress:
    """Counts images: a bar on a terminal; elsewhere a line at once, then one with results but not
    more often than every five seconds, and without any one every thirty.

    Rate and time to go are those of what follows the first result: the time before it goes into
    starting processes and loading models, and says nothing of the rest.
    """

    def __init__(
        self,
        *,
        num_images: int,
        unit: str = "images",
        clock: Callable[[], float] = time.monotonic,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        """Start counting towards `num_images`.

        Args:
            num_images: how many there are to count.
            unit: what they are called.
            clock: the time, s.
            silent_seconds: from one line to the next, at most.
        """
        self._total = num_images
        self._unit = unit
        self._clock = clock
        self._done = 0
        self._started = self._spoke = clock()
        self._first: tuple[int, float] | None = None
        """How many the first result counted, and when."""
        self._ended = threading.Event()
        self._speaking = threading.Lock()
        self._silent_seconds = silent_seconds
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=num_images, unit=f" {unit}", smoothing=0.1)
        elif num_images:
            _LOG.info("0 of %s %s, starting", f"{num_images:,}", unit)

    def __enter__(self) -> "Progress":
        """Count within a `with` block, so that the bar is closed and the lines end."""
        if self._bar is None and self._total:
            threading.Thread(target=self._break_silences, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bar, or say nothing more."""
        self._ended.set()
        if self._bar is not None:
            self._bar.close()

    def add(self, num_images: int) -> None:
        """Count images that were made; 0 changes nothing."""
        if not num_images:
            return
        with self._speaking:
            self._done += num_images
            now = self._clock()
            is_first = self._first is None
            self._first = self._first or (num_images, now)
            if self._bar is not None:
                _restart(self._bar, num_images) if is_first else self._bar.update(num_images)
            elif now - self._spoke >= _SECONDS_BETWEEN_LINES or self._done == self._total:
                self._speak(now)

    def _break_silences(self) -> None:
        wait = self._silent_seconds
        while not self._ended.wait(wait):
            with self._speaking:
                if self._done >= self._total:
                    return
                now = self._clock()
                if now - self._spoke >= self._silent_seconds:
                    self._speak(now)
                wait = self._spoke + self._silent_seconds - now

    def _speak(self, now: float) -> None:
        self._spoke = now
        _LOG.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        words = f"{self._done:,} of {self._total:,} {self._unit}"
        gone = f"{duration(now - self._started)} gone"
        first, since = self._first or (0, now)
        if self._done == first or now - since < _LEAST_SECONDS:
            return f"{words}, {gone}"
        rate = (self._done - first) / (now - since)
        left = duration((self._total - self._done) / rate)
        return f"{words}, {rate:,.1f} {self._unit}/s, {gone}, {left} to go"


def _restart(bar: tqdm, num_done: int) -> None:
    """Let a bar's rate count from now on, with `num_done` done."""
    bar.n = bar.initial = bar.last_print_n = num_done
    bar.unpause()
    bar.refresh()


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
