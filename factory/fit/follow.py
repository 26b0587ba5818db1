"""Tell how a training run goes, by looking at the history in its root."""

import logging
import threading
import time

from factory.fit.history import Row
from factory.fit.prepare import read_history
from factory.progress import duration
from factory.store import Store

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_LINES = 10.0


class Follow:
    """Logs a line every ten seconds, and one for each verdict, from a thread of its own."""

    def __init__(self, store: Store, *, num_images: int) -> None:
        """Follow the run at `store` towards `num_images`; what its history holds now is known."""
        self._store = store
        self._num_images = num_images
        self._known = len(read_history(store))
        self._spoke = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        """Start to look."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Look once more, and end."""
        self._ended.set()
        self._thread.join()

    def look(self, *, patience: float = _SECONDS_BETWEEN_LINES) -> None:
        """Log the newest row if it is news and `patience` seconds passed, and every verdict."""
        history = read_history(self._store)
        # A run that goes on from a checkpoint makes rows anew that were known already.
        self._known = min(self._known, len(history))
        waited = time.monotonic() - self._spoke >= patience
        for index in range(self._known, len(history)):
            is_newest = index == len(history) - 1
            if history[index].verdict is None and not (is_newest and waited):
                continue
            _LOG.info("%s", self._line(history[index], history[index - 1] if index else None))
            self._spoke = time.monotonic()
        self._known = len(history)

    def _follow(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            self.look()
        self.look()

    def _line(self, row: Row, before: Row | None) -> str:
        images = row.images - (before.images if before else 0)
        rate = images / max(row.seconds - (before.seconds if before else 0), 1e-9)
        left = max(self._num_images - row.images, 0) / rate
        line = (
            f"{row.images:,} of {self._num_images:,} images, loss {row.loss:.4f}, "
            f"{rate:,.0f} images/s, {duration(left)} to go"
        )
        if row.verdict is None:
            return line
        verdict = row.verdict
        line = (
            f"{line}; validation loss {verdict.validation_loss:.4f}, "
            f"Frechet distance {verdict.frechet_distance:.3f}"
        )
        return line if verdict.agreement is None else f"{line}, agreement {verdict.agreement:.1%}"
