"""Samplers whose process dies, and what loads them in an actor."""

import os
import signal
from pathlib import Path

from factory.diffusion.draw import load_sampler


class KillsItself:
    """A sampler whose process dies, once, at a certain batch."""

    def __init__(self, resolved, marker, batch):
        self._sampler = load_sampler(resolved)
        self.device = self._sampler.device
        self._marker = Path(marker)
        self._batch = batch
        self._batches = 0

    def __call__(self, batch):
        self._batches += 1
        if self._batches == self._batch and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._sampler(batch)


class LoadKiller:
    """Loads a `KillsItself`, which leaves a file `marker` when it dies."""

    def __init__(self, marker, batch):
        self._marker = str(marker)
        self._batch = batch

    def __call__(self, resolved):
        return KillsItself(resolved, self._marker, self._batch)
