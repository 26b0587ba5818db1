"""Progress in a job's log: a line at once, and a time to go that knows nothing of the start."""

import io
import sys
import time

import pytest

from factory.progress import Progress


class Clock:
    """Stands still but for what it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog, monkeypatch):
    """What was said so far, on no terminal."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level("INFO", logger="factory.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def count(steps, total, unit="images"):
    """Add images after seconds of waiting, as (seconds, images)."""
    clock = Clock()
    with Progress(num_images=total, unit=unit, clock=clock) as progress:
        for seconds, num_images in steps:
            clock.now += seconds
            progress.add(num_images)


def test_there_is_a_line_before_anything_is_done(lines):
    count([], 1_000)
    assert lines() == ["0 of 1,000 images, starting"]


def test_nothing_to_do_is_not_announced(lines):
    count([], 0)
    assert lines() == []


@pytest.mark.parametrize("start", [0.5, 60, 3_600])
def test_the_start_does_not_count_in_the_time_to_go(lines, start):
    count([(start, 100), (10, 100)], 1_000)
    # 100 images in 10 s, so that 800 take 80 s.
    assert lines()[-1].startswith("200 of 1,000 images, 10.0 images/s, ")
    assert lines()[-1].endswith("gone, 1 min 20 s to go")


def test_the_first_result_says_no_time_to_go(lines):
    count([(60, 100)], 1_000)
    assert lines()[-1] == "100 of 1,000 images, 1 min 0 s gone"


def test_what_counts_nothing_is_no_first_result(lines):
    count([(30, 0), (30, 512), (10, 512)], 2_048, unit="looks")
    assert lines()[1:] == [
        "512 of 2,048 looks, 1 min 0 s gone",
        "1,024 of 2,048 looks, 51.2 looks/s, 1 min 10 s gone, 20 s to go",
    ]


def test_the_end_is_told_however_soon_it_comes(lines):
    count([(0.1, 5), (0.1, 5)], 10)
    assert len(lines()) == 2
    assert lines()[-1].startswith("10 of 10 images")


def test_a_line_comes_though_no_result_does(lines):
    def until(count):
        end = time.monotonic() + 60
        while len(lines()) < count and time.monotonic() < end:
            time.sleep(0.01)

    clock = Clock()
    with Progress(num_images=1_000, clock=clock, silent_seconds=0.01) as progress:
        clock.now += 40
        until(2)
        progress.add(100)
        clock.now += 40
        until(len(lines()) + 1)
    assert lines()[1] == "0 of 1,000 images, 40 s gone"
    assert lines()[-1] == "100 of 1,000 images, 1 min 20 s gone"


def test_a_bar_forgets_the_start_too(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    count([(60, 100), (10, 100)], 1_000)
    assert "0/1000" in screen.getvalue()
    assert "200/1000" in screen.getvalue()
