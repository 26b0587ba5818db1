"""Trainings in bfloat16, where the device is made for it."""

import torch

from factory.spec import MixedPrecision


def autocast(device: torch.device, asked: MixedPrecision) -> torch.autocast:
    """A context in which networks on `device` compute as a training asks."""
    is_mixed = pick_precision(device, asked) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_mixed)


def pick_precision(device: torch.device, asked: MixedPrecision) -> str:
    """What `asked` is on `device`: "bf16" or "no", as accelerate calls them."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_native = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return "bf16" if is_native else "no"
