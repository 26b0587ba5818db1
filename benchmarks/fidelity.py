"""What fidelity costs: seconds and memory of each measure, images/s of features.

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
import torch.nn.functional as F
from numpy.typing import NDArray

from factory.metrics.frechet import Moments, frechet_at_infinity, frechet_distance, moments
from factory.metrics.kernel import kernel_distance
from factory.metrics.precision_recall import neighbourhoods, precision_recall
from factory.spec import Extractor
from factory.vision.extractor_config import pin_extractor
from factory.vision.extractors import load_extractor
from factory.vision.pretrained import load_lite0

NEIGHBOURS = 3
KERNEL_SAMPLES = 10_000
BATCH, PAIRS = 16, 3
KIB_IN_MIB = 1024

ResultT = TypeVar("ResultT")


def main() -> None:
    """Measure precision and recall first, since the process's highest memory never falls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of precision and recall; default: cpu")
    parser.add_argument("--features", type=int, default=1_280)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=256, help="looked at, in each of three pairs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(versions(args.threads)), flush=True)
    real, synthetic = (random_features(args.samples, args.features, seed) for seed in (0, 1))
    measure_precision_recall(real, synthetic, torch.device(args.device))
    measure_kernel(real[:KERNEL_SAMPLES], synthetic[:KERNEL_SAMPLES])
    measure_frechet(real, synthetic)
    for size in (1_280, 2_048):
        measure_trace(size)
    measure_extractor(args.images, torch.device(args.device))


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
    report("Fréchet distance at infinity", real.shape, seconds)


def measure_trace(size: int) -> None:
    """The distance of given moments: Cholesky, one product, eigenvalues."""
    a, b = (random_moments(size, seed) for seed in (0, 1))
    _, seconds = timed(lambda: frechet_distance(a, b))
    report("Fréchet distance of given moments", (a.num_samples, size), seconds)


def random_moments(size: int, seed: int) -> Moments:
    """Of twice as many samples as features."""
    return moments(random_features(2 * size, size, seed))


def measure_extractor(num_images: int, device: torch.device) -> None:
    """Images/s of EfficientNet-Lite0 as extractor over those of a plain loop, in pairs."""
    images = np.random.default_rng(0).integers(0, 256, (num_images, 28, 28, 3), dtype=np.uint8)
    extractor = load_extractor(pin_extractor(Extractor()), device)
    network = load_lite0().eval().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for _ in range(PAIRS):
        _, seconds = timed(lambda: extractor(images))
        _, bare = timed(lambda: look_plainly(network, images, device))
        shape = (num_images, extractor.num_features)
        rate = round(num_images / seconds, 1)
        report(
            "extractor", shape, seconds, images_per_second=rate, over_bare=round(bare / seconds, 3)
        )


@torch.inference_mode()
def look_plainly(
    network: torch.nn.Module, images: NDArray[np.uint8], device: torch.device
) -> NDArray[np.float32]:
    """What anyone would write: resize, normalise, look; batch by batch."""
    seen = []
    for start in range(0, len(images), BATCH):
        x = torch.from_numpy(images[start : start + BATCH]).to(device).permute(0, 3, 1, 2).float()
        x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
        x = ((x - 127) / 128).contiguous(memory_format=torch.channels_last)
        seen.append(network(x).cpu())
    return torch.cat(seen).numpy()


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
