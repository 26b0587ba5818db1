"""Speed and quality of the embedded model by sampler, steps and guidance.

`python benchmarks/samplers.py REAL.parquet [--images N] [--model MODEL]` trains a small classifier
on the real images, draws N images with each setting from the same noise, and prints a Markdown
table: network evaluations an image, images/s in this process, share of images in which the
classifier sees the wanted class, and Frechet distance to the real images in its 64 features
(small is good; not comparable with published FID).
"""

import argparse
import time

import numpy as np
import torch

from factory.diffusion.edm_sampler import EdmSampler
from factory.diffusion.samplers import karras_sigmas
from factory.metrics.frechet import frechet_distance, moments
from factory.models import open_model
from factory.seeds import hash_seed
from factory.sources.open import open_source
from factory.spec import EdmGenerator, SourceSpec
from factory.vision.small_cnn import train_small_cnn

BATCH = 50
CPU = torch.device("cpu")
UNGUIDED = {"guidance_scale": 1.0, "guidance_interval": None}
SETTINGS = [
    {"scheduler": "heun", "num_inference_steps": 9},
    {"scheduler": "euler", "num_inference_steps": 17},
    {"scheduler": "edm_dpm_solver_multistep", "num_inference_steps": 12},
    {"scheduler": "edm_dpm_solver_multistep", "num_inference_steps": 12, "dtype": "bfloat16"},
    {"scheduler": "edm_dpm_solver_multistep", "num_inference_steps": 12, "guidance_scale": 1.25},
    {"scheduler": "edm_dpm_solver_multistep", "num_inference_steps": 12, "guidance_scale": 1.5},
    {
        "scheduler": "edm_dpm_solver_multistep",
        "num_inference_steps": 12,
        "guidance_scale": 1.5,
        "guidance_interval": [0.1, 5.0],
    },
    {"scheduler": "edm_dpm_solver_multistep", "num_inference_steps": 12, "guidance_scale": 2.0},
    {"scheduler": "heun", "num_inference_steps": 9, "guidance_scale": 1.5},
]


def main() -> None:
    """Measure every setting and print its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real")
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--model", default="fashion_mnist")
    args = parser.parse_args()
    torch.set_num_threads(2)
    real = open_source(SourceSpec(path=args.real))
    classifier = train_small_cnn(real, num_images=300_000, seed=0, device=CPU)
    target = moments(classifier.look(real.images)[0])
    print("| setting | evaluations | images/s | agreement | Frechet distance |")
    print("|---|---|---|---|---|")
    for setting in SETTINGS:
        generator = EdmGenerator.model_validate({"model": args.model, **UNGUIDED, **setting})
        sampler = EdmSampler(open_model(generator).path, generator, CPU)
        started = time.perf_counter()
        images, wanted = draw(sampler, args.images)
        rate = args.images / (time.perf_counter() - started)
        features, labels = classifier.look(images)
        distance = frechet_distance(moments(features), target)
        print(
            f"| {describe(generator)} | {evaluations(generator)} | {rate:.1f} "
            f"| {np.mean(labels == wanted):.3f} | {distance:.3f} |",
            flush=True,
        )


def draw(sampler: EdmSampler, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C], classes in turn, and the wanted labels int64 [N]."""
    names = sampler.class_names
    wanted = np.arange(num_images) % len(names)
    seeds = [hash_seed("samplers", index) for index in range(num_images)]
    images = [
        sampler.draw([names[i] for i in wanted[at : at + BATCH]], seeds[at : at + BATCH])
        for at in range(0, num_images, BATCH)
    ]
    return np.concatenate(images), wanted


def evaluations(generator: EdmGenerator) -> int:
    """Evaluations of the network for one image, those of guidance included."""
    steps = generator.num_inference_steps
    once = 2 * steps - 1 if generator.scheduler == "heun" else steps
    if generator.guidance_scale == 1:
        return once
    low, high = generator.guidance_interval or (0.0, float("inf"))
    levels = karras_sigmas(
        steps, sigma_min=generator.sigma_min, sigma_max=generator.sigma_max, rho=generator.rho
    )
    guided = sum(low <= float(level) <= high for level in levels[:-1])
    return once + (2 * guided - 1 if generator.scheduler == "heun" else guided)


def describe(generator: EdmGenerator) -> str:
    """E.g. "heun, 9 steps, guidance 1.5"."""
    text = f"{generator.scheduler}, {generator.num_inference_steps} steps"
    if generator.guidance_scale != 1:
        text += f", guidance {generator.guidance_scale:g}"
    if generator.guidance_interval is not None:
        low, high = generator.guidance_interval
        text += f" where sigma is {low:g} to {high:g}"
    return text + (", bfloat16" if generator.dtype == "bfloat16" else "")


if __name__ == "__main__":
    main()
