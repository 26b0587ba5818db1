"""Connecting to Ray: on a machine that is too busy for it, and when the process is told to end."""

import os
import signal
import sys

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


@pytest.fixture
def ray_that_takes_sigterm(monkeypatch):
    """Connections whose start replaces the handler of SIGTERM, as that of the real Ray does."""

    def init(**options):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(signal.SIGTERM))

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_sigterm_is_ctrl_c_while_connected_and_what_it_was_before_and_after(ray_that_takes_sigterm):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), cluster.connect(None):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_value_error_of_the_work_is_not_taken_for_a_missing_cluster(ray_that_takes_sigterm):
    with pytest.raises(ValueError, match="of the work"), cluster.connect(None):
        raise ValueError("of the work")
