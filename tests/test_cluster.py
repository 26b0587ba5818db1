"""Pools of actors and tasks on a real Ray with two CPUs: their sizes, their work, their losses."""

import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

from factory import cluster
from factory.cluster import AT_ONCE, ActorShape, map_on_actors, reason_of, run_tasks
from factory.spec import JobError, Resources, SpecError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

# The actor below travels to processes that cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
PATIENCE_SECONDS = 60


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


@pytest.mark.parametrize(
    ("asked", "num_tasks", "expected"),
    [
        ({}, 1000, (2, 2)),
        ({"min_actors": 2}, 1000, (2, 2)),
        ({"max_actors": 1}, 1000, (1, 1)),
        ({"max_actors": 8}, 1000, (2, 2)),
        ({}, 1, (1, 1)),
    ],
)
def test_a_pool_on_this_machine_begins_with_all_that_fit(ray_cluster, asked, num_tasks, expected):
    resources = Resources(**asked)
    assert ActorShape(resources, threads=1).pool(resources, num_tasks=num_tasks) == expected


def test_a_cluster_that_starts_empty_does_not_guess_what_an_actor_needs(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", dict)
    with pytest.raises(SpecError, match=r"resources\.num_gpus"):
        ActorShape(Resources(), threads=1)


class WaitsForAnother:
    """Ends a task only when a second actor has come, or patience has gone."""

    def __init__(self, folder):
        self._folder = Path(folder)

    def __call__(self, row):
        (self._folder / str(os.getpid())).touch()
        end = time.monotonic() + PATIENCE_SECONDS
        while len(list(self._folder.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        return {"pid": os.getpid()}

    def give_up(self, row, error):
        return {"pid": 0}


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_pool_grows_to_what_the_cluster_holds(ray_cluster, tmp_path, in_flight):
    rows = map_on_actors(
        ({"number": number} for number in range(6)),
        WaitsForAnother,
        (str(tmp_path),),
        resources=Resources(),
        threads=1,
        in_flight=in_flight,
    )
    assert len({row["pid"] for row in rows}) == 2


class WaitsForItsReader:
    """Ends the first task that is begun at once, and the others when somebody has read of it."""

    def __init__(self, folder):
        self._folder = Path(folder)

    def __call__(self, row):
        # Actors take their tasks in any order.
        with suppress(FileExistsError):
            (self._folder / "begun").touch(exist_ok=False)
            return {"is_read": True}
        end = time.monotonic() + PATIENCE_SECONDS
        while not (is_read := (self._folder / "read").exists()) and time.monotonic() < end:
            time.sleep(0.05)
        return {"is_read": is_read}

    def give_up(self, row, error):
        raise AssertionError(error)


def test_a_result_is_told_while_the_next_task_is_at_work(ray_cluster, tmp_path):
    told = []
    for row in map_on_actors(
        ({"number": number} for number in range(3)),
        WaitsForItsReader,
        (str(tmp_path),),
        resources=Resources(),
        threads=1,
    ):
        (tmp_path / "read").touch()
        told.append(row["is_read"])
    assert told == [True] * 3


class DiesOnce:
    """Leaves a file where a process of it started; the first to do a task dies, with more to do."""

    def __init__(self, folder):
        self._folder = Path(folder)
        (self._folder / f"start-{os.getpid()}").touch()

    def __call__(self, row):
        time.sleep(0.2)
        with suppress(FileExistsError):
            (self._folder / "death").touch(exist_ok=False)
            os._exit(1)
        return row

    def give_up(self, row, error):
        raise AssertionError(error)


def test_a_lost_actor_does_not_wait_for_those_that_nobody_needs(ray_cluster, tmp_path, monkeypatch):
    # Of another cluster more actors are asked for than it has room for: it may grow.
    monkeypatch.setattr(cluster, "_is_private", lambda: False)
    rows = map_on_actors(
        ({"number": number} for number in range(AT_ONCE)),
        DiesOnce,
        (str(tmp_path),),
        resources=Resources(),
        threads=1,
    )
    assert sorted(row["number"] for row in rows) == list(range(AT_ONCE))
    # Two and one in the place of the lost one do the rest; then it starts again to do its own.
    assert 3 <= len(list(tmp_path.glob("start-*"))) < AT_ONCE / 4


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


def begin_and_end():
    begun = time.monotonic()
    time.sleep(0.2)
    return begun, time.monotonic()


def test_no_more_tasks_run_at_once_than_are_allowed(ray_cluster):
    done = dict(
        run_tasks(
            begin_and_end, dict.fromkeys(range(3), ()), resources=Resources(max_actors=1), threads=1
        )
    )
    times = sorted(done.values())
    assert len(times) == 3
    assert all(end <= begun for (_, end), (begun, _) in pairwise(times))


def die(begun, num_deaths):
    """Kill this process, unless as many have died here; returns how many began."""
    with begun.open("a") as file:
        file.write("x")
    if len(begun.read_text()) <= num_deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(begun.read_text())


def test_a_task_whose_processes_die_is_done_again_and_the_third_time_given_up(
    ray_cluster, tmp_path
):
    asked = {deaths: (tmp_path / str(deaths), deaths) for deaths in (0, 2, 3)}
    done = dict(run_tasks(die, asked, resources=Resources(), threads=1))
    assert (done[0], done[2]) == (1, 3)
    assert isinstance(done[3], JobError)
    assert "died 3 times" in str(done[3])


def lose_the_machine(begun, times):
    with begun.open("a") as file:
        file.write("x")
    if len(begun.read_text()) <= times:
        raise ray.exceptions.NodeDiedError("gone")
    return len(begun.read_text())


def test_a_task_is_done_again_as_often_as_its_machine_is_lost(ray_cluster, tmp_path):
    asked = {"task": (tmp_path / "begun", 5)}
    done = dict(run_tasks(lose_the_machine, asked, resources=Resources(), threads=1))
    assert done == {"task": 6}


def fail(text):
    raise ValueError(text)


def test_a_task_that_fails_is_told_with_its_reason_and_the_others_go_on(ray_cluster):
    asked = {"bad": ("no such thing",), "worse": ("none at all",)}
    done = run_tasks(fail, asked, resources=Resources(), threads=1)
    reasons = {name: reason_of(error) for name, error in done}
    assert reasons == {"bad": "ValueError: no such thing", "worse": "ValueError: none at all"}
