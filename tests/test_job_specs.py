"""Every shipped spec is one, and says what it makes, how long it takes, what number to expect."""

from pathlib import Path

import pytest

from factory.resolve import resolve
from factory.spec import (
    AdaptSpec,
    ClassifySpec,
    EvaluateSpec,
    FitSpec,
    GenerateSpec,
    PublishSpec,
    TuneSpec,
    WritePromptsSpec,
    load_spec,
)

SPECS = sorted((Path(__file__).parents[1] / "jobs" / "specs").glob("*.yaml"))
KINDS = {
    "adapt": AdaptSpec,
    "classify": ClassifySpec,
    "evaluate": EvaluateSpec,
    "fit": FitSpec,
    "generate": GenerateSpec,
    "prompts": WritePromptsSpec,
    "publish": PublishSpec,
    "tune": TuneSpec,
}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_spec_is_valid_and_headed(path):
    load_spec(KINDS[path.stem.split("_")[0]], path)
    header = path.read_text()
    for line in ("# Makes:", "# Takes:", "# Number:"):
        assert header.count(line) == 1


def test_spelled_out_default_is_the_default():
    path = next(path for path in SPECS if path.stem == "generate_fashion_mnist")
    spelled, default = resolve(load_spec(GenerateSpec, path)), resolve(GenerateSpec())
    assert spelled.fingerprint == default.fingerprint
    assert spelled.plan == default.plan
