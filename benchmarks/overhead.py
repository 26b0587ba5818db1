"""What the factory costs: images/s of `jobs/generate.py` over images/s of a bare loop.

`python benchmarks/overhead.py [--images N] [--pairs N] [--model MODEL]` runs both in turn, each
in a process of its own, and prints one JSON line a pair and one with the medians. The bare loop
draws the same images in the same batches with the same threads, encodes them and writes Parquet
files, without Ray, records, checks or overlap. Two rates are compared:

- steady: from the end of the first shard to the end of the last (a record's time of modification in
  the job), so that both have loaded and warmed the model and only the work between counts;
- whole: from the start of the process to its end, imports, Ray and the final report included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory.diffusion.draw import load_sampler
from factory.images import TRAINED_ALGORITHMIC_MEDIA, encode_png
from factory.plan import Candidate, Plan
from factory.resolve import Resolved, resolve
from factory.shards.parquet import write_parquet
from factory.shards.sample import Sample
from factory.spec import GenerateSpec, load_spec

JOB = Path(__file__).parents[1] / "jobs" / "generate.py"


class Rates(NamedTuple):
    """Images a second."""

    steady: float
    whole: float


def main() -> None:
    """Compare, or be the bare loop of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", default="fashion_mnist")
    parser.add_argument("--bare", metavar="FOLDER", help="run the bare loop alone, into FOLDER")
    args = parser.parse_args()
    overrides = [f"generator.model={args.model}", f"num_images={args.images}"]
    resolved = resolve(load_spec(GenerateSpec, None, overrides))
    if resolved.plan.num_shards < 2:
        parser.error(f"--images {args.images} is less than 2 shards; give more")
    if args.bare:
        draw_shards(resolved, Path(args.bare))
    else:
        compare(resolved.plan, args.pairs, args.model, overrides)


def compare(plan: Plan, pairs: int, model: str, overrides: Sequence[str]) -> None:
    """Run job and bare loop in turn; every second pair in the other order, against drift."""
    ratios: list[Rates] = []
    for pair in range(pairs):
        with tempfile.TemporaryDirectory() as folder:
            job, bare = Path(folder, "job"), Path(folder, "bare")
            words = ["--bare", bare, "--images", plan.num_images, "--model", model]
            commands = {
                job: [JOB, *overrides, "--root", job],
                bare: [__file__, *words],
            }
            order = [job, bare] if pair % 2 == 0 else [bare, job]
            seconds = {way: run_command(commands[way]) for way in order}
            rates = {
                "job": Rates(steady_rate(plan, job, "records/*/*"), plan.num_images / seconds[job]),
                "bare": Rates(steady_rate(plan, bare, "*"), plan.num_images / seconds[bare]),
            }
        ratios.append(Rates(*(a / b for a, b in zip(rates["job"], rates["bare"], strict=True))))
        line = {"pair": pair} | {way: rounded(rate, 2) for way, rate in rates.items()}
        print(json.dumps(line | {"job / bare": rounded(ratios[-1], 3)}), flush=True)
    median = Rates(*(statistics.median(column) for column in zip(*ratios, strict=True)))
    print(json.dumps({"images": plan.num_images, "median job / bare": rounded(median, 3)}))


def run_command(words: Sequence[object]) -> float:
    """Run a Python script to its end; wall-clock seconds of its process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def steady_rate(plan: Plan, folder: Path, pattern: str) -> float:
    """Images a second between the first and the last of the files, one of which ends each shard."""
    ends = sorted(path.stat().st_mtime_ns for path in folder.glob(pattern))
    assert len(ends) == plan.num_shards
    return (plan.num_images - plan.quota(0)) / ((ends[-1] - ends[0]) / 1e9)


def draw_shards(resolved: Resolved, folder: Path) -> None:
    """The bare loop: load once; draw, encode and write one shard after the other."""
    plan = resolved.plan
    folder.mkdir()
    sampler = load_sampler(resolved)
    for shard in plan.shards():
        quota, samples = plan.quota(shard), []
        for start in range(0, quota, plan.batch_size):
            batch = plan.batch(shard, start // plan.batch_size)
            images = sampler(batch).images
            wanted = list(zip(batch, images, strict=True))[: quota - start]
            samples += [bare_sample(resolved, *one) for one in wanted]
        shard_bytes = write_parquet(samples, plan.class_names)
        (folder / f"{shard:05d}.parquet").write_bytes(shard_bytes)


def bare_sample(resolved: Resolved, candidate: Candidate, image: NDArray[np.uint8]) -> Sample:
    """Encode one image, uint8 [H, W, C], as the stage does; without provenance."""
    assert candidate.label is not None
    assert candidate.class_name is not None
    level = resolved.spec.output.compress_level
    png = encode_png(image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=level)
    return Sample(candidate.key, png, candidate.label, candidate.class_name, provenance={})


def rounded(rates: Rates, digits: int) -> dict[str, float]:
    """For a line of JSON."""
    return {name: round(value, digits) for name, value in rates._asdict().items()}


if __name__ == "__main__":
    main()
