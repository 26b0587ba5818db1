"""Images/s of the factory's sampler against a plain loop of diffusers and the device's limit.

`python benchmarks/generation.py [--model MODEL] [--batches N ...] [--ways WAY ...]` draws with one
EDM model, solver, number of steps and guidance in every way:

- plain: the loop that a user of diffusers writes: float32 as loaded, PIL images, batches of 64;
- plain_compiled: the same through torch.compile;
- float32, bfloat16, compiled (in bfloat16): the factory's sampler, in each of the batch sizes.

It prints one JSON line with versions, device and limit, then one a way and batch size: the median
of N timed repeats, the seconds of the batch before them, which compiles, the rate over that of the
plain loop, and the share of the limit. The limit is the device's FLOP/s over the FLOPs of an
image; the FLOP/s are the maker's for dense bfloat16 where this file knows them, else those of a
large product of matrices.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
import torch.nn.functional as F
from diffusers import EDMDPMSolverMultistepScheduler, UNet2DModel
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from factory.diffusion.device import describe, pick_device
from factory.diffusion.edm import SIGMA_DATA, EdmPipeline
from factory.diffusion.edm_sampler import EdmSampler
from factory.models import ModelFolder, open_model
from factory.seeds import hash_seed
from factory.spec import EdmGenerator

WAYS = ("plain", "plain_compiled", "float32", "bfloat16", "compiled")
PLAIN_BATCH = 64
PEAKS = {"NVIDIA A100": 312e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}
"""How a device's name begins -> its FLOP/s in dense bfloat16."""
PRODUCT = {"cuda": 8_192, "cpu": 1_024}
"""Rows and columns of the matrices whose product measures FLOP/s."""

Draw = Callable[[int], object]
"""Draws that many images."""


class PlainLoop:
    """What anyone would write: the model's network and a scheduler of diffusers, in a loop."""

    def __init__(self, model: ModelFolder, generator: EdmGenerator, device: torch.device) -> None:
        """Load the network as it was saved."""
        pipeline = EdmPipeline.from_pretrained(model.path)
        self.unet: UNet2DModel = pipeline.unet.to(device)
        self._spec = generator
        self._device = device
        self._num_classes = len(model.class_names)
        self._patch_size = pipeline.config["patch_size"]
        side = pipeline.config["image_size"]
        self._shape = (self.unet.config["in_channels"] // self._patch_size**2, side, side)

    @torch.no_grad()
    def __call__(self, num_images: int) -> list[Image.Image]:
        """Draw one batch, classes in turn."""
        spec = self._spec
        scheduler = EDMDPMSolverMultistepScheduler(
            sigma_min=spec.sigma_min,
            sigma_max=spec.sigma_max,
            sigma_data=SIGMA_DATA,
            rho=spec.rho,
        )
        scheduler.set_timesteps(spec.num_inference_steps, device=self._device)
        labels = torch.arange(num_images, device=self._device) % self._num_classes
        x = torch.randn((num_images, *self._shape), device=self._device)
        x = x * scheduler.init_noise_sigma
        for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            scaled = scheduler.scale_model_input(x, t)
            predicted = self._guide(scaled, t, labels, sigma=float(sigma))
            x = scheduler.step(predicted, t, x).prev_sample
        pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(image.squeeze()) for image in pixels]

    def _guide(
        self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor, *, sigma: float
    ) -> torch.Tensor:
        scale = self._spec.guidance_scale
        low, high = self._spec.guidance_interval or (0.0, float("inf"))
        if scale == 1 or not low <= sigma <= high:
            return self._look(x, t, labels)
        null = torch.full_like(labels, self._num_classes)
        both = self._look(torch.cat([x, x]), t, torch.cat([labels, null]))
        with_class, without = both.chunk(2)
        return without + scale * (with_class - without)

    def _look(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = F.pixel_unshuffle(x, self._patch_size)
        return F.pixel_shuffle(self.unet(x, t, labels).sample, self._patch_size)


def main() -> None:
    """Measure every way in every batch size, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fashion_mnist")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance-scale", type=float, default=1.5)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1_024])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--images", type=int, default=1_024, help="a repeat, in whole batches")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(args.threads)
    device = pick_device()
    fields = {"num_inference_steps": args.steps, "guidance_scale": args.guidance_scale}
    generator = EdmGenerator.model_validate({"model": args.model, **fields})
    model = open_model(generator)
    limit = tell_limit(PlainLoop(model, generator, device), generator, device)
    plain_rate: float | None = None
    for way in args.ways:
        for batch in [PLAIN_BATCH] if way.startswith("plain") else sorted(args.batches):
            draw = load(way, model, generator, device)
            row = measure(draw, batch, args.images, args.repeats, device)
            if way == "plain":
                plain_rate = row["images_per_second"]
            if plain_rate is not None:
                row["over_plain"] = row["images_per_second"] / plain_rate
            row["of_limit"] = row["images_per_second"] / limit
            rounded = {name: float(f"{value:.4g}") for name, value in row.items()}
            print(json.dumps({"way": way, "batch": batch, **rounded}), flush=True)


def load(way: str, model: ModelFolder, generator: EdmGenerator, device: torch.device) -> Draw:
    """What draws a batch in one way, with nothing compiled or warm yet."""
    if way.startswith("plain"):
        plain = PlainLoop(model, generator, device)
        if way == "plain_compiled":
            plain.unet.compile()
        return plain
    fast = {"dtype": "float32" if way == "float32" else "bfloat16", "compile": way == "compiled"}
    sampler = EdmSampler(model.path, generator.model_copy(update=fast), device)

    def draw(num_images: int) -> object:
        names = [model.class_names[i % len(model.class_names)] for i in range(num_images)]
        return sampler.draw(names, [hash_seed("generation", i) for i in range(num_images)])

    return draw


def measure(
    draw: Draw, batch: int, num_images: int, num_repeats: int, device: torch.device
) -> dict[str, float]:
    """Images/s of batches in a row, after one that is not counted."""
    _, first = timed(lambda: draw(batch), device)
    num_batches = -(-num_images // batch)
    rates = []
    for _ in range(num_repeats):
        _, seconds = timed(lambda: [draw(batch) for _ in range(num_batches)], device)
        rates.append(num_batches * batch / seconds)
    return {
        "images_per_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "seconds_first": first,
    }


def tell_limit(plain: PlainLoop, generator: EdmGenerator, device: torch.device) -> float:
    """Print what the figures hold for; returns the images/s that the device cannot exceed."""
    seen: list[int] = []
    count = plain.unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with FlopCounterMode(display=False) as flops:
        plain(1)
    count.remove()
    per_image = flops.get_total_flops()
    kind = describe(device).kind
    known = [peak for name, peak in PEAKS.items() if kind.startswith(name)]
    peak = known[0] if known else measure_peak(device)
    line = {
        "device": kind,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("factory", "torch", "diffusers")},
        "model": generator.model,
        "parameters": sum(weights.numel() for weights in plain.unet.parameters()),
        "steps": generator.num_inference_steps,
        "guidance_scale": generator.guidance_scale,
        "evaluations": sum(seen),
        "gflop_per_evaluation": round(per_image / sum(seen) / 1e9, 3),
        "gflop_per_image": round(per_image / 1e9, 3),
        "tflops": round(peak / 1e12, 3),
        "tflops_from": "maker" if known else "a product of matrices, the faster dtype",
        "limit_images_per_second": round(peak / per_image, 1),
    }
    print(json.dumps(line), flush=True)
    return peak / per_image


def measure_peak(device: torch.device) -> float:
    """FLOP/s of a large product of matrices: the best of three, in float32 or bfloat16."""
    size = PRODUCT[device.type]
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones((size, size), dtype=dtype, device=device)
        seconds += [timed(lambda m=matrix: m @ m, device)[1] for _ in range(3)]
    return 2 * size**3 / min(seconds)


def timed(work: Callable[[], object], device: torch.device) -> tuple[object, float]:
    """The result, and the seconds until the device has it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    started = time.perf_counter()
    result = work()
    wait()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
