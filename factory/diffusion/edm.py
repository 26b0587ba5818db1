"""Class-conditional pixel diffusion with EDM preconditioning, in diffusers' folder format.

Symbols follow Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models"
(2022): x noisy image, sigma noise level, D denoised image, F raw network.
N samples, C channels, H height, W width, K classes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, EDMEulerScheduler, UNet2DModel

from factory.spec import DenoiserShape

SIGMA_DATA = 0.5
"""Standard deviation of images in [-1, 1] that EDM's preconditioning assumes."""


class EdmPipeline(DiffusionPipeline):
    """A denoiser, a scheduler and the class names, saved and loaded as a diffusers folder.

    `model_index.json` holds beside the parts: `id2label` (label as text -> class name; label K is
    the null class), `name` (as provenance calls it), `image_size`, `patch_size`, `label_dropout`
    (0: takes no guidance), and `trained_on` (digest, split and number of the real images seen).
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: EDMEulerScheduler,
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


def new_pipeline(
    shape: DenoiserShape,
    *,
    name: str,
    class_names: tuple[str, ...],
    image_size: int,
    channels: int,
    label_dropout: float,
    trained_on: dict | None,
) -> EdmPipeline:
    """An untrained model; its weights come from torch's global generator (see `seeded`).

    Raises:
        ValueError: if `image_size` is no multiple of the patch size times 2 per further level.
    """
    step = shape.patch_size * 2 ** (len(shape.block_out_channels) - 1)
    if image_size % step:
        raise ValueError(
            f"image_size is {image_size}; patch_size {shape.patch_size} and "
            f"{len(shape.block_out_channels)} levels need a multiple of {step}"
        )
    levels = range(len(shape.block_out_channels))
    attends = [level in shape.attention_levels for level in levels]
    width = channels * shape.patch_size**2
    unet = UNet2DModel(
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
        num_class_embeds=len(class_names) + 1,
    )
    return EdmPipeline(
        unet,
        EDMEulerScheduler(sigma_data=SIGMA_DATA),
        id2label={str(i): class_name for i, class_name in enumerate(class_names)},
        image_size=image_size,
        name=name,
        patch_size=shape.patch_size,
        label_dropout=label_dropout,
        trained_on=trained_on,
    )


Raw = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""F of the paper: (x [N, C, H, W], c_noise [N], labels [N]) -> [N, C, H, W]."""


class RawNetwork(torch.nn.Module):
    """F of the paper: the U-Net, seeing each patch of pixels as channels of one position."""

    def __init__(self, unet: UNet2DModel, patch_size: int) -> None:
        """Wrap `unet`; with `patch_size` 1 it sees pixels."""
        super().__init__()
        self.unet = unet
        self.patch_size = patch_size

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W] of about unit variance, c_noise [N], labels int64 [N] -> [N, C, H, W]."""
        x = F.pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.unet(x, c_noise, labels).sample, self.patch_size)


def denoise(
    network: Raw, x: torch.Tensor, sigma: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """D(x; sigma) of EDM, Eq. 7 with the coefficients of its Table 1.

    Args:
        network: F.
        x: noisy images, float32 [N, C, H, W].
        sigma: noise level of each image, float32 [N].
        labels: int64 [N]; K is the null class.

    Returns:
        float32 [N, C, H, W], about [-1, 1].
    """
    level = sigma.view(-1, 1, 1, 1)
    total = level**2 + SIGMA_DATA**2
    c_skip = SIGMA_DATA**2 / total
    c_out = level * SIGMA_DATA / total.sqrt()
    raw = network(x / total.sqrt(), sigma.log() / 4, labels)
    return c_skip * x + c_out * raw.float()
