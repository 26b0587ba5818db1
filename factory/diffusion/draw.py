"""The sampler of a resolved spec: one `match` picks the system that draws."""

import torch

from factory.diffusion.device import pick_device
from factory.diffusion.sampler import Resized, Sampler
from factory.resolve import Resolved
from factory.spec import DdpmGenerator, DitGenerator, EdmGenerator, TextToImageGenerator


def load_sampler(resolved: Resolved) -> Sampler:
    """The sampler of a resolved spec on this process's device, with its number of CPU threads.

    Raises:
        OSError: if the model cannot be read here.
        SpecError: if the source of a reconstruction cannot be read here.
    """
    output = resolved.spec.output
    torch.set_num_threads(resolved.spec.threads)
    sampler = _load(resolved)
    if output.image_size is None:
        return sampler
    return Resized(sampler, output.image_size, resample=output.resample)


def _load(resolved: Resolved) -> Sampler:
    # Each system is imported where it is picked: none pays for the others' libraries.
    spec, device = resolved.spec, pick_device()
    match spec.generator:
        case EdmGenerator() as generator:
            from factory.diffusion.edm_sampler import EdmSampler

            folder = str(resolved.model.local())
            return EdmSampler(folder, generator, device, spec.reconstruct)
        case DdpmGenerator() as generator:
            from factory.diffusion.ddpm_sampler import DdpmSampler

            folder = str(resolved.model.local())
            return DdpmSampler(folder, generator, device, spec.reconstruct)
        case DitGenerator():
            from factory.diffusion.dit import DitSampler

            return DitSampler(resolved, device)
        case TextToImageGenerator():
            from factory.diffusion.text_to_image import TextSampler

            return TextSampler(resolved, device)
