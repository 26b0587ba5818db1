"""Pools of actors on a real Ray with two CPUs."""

import os
import sys
import time
from pathlib import Path

import pytest
from ray import cloudpickle

from factory.cluster import map_on_actors
from factory.spec import Resources

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

# The actor below travels to processes that cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
PATIENCE_SECONDS = 60


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
