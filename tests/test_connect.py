"""Connecting to Ray on a machine that is too busy for it."""

import pytest
import ray

from factory import cluster
from factory.spec import JobError


@pytest.fixture
def slow_starts(monkeypatch):
    """Ray that fails to start as often as the list has entries, in the way the real one does."""
    failures: list[Exception] = []
    started = []

    def init(**options):
        started.append(options["address"])
        if failures:
            raise failures.pop()

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return failures, started


TOO_SLOW = "The current node timed out during startup. This could happen because ..."


def test_a_slow_start_is_tried_again(slow_starts):
    failures, started = slow_starts
    failures += [Exception(TOO_SLOW)] * (cluster.MOST_STARTS - 1)
    with cluster.connect(None):
        assert len(started) == cluster.MOST_STARTS


def test_a_machine_that_stays_too_busy_is_named(slow_starts):
    failures, _ = slow_starts
    failures += [Exception(TOO_SLOW)] * cluster.MOST_STARTS
    with pytest.raises(JobError, match="too busy"), cluster.connect(None):
        pass


def test_any_other_failure_of_ray_is_not_hidden(slow_starts):
    failures, started = slow_starts
    failures.append(RuntimeError("no space left on device"))
    with pytest.raises(RuntimeError, match="no space left"), cluster.connect(None):
        pass
    assert len(started) == 1
