"""A tiny real source: 8x8 images of three kinds."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from factory.images import encode_png
from factory.spec import FitSpec

CLASS_NAMES = ("flat", "rows", "columns")


def write_source(path, *, num_images=120, size=8, names=CLASS_NAMES, seed=0):
    """A Parquet file of a source that `fit` can train on."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % len(names)
    images = generator.integers(0, 60, (num_images, size, size, 1), dtype=np.uint8)
    images[labels == 1, ::2] += 150
    images[labels == 2, :, ::2] += 150
    cells = [{"bytes": encode_png(i, mark=None, compress_level=6), "path": None} for i in images]
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    table = pa.table({"image": cells, "label": labels})
    info = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": info}), path)
    return str(path)


def tiny_fit(folder, **fields):
    """A fit of a few steps; `fields` replace whole sections, those of `training` one by one."""
    training = {"num_images": 96, "batch_size": 16, "learning_rate": 2e-3, "mixed_precision": "no"}
    tree = {
        "name": "tiny",
        "source": {"path": write_source(folder / "train.parquet")},
        "held_out": {"path": write_source(folder / "test.parquet", seed=1)},
        "shape": {"block_out_channels": [16, 32], "layers_per_block": 1, "patch_size": 1},
        "metric": {
            "every_images": 48,
            "num_samples": 100,
            "num_inference_steps": 2,
            "classifier_images": 1_000,
        },
        "threads": 1,
        **fields,
        "training": training | fields.pop("training", {}),
    }
    return FitSpec.model_validate(tree)
