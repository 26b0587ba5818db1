"""Make an embedded source: a small, class-balanced part of Parquet files, in the least bytes.

python -m factory.sources.embed FILE.parquet NUM_IMAGES TARGET.parquet
"""

import io
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from factory.seeds import hash_seed
from factory.sources.open import open_source
from factory.sources.parts import balanced_indices
from factory.spec import SourceSpec

SEED = 0


def embed(file: str, num_images: int, target: str) -> None:
    """Write `num_images` images of `file` to `target`, shuffled, so that no prefix is one class.

    Columns and class names are those that `datasets` knows; `image.path` stays that of `file`.
    """
    source = open_source(SourceSpec(path=file))
    order = np.random.default_rng(hash_seed(SEED, "embed")).permutation(num_images)
    indices = balanced_indices(source, num_images, seed=SEED)[order]
    table = pq.read_table(file).take(pa.array(indices))
    paths = [cell["path"] for cell in table["image"].to_pylist()]
    cells = [
        {"bytes": _png(pixels), "path": path}
        for pixels, path in zip(source.images[indices], paths, strict=True)
    ]
    images = pa.array(cells, table.schema.field("image").type)
    # PNG does not shrink further, and statistics would hold whole images.
    pq.write_table(
        table.set_column(0, "image", images), target, compression="none", write_statistics=False
    )


def _png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    grey = pixels.shape[2] == 1
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


if __name__ == "__main__":
    embed(sys.argv[1], int(sys.argv[2]), sys.argv[3])
