"""`jobs/generate.py`, with actors that leave a byte in the file BEGUN for every shard they begin.

python -m tests.cluster.counted_generate BEGUN [spec.yaml] [key.path=value ...]
"""

import os
import runpy
import sys
from pathlib import Path

from factory.cluster import map_on_actors
from factory.generate import run as stage
from factory.generate.shard import MakeShard

JOB = Path(__file__).parents[2] / "jobs" / "generate.py"


class Counts:
    """Another actor, in whose process every shard that is begun is counted."""

    def __init__(self, begun, actor, args):
        make = MakeShard.__call__

        def count_and_make(self, shard):
            with open(begun, "ab") as file:
                file.write(b"x")
            return make(self, shard)

        MakeShard.__call__ = count_and_make
        self._actor = actor(*args)

    def __call__(self, row):
        return self._actor(row)

    def give_up(self, row, error):
        return self._actor.give_up(row, error)


def map_on_counted(begun):
    """`map_on_actors`, counting."""

    def map_and_count(rows, actor, args, **options):
        return map_on_actors(rows, Counts, (begun, actor, args), **options)

    return map_and_count


if __name__ == "__main__":
    stage.map_on_actors = map_on_counted(os.path.abspath(sys.argv.pop(1)))
    runpy.run_path(str(JOB), run_name="__main__")
