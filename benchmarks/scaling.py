"""Images a second for 1 to 32 actors whose model sleeps, and shards a second of the driver alone.

`python benchmarks/scaling.py [--actors N ...] [--seconds S] [--shards K] [--tasks N]` runs the
generate stage with a sampler that sleeps S seconds a shard and needs no CPU, so that more actors
than cores show what the factory and Ray cost and not what the machine lacks. Each number of actors
makes K shards an actor. Then N tasks that do nothing go through the same kind of pool. It prints a
Markdown table.

All actors are started before the first one draws. An actor's rate is counted from the start of its
first shard to the start of its last one, with everything between two shards in it: encoding,
checking, storing, and the way to Ray and back. Linear is the rate of one actor times their number.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from factory.cluster import connect, map_on_actors
from factory.diffusion.sampler import Drawn
from factory.generate.prepare import prepare
from factory.generate.run import run
from factory.plan import Candidate
from factory.records import Device
from factory.resolve import Resolved
from factory.spec import GenerateSpec, Resources

NUM_CPUS = 0.05
"""Reserved by one actor, which sleeps."""
SHARD_SIZE = 64
NO_OP_ACTORS = 2


class Sleeper:
    """A sampler that waits for the others, then sleeps for every shard and says when it began."""

    device = Device(kind="none", versions={})

    def __init__(self, folder: Path, num_actors: int, seconds: float) -> None:
        """Wait until `num_actors` are there, each with a file in `folder`."""
        self._seconds = seconds
        self._log = folder / str(os.getpid())
        self._log.touch()
        while len(list(folder.iterdir())) < num_actors:
            time.sleep(0.05)

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """Zeros, uint8 [N, 28, 28, 1]; a batch is a shard."""
        with self._log.open("a") as file:
            file.write(f"{time.monotonic()}\n")
        time.sleep(self._seconds)
        size = len(batch)
        return Drawn(np.zeros((size, 28, 28, 1), np.uint8), ({},) * size, (None,) * size)


class LoadSleeper:
    """In place of a model."""

    def __init__(self, *args: object) -> None:
        """Keep the arguments of `Sleeper`."""
        self._args = args

    def __call__(self, resolved: Resolved) -> Sleeper:
        """Called once in each actor."""
        return Sleeper(*self._args)  # pyright: ignore[reportArgumentType] - they are its own


class NoOp:
    """An actor that does nothing."""

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        """The row."""
        return row

    def give_up(self, row: dict[str, int], error: str) -> dict[str, int]:
        """Nothing dies here."""
        raise AssertionError(error)


def main() -> None:
    """Measure, and print a line a number of actors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--tasks", type=int, default=3_000)
    args = parser.parse_args()
    print(f"{machine()}; load {load()}\n", flush=True)
    print("| actors | images/s | of linear | load |\n|---|---|---|---|", flush=True)
    one = None
    for num_actors in args.actors:
        rate = images_per_second(num_actors, args.seconds, args.shards)
        one = one or rate / num_actors
        share = rate / (one * num_actors)
        print(f"| {num_actors} | {rate:.2f} | {share:.1%} | {load()} |", flush=True)
    rate = tasks_per_second(args.tasks)
    print(f"\n{args.tasks:,} tasks that do nothing: {rate:.0f}/s; load {load()}")


def images_per_second(num_actors: int, seconds: float, num_shards: int) -> float:
    """The rates of all actors, summed, over `num_shards` shards an actor."""
    resources = {"min_actors": num_actors, "max_actors": num_actors, "num_cpus": NUM_CPUS}
    spec = GenerateSpec.model_validate(
        {
            "generator": {"model": "fashion_mnist"},
            "num_images": num_actors * num_shards * SHARD_SIZE,
            "shard_size": SHARD_SIZE,
            "batch_size": SHARD_SIZE,
            "threads": 1,
            "resources": resources,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder, "logs")
        logs.mkdir()
        made = run(
            prepare(spec, str(Path(folder, "root"))), load=LoadSleeper(logs, num_actors, seconds)
        )
        assert not made.missing, made.failures
        return sum(rates(logs))


def rates(logs: Path) -> Iterator[float]:
    """Images a second of each actor, from when it began its shards."""
    for log in logs.iterdir():
        begun = [float(line) for line in log.read_text().split()]
        yield SHARD_SIZE * (len(begun) - 1) / (begun[-1] - begun[0])


def tasks_per_second(num_tasks: int) -> float:
    """From the first result to the last, so that the pool is up."""
    resources = Resources(min_actors=NO_OP_ACTORS, max_actors=NO_OP_ACTORS, num_cpus=NUM_CPUS)
    with connect(None):
        rows = ({"shard": shard} for shard in range(num_tasks))
        results = map_on_actors(rows, NoOp, (), resources=resources, threads=1)
        next(results)
        started = time.perf_counter()
        left = sum(1 for _ in results)
        return left / (time.perf_counter() - started)


def machine() -> str:
    """Cores, system and versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "pyarrow"))
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {packages}"
    )


def load() -> str:
    """Processes that wanted a core in the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
