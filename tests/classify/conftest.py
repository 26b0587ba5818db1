"""Sources that a small network tells apart within seconds, and comparisons of them."""

import pytest

from factory.spec import ClassifySpec
from tests.striped import write_source

TRAINING = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.05,
    "mixed_precision": "no",
}


@pytest.fixture(scope="session")
def striped_files(tmp_path_factory):
    """Parquet files of 120 real images, 120 others to test on, and 240 that play the synthetic."""
    folder = tmp_path_factory.mktemp("striped")
    return {
        "real": write_source(folder / "real.parquet"),
        "test": write_source(folder / "test.parquet", seed=1),
        "synthetic": write_source(folder / "synthetic.parquet", seed=2, num_images=240),
    }


@pytest.fixture(scope="session")
def comparison(striped_files):
    """A function that makes a spec; `fields` replace sections, `training` one field at a time."""

    def make(**fields):
        return ClassifySpec.model_validate(
            {
                "real": {"path": striped_files["real"]},
                "test": {"path": striped_files["test"]},
                "synthetic": {"drawn": {"path": striped_files["synthetic"]}},
                "classifier": {"width": 4},
                "num_seeds": 2,
                **fields,
                "training": TRAINING | fields.pop("training", {}),
            }
        )

    return make
