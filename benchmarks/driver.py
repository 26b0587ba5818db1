"""Shards a second and the driver's memory, for shards of one image that costs nothing to draw.

`python benchmarks/driver.py [--shards N] [--model MODEL] [--root FOLDER]` commits 1,000 shards in
this process, then N through Ray into an empty folder, and prints one JSON line a measurement.
The model is only named in the spec, never loaded; files and records are real.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from factory.cluster import WAVE
from factory.diffusion.sampler import Drawn
from factory.generate.prepare import Prepared, open_root, prepare
from factory.generate.run import run
from factory.generate.shard import MakeShard
from factory.plan import Candidate
from factory.records import Device
from factory.resolve import Resolved
from factory.spec import GenerateSpec

BARE_SHARDS = 1_000
SECONDS_BETWEEN_LOOKS = 0.5
MIB = 2**20


class BlackImages:
    """A sampler that draws nothing."""

    device = Device(kind="none", versions={})

    def __call__(self, batch: Sequence[Candidate]) -> Drawn:
        """Zeros, uint8 [N, 28, 28, 1]."""
        size = len(batch)
        return Drawn(np.zeros((size, 28, 28, 1), np.uint8), ({},) * size, (None,) * size)


class MemoryByWave:
    """Looks at this process's resident memory while a run fills a folder, wave by wave."""

    def __init__(self, root: Path) -> None:
        """Watch the run into `root` until the `with` block ends."""
        self._records = root / "records"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.looks: dict[int, list[float]] = defaultdict(list)
        """Number of the wave -> MiB at each look."""

    def __enter__(self) -> "MemoryByWave":
        """Start to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            # Records lie in folders of 1,000: counting folders costs nothing beside the run.
            folders = len(os.listdir(self._records)) if self._records.exists() else 0
            self.looks[max(folders - 1, 0) * 1_000 // WAVE].append(resident_mib())


def main() -> None:
    """Measure without Ray, then with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=50_000)
    parser.add_argument("--model", default="fashion_mnist")
    parser.add_argument("--root", help="folder to fill; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.root) as folder:
        measure_bare(empty_root(Path(folder, "bare"), args.model, BARE_SHARDS))
        measure_ray(empty_root(Path(folder, "ray"), args.model, args.shards))


def empty_root(root: Path, model: str, num_shards: int) -> Prepared:
    """A dataset to make, of shards of one image."""
    spec = GenerateSpec.model_validate(
        {
            "generator": {"model": model},
            "num_images": num_shards,
            "shard_size": 1,
            "batch_size": 1,
            "threads": 1,
        }
    )
    return prepare(spec, str(root))


def load(resolved: Resolved) -> BlackImages:
    """In place of a model."""
    return BlackImages()


def measure_bare(prepared: Prepared) -> None:
    """Commit every shard in this process, one after the other."""
    opened, _ = open_root(prepared)
    make = MakeShard(opened.resolved, opened.store.url, load)
    started = time.perf_counter()
    for shard in opened.pending():
        make(shard)
    seconds = time.perf_counter() - started
    report("one process without Ray", opened.num_pending, seconds)


def measure_ray(prepared: Prepared) -> None:
    """Make every shard through the stage; its time holds Ray's start and the final inventory."""
    with MemoryByWave(Path(prepared.store.url)) as memory:
        made = run(prepared, load=load)
    report("the stage on Ray", made.made, made.seconds)
    for wave, looks in sorted(memory.looks.items()):
        row = {"wave": wave, "looks": len(looks), "driver_mib_min": round(min(looks))}
        row |= {"median": round(statistics.median(looks)), "max": round(max(looks))}
        print(json.dumps(row))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    print(json.dumps({"driver_mib_peak": round(peak), "missing": made.missing}))


def resident_mib() -> float:
    """Memory of this process that lies in RAM, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def report(way: str, num_shards: int, seconds: float) -> None:
    """One JSON line."""
    rate = round(num_shards / seconds, 1)
    line = {"way": way, "shards": num_shards, "seconds": round(seconds, 1)}
    print(json.dumps(line | {"shards_per_second": rate}), flush=True)


if __name__ == "__main__":
    main()
