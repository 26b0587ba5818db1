"""What the mathematics of fidelity costs: seconds of each distance, memory of precision and recall.

`python benchmarks/fidelity.py [--threads N] [--device DEVICE] [--features D] [--samples N]` runs on
random normal features and prints one JSON line a measurement, after one with the versions. Memory
is the highest of the process on the CPU, above what it was before; the features that the caller
holds are not in it.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from factory.metrics.frechet import Moments, frechet_at_infinity, frechet_distance, moments
from factory.metrics.kernel import kernel_distance
from factory.metrics.precision_recall import neighbourhoods, precision_recall

NEIGHBOURS = 3
KERNEL_SAMPLES = 10_000
KIB_IN_MIB = 1024

ResultT = TypeVar("ResultT")


def main() -> None:
    """Measure precision and recall first, since the process's highest memory never falls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of precision and recall; default: cpu")
    parser.add_argument("--features", type=int, default=1_280)
    parser.add_argument("--samples", type=int, default=20_000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(versions(args.threads)), flush=True)
    real, synthetic = (random_features(args.samples, args.features, seed) for seed in (0, 1))
    measure_precision_recall(real, synthetic, torch.device(args.device))
    measure_kernel(real[:KERNEL_SAMPLES], synthetic[:KERNEL_SAMPLES])
    measure_frechet(real, synthetic)
    for size in (1_280, 2_048):
        measure_trace(size)


def versions(threads: int) -> dict[str, object]:
    """What the figures hold for."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
        "threads": threads,
    }


def random_features(num_samples: int, size: int, seed: int) -> NDArray[np.float32]:
    """Normal and independent, [N, D]."""
    return np.random.default_rng(seed).standard_normal((num_samples, size), dtype=np.float32)


def measure_precision_recall(
    real: NDArray[np.float32], synthetic: NDArray[np.float32], device: torch.device
) -> None:
    """The real set's balls, then both values for one synthetic set."""
    before = peak_mib()
    balls, seconds_real = timed(lambda: neighbourhoods(real, NEIGHBOURS, device=device))
    _, seconds = timed(lambda: precision_recall(balls, synthetic))
    memory: dict[str, object] = {"cpu_mib_above_features": round(peak_mib() - before)}
    name = "cpu"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        memory["gpu_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    report("balls of the real set", real.shape, seconds_real, device=name)
    report("precision and recall of a synthetic set", real.shape, seconds, device=name, **memory)


def measure_kernel(real: NDArray[np.float32], synthetic: NDArray[np.float32]) -> None:
    """In subsets of the default size."""
    result, seconds = timed(lambda: kernel_distance(real, synthetic, confidence=0.95, seed=0))
    report("kernel distance", real.shape, seconds, subsets=result.num_subsets)


def measure_frechet(real: NDArray[np.float32], synthetic: NDArray[np.float32]) -> None:
    """Moments of one set, and the distance at infinitely many samples."""
    _, seconds = timed(lambda: moments(real))
    report("moments of one set", real.shape, seconds)
    _, seconds = timed(lambda: frechet_at_infinity(real, synthetic, seed=0))
    report("Frechet distance at infinity", real.shape, seconds)


def measure_trace(size: int) -> None:
    """The distance of given moments: Cholesky, one product, eigenvalues."""
    a, b = (random_moments(size, seed) for seed in (0, 1))
    _, seconds = timed(lambda: frechet_distance(a, b))
    report("Frechet distance of given moments", (a.num_samples, size), seconds)


def random_moments(size: int, seed: int) -> Moments:
    """Of twice as many samples as features."""
    return moments(random_features(2 * size, size, seed))


def timed(work: Callable[[], ResultT]) -> tuple[ResultT, float]:
    """The result, and the seconds of one call."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def peak_mib() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_IN_MIB


def report(what: str, shape: tuple[int, ...], seconds: float, **more: object) -> None:
    """One JSON line."""
    line = {"what": what, "samples": shape[0], "features": shape[1]}
    print(json.dumps({**line, "seconds": round(seconds, 2), **more}), flush=True)


if __name__ == "__main__":
    main()
