"""Whether the real images of a `near_real` filter can calibrate it, known without any network.

N and R images, H height, W width, C channels.
"""

import numpy as np
from numpy.typing import NDArray

from factory.images import pixel_digest
from factory.sources.decode import size_in_words
from factory.spec import SpecError


def refuse_misfits(
    real: NDArray[np.uint8], held_out: NDArray[np.uint8], *, field: str = "filters.near_real"
) -> None:
    """Refuse images of two shapes, and held-out images that are among the real ones.

    Args:
        real: uint8 [R, H, W, C].
        held_out: uint8 [N, H, W, C].
        field: where the spec names the filter, for errors.

    Raises:
        SpecError: with both shapes, or with the number of shared images.
    """
    if real.shape[1:] != held_out.shape[1:]:
        raise SpecError(
            f"{field}: real has images {size_in_words(real.shape[1:])}, held_out "
            f"{size_in_words(held_out.shape[1:])}; set image_size and channels of both"
        )
    seen = {pixel_digest(image) for image in real}
    shared = sum(pixel_digest(image) in seen for image in held_out)
    if shared:
        raise SpecError(
            f"{field}.held_out: {shared} of its {len(held_out)} images are in real too, "
            "and would put the threshold at 0; give images that the generator has not seen"
        )
