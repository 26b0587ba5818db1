import numpy as np
import pytest

from factory.images import TRAINED_ALGORITHMIC_MEDIA, encode_png, pixel_digest
from factory.shards.sample import Sample

CLASS_NAMES = ("T-shirt/top", "Sneaker", "Ankle boot")


def make_sample(index: int, **changes) -> Sample:
    image = np.random.default_rng(index).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    label = index % len(CLASS_NAMES)
    facts = {
        "key": f"class{label}-00012-{index:06d}",
        "image": encode_png(image, mark=TRAINED_ALGORITHMIC_MEDIA, compress_level=6),
        "label": label,
        "class_name": CLASS_NAMES[label],
        "provenance": {
            "is_synthetic": True,
            "source": "synthetic",
            "candidate": index,
            "shard": 12,
            "seed": 2**63 - 1 - index,
            "model_id": "fashion_mnist",
            "model_revision": None,
            "scheduler": "heun",
            "num_inference_steps": 9,
            "guidance_scale": 1.5,
            "width": 8,
            "height": 8,
            "pixel_sha256": pixel_digest(image),
        },
    }
    return Sample(**facts | changes)


@pytest.fixture(scope="session")
def class_names():
    return CLASS_NAMES


@pytest.fixture(scope="session", name="make_sample")
def sample_maker():
    """A function from an index and changed fields to a sample with all provenance."""
    return make_sample


@pytest.fixture(scope="session")
def samples() -> tuple[Sample, ...]:
    """Three row groups' worth, the last one short."""
    return tuple(make_sample(index) for index in range(250))
