"""What a text-to-image pipeline can be asked for: schedulers, and starts from images.

Nothing here needs torch, so that a spec can be refused without it.
"""

from collections.abc import Mapping
from typing import get_args

from factory.spec import Reconstruction, SpecError, TextScheduler, TextToImageGenerator

SCHEDULERS: Mapping[TextScheduler, str] = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm_solver_multistep": "DPMSolverMultistepScheduler",
    "dpm_solver_singlestep": "DPMSolverSinglestepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2_ancestral": "KDPM2AncestralDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Name in a spec -> diffusers' class."""
_WITHOUT_EXTRAS = "LatentConsistencyModelPipeline"
"""Its guidance is an input of the network, and its image-to-image pipeline counts strength in other
steps than the rest."""
_SIDE = 8
"""px: the pipelines refuse other sides, and would resize the images that they start from."""


def scheduler_class(generator: TextToImageGenerator, own: str) -> str:
    """diffusers' class that draws: the named one, else the model's own.

    Args:
        generator: what the spec says.
        own: class of the model's own scheduler, as its model_index.json names it.

    Raises:
        SpecError: if nothing is named and the model's own is none of `SCHEDULERS`.
    """
    if generator.scheduler is not None:
        return SCHEDULERS[generator.scheduler]
    if own not in SCHEDULERS.values():
        raise SpecError(
            f"generator.scheduler: none given, and {own}, which {generator.model} brings, was not "
            "tested with one random stream an image; "
            f"give one of {', '.join(get_args(TextScheduler))}"
        )
    return own


def check_pipeline(generator: TextToImageGenerator, pipeline: str, *, has_start: bool) -> None:
    """Check that a pipeline of that class takes what is asked of it.

    Raises:
        SpecError: if it takes no negative prompt, or starts from noise alone.
    """
    if pipeline != _WITHOUT_EXTRAS:
        return
    if generator.negative_prompt:
        raise SpecError(
            f"generator.negative_prompt: is {generator.negative_prompt!r}, but {generator.model} "
            f"is a {pipeline}, which takes none; leave it out"
        )
    if has_start:
        raise SpecError(
            f"reconstruct: {generator.model} is a {pipeline}, which has strengths of its own; "
            "give a Stable Diffusion model, or leave reconstruct out"
        )


def check_sides(generator: TextToImageGenerator, start: tuple[int, ...] | None) -> None:
    """Check height and width of what is drawn.

    Args:
        generator: what the spec says.
        start: those of the images that it starts from, px.

    Raises:
        SpecError: if one is given without the other, they are not those of the images that it
            starts from, or no multiples of 8.
    """
    given = (generator.height, generator.width)
    if (given[0] is None) != (given[1] is None):
        raise SpecError(f"generator.height, generator.width: are {given}; give both or none")
    if start is not None and given not in ((None, None), start):
        raise SpecError(
            f"generator.height, generator.width: are {given}, but images of reconstruct.source "
            f"are {start}; leave both out, or give reconstruct.source.image_size"
        )
    odd = [side for side in start or given if side is not None and side % _SIDE]
    if odd:
        field = "generator.height, generator.width" if start is None else "reconstruct.source"
        raise SpecError(
            f"{field}: sides of {odd} px are no multiples of {_SIDE}, which the pipelines draw"
        )


def steps_of(start: Reconstruction, num_inference_steps: int) -> tuple[int, int]:
    """Fewest and most steps that images take from where `start` noises them.

    As in diffusers' image-to-image pipelines: strength times all steps, rounded down.

    Raises:
        SpecError: if a strength is not within [0, 1] or takes no step, or a pair does not rise.
    """
    strength = start.strength
    assert strength is not None, "the spec holds strength for a text-to-image model"
    low, high = strength if isinstance(strength, tuple) else (strength, strength)
    if not 0 <= low <= high <= 1 or int(num_inference_steps * low) < 1:
        raise SpecError(
            f"reconstruct.strength: is {strength}; give a share of the {num_inference_steps} "
            f"steps from {1 / num_inference_steps:.4g} (one step) to 1, or a pair of them that "
            "rises"
        )
    return int(num_inference_steps * low), int(num_inference_steps * high)
