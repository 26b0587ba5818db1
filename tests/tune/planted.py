"""A planted objective: an exact function of three parameters, behind the search's interface."""

from factory.tune.tried import Progress, Score

SPACE = {
    "arm.synthetic_ratio": [0.2, 0.4, 0.6, 0.8],
    "generate.generator.guidance_scale": {"low": 1.0, "high": 4.0, "step": 0.5},
    "arm.mix.multiplier": {"low": 1.0, "high": 3.0, "step": 1.0},
}
BEST = {
    "arm.synthetic_ratio": 0.6,
    "generate.generator.guidance_scale": 2.5,
    "arm.mix.multiplier": 2.0,
}


def accuracy(spec):
    """1 at `BEST`, and less with the distance from it in every parameter."""
    ratio = spec.arm.synthetic_ratio - BEST["arm.synthetic_ratio"]
    guidance = spec.generate.generator.guidance_scale - BEST["generate.generator.guidance_scale"]
    multiplier = spec.arm.mix.multiplier - BEST["arm.mix.multiplier"]
    return 1 - ratio**2 - (guidance / 4) ** 2 - (multiplier / 4) ** 2


def train(spec, root, data, images, seed):
    """Half as good at the half of its training."""
    found = accuracy(spec)
    yield Progress(50, found / 2, 0.5)
    yield Score(found, 1.0, f"{spec.arm}{spec.generate.generator}", 90, 90)


def make(spec, root):
    """Draws nothing, and says that it drew what was asked."""
    return 3 * spec.images_per_class
