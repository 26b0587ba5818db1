"""Small sources, in memory and in files."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from factory.sources.source import Source

CLASS_NAMES = ("zebra", "ant", "cow")


def pictures(count, *, size=8, channels=1, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def encode(pixels, kind="PNG", **options):
    encoded = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(encoded, kind, **options)
    return encoded.getvalue()


def write_parquet(path, images, labels, *, names=CLASS_NAMES, as_struct=True, kind="PNG"):
    cells = [
        image if isinstance(image, bytes) else encode(image, kind, lossless=True)
        for image in images
    ]
    if as_struct:
        cells = [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(cells)]
    table = pa.table({"image": cells, "label": pa.array(labels, pa.int64())})
    if names is not None:
        label = {"names": list(names), "_type": "ClassLabel"}
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def in_memory(counts, *, names=CLASS_NAMES):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = np.random.default_rng(1).permutation(len(labels))
    return Source(
        name="made",
        split="train",
        images=pictures(len(labels)),
        labels=labels[order],
        class_names=names,
    )
