"""Sizes of pools, and how a connection ends when the process is told to."""

import os
import signal
import sys
import tempfile

import pytest
import ray

from factory import cluster
from factory.cluster import AT_ONCE, ActorShape, connect
from factory.spec import Resources, SpecError


@pytest.mark.ray
@pytest.mark.parametrize(
    ("asked", "num_tasks", "expected"),
    [
        ({}, 3, (3, 3)),
        ({}, 10 * AT_ONCE, (AT_ONCE, 10 * AT_ONCE)),
        ({"max_actors": 8}, 1000, (8, 8)),
        ({"min_actors": 2 * AT_ONCE}, 1000, (2 * AT_ONCE, 1000)),
    ],
)
def test_a_pool_on_a_cluster_asks_for_more_than_there_is(
    ray_cluster, monkeypatch, asked, num_tasks, expected
):
    monkeypatch.setattr(cluster, "_is_private", lambda: False)
    resources = Resources(**asked)
    assert ActorShape(resources, threads=1).pool(resources, num_tasks=num_tasks) == expected


@pytest.mark.ray
@pytest.mark.parametrize(
    ("asked", "num_tasks", "expected"),
    [({}, 1000, (1, 2)), ({"min_actors": 2}, 1000, (2, 2)), ({"max_actors": 8}, 1, (1, 1))],
)
def test_a_pool_on_this_machine_takes_what_there_is(ray_cluster, asked, num_tasks, expected):
    resources = Resources(**asked)
    assert ActorShape(resources, threads=1).pool(resources, num_tasks=num_tasks) == expected


def test_a_cluster_that_starts_empty_does_not_guess_what_an_actor_needs(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", dict)
    with pytest.raises(SpecError, match=r"resources\.num_gpus"):
        ActorShape(Resources(), threads=1)


class Doubles:
    """An actor of plain arithmetic."""

    def __call__(self, row):
        return {"number": 2 * row["number"]}

    def give_up(self, row, error):
        raise AssertionError(error)


def test_a_task_is_done_on_a_machine_without_room_for_notes(tmp_path, monkeypatch):
    full = tmp_path / "no-folder"
    full.write_bytes(b"")
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    actor = cluster._Guarded("run", Doubles, ())
    assert actor({"number": 21, "task": 0}) == {"number": 42}


def test_a_task_is_done_whose_note_is_cleaned_away_meanwhile(tmp_path, monkeypatch):
    class Cleans(Doubles):
        def __call__(self, row):
            for note in tmp_path.iterdir():
                note.unlink()
            return super().__call__(row)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    actor = cluster._Guarded("run", Cleans, ())
    assert [actor({"number": 1, "task": task}) for task in (0, 1)] == [{"number": 2}] * 2


def test_tasks_that_end_leave_no_notes(tmp_path, monkeypatch):
    class Looks(Doubles):
        def __call__(self, row):
            assert len(list(tmp_path.iterdir())) == 1
            return super().__call__(row)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    actor = cluster._Guarded("run", Looks, ())
    assert [actor({"number": 1, "task": task}) for task in (0, 1)] == [{"number": 2}] * 2
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(KeyboardInterrupt), connect(None):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_value_error_of_the_work_is_not_taken_for_a_missing_cluster(ray_that_takes_sigterm):
    with pytest.raises(ValueError, match="of the work"), connect(None):
        raise ValueError("of the work")
