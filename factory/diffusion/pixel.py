"""What every diffusion model in pixel space is made of, in diffusers' folder format.

N samples, C channels, H height, W width, K classes.
"""

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar, Unpack

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DModel

from factory.spec import DenoiserShape


class PixelPipeline(DiffusionPipeline):
    """A denoiser, a scheduler and the class names, saved and loaded as a diffusers folder.

    `model_index.json` holds beside the parts: `id2label` (label as text -> class name; label K is
    the null class; empty: the model is unconditional and its network takes no labels), `name` (as
    provenance calls it), `image_size`, `patch_size`, `label_dropout` (0: takes no guidance), and
    `trained_on` (digest, split and number of the real images seen).
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        id2label: dict[str, str] | None = None,
        image_size: int = 32,
        name: str = "model",
        patch_size: int = 1,
        label_dropout: float = 0.0,
        trained_on: dict | None = None,
    ) -> None:
        """Join the parts; everything but the two modules lands in `self.config`.

        diffusers takes arguments without a default for modules, so the others have one.
        """
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            id2label=id2label,
            image_size=image_size,
            name=name,
            patch_size=patch_size,
            label_dropout=label_dropout,
            trained_on=trained_on,
        )


class Facts(TypedDict):
    """What a new model is told beside its shape."""

    name: str
    class_names: tuple[str, ...]
    """In label order; empty: unconditional."""
    image_size: int
    """px."""
    channels: int
    label_dropout: float
    trained_on: dict[str, Any] | None


PipelineT = TypeVar("PipelineT", bound=PixelPipeline)


def assemble(
    kind: type[PipelineT],
    scheduler: SchedulerMixin,
    shape: DenoiserShape,
    **facts: Unpack[Facts],
) -> PipelineT:
    """An untrained model; its weights come from torch's global generator (see `seeded`).

    Raises:
        ValueError: if the image size is no multiple of the patch size times 2 per further level.
    """
    names = facts["class_names"]
    unet = _new_unet(
        shape,
        image_size=facts["image_size"],
        channels=facts["channels"],
        num_class_embeds=len(names) + 1 if names else None,
    )
    return kind(
        unet,
        scheduler,
        id2label={str(label): class_name for label, class_name in enumerate(names)},
        image_size=facts["image_size"],
        name=facts["name"],
        patch_size=shape.patch_size,
        label_dropout=facts["label_dropout"],
        trained_on=facts["trained_on"],
    )


def _new_unet(
    shape: DenoiserShape, *, image_size: int, channels: int, num_class_embeds: int | None
) -> UNet2DModel:
    step = shape.patch_size * 2 ** (len(shape.block_out_channels) - 1)
    if image_size % step:
        raise ValueError(
            f"image_size is {image_size}; patch_size {shape.patch_size} and "
            f"{len(shape.block_out_channels)} levels need a multiple of {step}"
        )
    levels = range(len(shape.block_out_channels))
    attends = [level in shape.attention_levels for level in levels]
    width = channels * shape.patch_size**2
    return UNet2DModel(
        sample_size=image_size // shape.patch_size,
        in_channels=width,
        out_channels=width,
        block_out_channels=shape.block_out_channels,
        layers_per_block=shape.layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        attention_head_dim=32,
        norm_num_groups=8,
        dropout=shape.dropout,
        num_class_embeds=num_class_embeds,
    )


Raw = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""A network as it was trained: (x [N, C, H, W], its level of noise as the network takes it [N],
labels int64 [N] or None of an unconditional one) -> [N, C, H, W]."""


class RawNetwork(torch.nn.Module):
    """The U-Net, seeing each patch of pixels as channels of one position."""

    def __init__(self, unet: UNet2DModel, patch_size: int) -> None:
        """Wrap `unet`; with `patch_size` 1 it sees pixels."""
        super().__init__()
        self.unet = unet
        self.patch_size = patch_size

    def forward(
        self, x: torch.Tensor, level: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """x [N, C, H, W] of about unit variance, level [N], labels as `Raw` says -> [N, C, H, W].

        `level` is what the network was told of the noise in training: EDM's c_noise, or DDPM's t.
        """
        x = F.pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.unet(x, level, labels).sample, self.patch_size)
