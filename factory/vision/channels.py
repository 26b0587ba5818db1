"""Grey images as RGB and RGB images as grey, for networks and measures that know only one.

N images, H height, W width, C channels (1 grey, 3 RGB).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_channels(images: NDArray[np.uint8], channels: Literal[1, 3]) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C] -> uint8 [N, H, W, channels].

    Grey is repeated; RGB becomes its ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B, rounded, as
    Pillow computes it and as sources with `channels: 1` have it.

    Raises:
        ValueError: if C is neither 1 nor 3, or the pixels are not uint8.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}; give uint8 [N, H, W, 1 or 3]"
        )
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return images.repeat(3, axis=3)
    if not len(images):
        return images[..., :1]
    # One below the other they are one picture.
    tall = Image.fromarray(images.reshape(-1, *images.shape[2:]))
    return np.asarray(tall.convert("L")).reshape(*images.shape[:3], 1)
