"""Load the model to adapt, as it is or with an adapter, the way anyone else would."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.logging import disable_progress_bar

from factory.adapters import AdapterKind


def load_pipeline(
    base: Path, device: torch.device, kind: AdapterKind | None = None, adapter: Path | None = None
) -> StableDiffusionPipeline:
    """The pipeline in folder `base`, in float32 on `device`, with the adapter in a folder.

    Args:
        base: model folder in diffusers' format.
        device: where it computes.
        kind: of the adapter.
        adapter: its folder; None: the model as it is.
    """
    disable_progress_bar()
    folder = adapter if kind == "full" and adapter is not None else base
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    match kind:
        case "textual_inversion":
            pipeline.load_textual_inversion(str(adapter))
        case "lora":
            pipeline.load_lora_weights(str(adapter))
        case "full" | None:
            pass
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
