"""The device that an actor computes on, and the kind and versions that its bytes depend on."""

from importlib.metadata import version

import torch

from factory.records import Device

_PACKAGES = ("factory", "torch", "diffusers", "numpy", "pillow", "pyarrow")


def pick_device() -> torch.device:
    """The first CUDA device that this process may see, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe(device: torch.device, *more_packages: str) -> Device:
    """Kind of device and versions, as they stand in a record.

    Args:
        device: what computes.
        more_packages: those that draw beside the usual ones.
    """
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return Device(
        kind=kind, versions={name: version(name) for name in (*_PACKAGES, *more_packages)}
    )
