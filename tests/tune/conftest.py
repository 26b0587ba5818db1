"""Searches over a tiny model and sources that a small network tells apart."""

import pytest

from factory.spec import TuneSpec
from tests.conftest import save_tiny_model
from tests.striped import CLASS_NAMES, write_source

SPACE = {
    "arm.synthetic_ratio": [0.25, 0.75],
    "generate.generator.guidance_scale": [1.0, 2.0],
    "arm.mix.multiplier": [1.0, 2.0],
}


@pytest.fixture(scope="session")
def striped_search(tmp_path_factory):
    """A function that makes a spec; `fields` replace sections, `generate` one field at a time."""
    folder = tmp_path_factory.mktemp("search")
    model = save_tiny_model(folder / "model", class_names=CLASS_NAMES)
    real = write_source(folder / "real.parquet", num_images=150)
    test = write_source(folder / "test.parquet", seed=1)

    def make(**fields):
        generator = {"model": str(model), "num_inference_steps": 2, "guidance_scale": 1.0}
        generate = {"generator": generator, "batch_size": 10, "threads": 1}
        return TuneSpec.model_validate(
            {
                "real": {"path": real, "channels": 3},
                "validation_fraction": 0.4,
                "test": {"path": test, "channels": 3},
                "classifier": {"width": 4},
                "training": {"num_steps": 30, "batch_size": 16, "learning_rate": 0.05},
                "space": SPACE,
                "confirm": {"top": 2, "num_seeds": 2},
                "num_seeds": 2,
                **fields,
                "generate": generate | fields.pop("generate", {}),
            }
        )

    return make
