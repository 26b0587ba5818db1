"""A tiny classifier to look with, and small parts of the embedded real source."""

import pytest

from factory.spec import Classifier, EvaluateSpec, SourceSpec


@pytest.fixture(scope="session")
def looker(tmp_path_factory):
    """Folder of an untrained classifier of the embedded source's classes."""
    from factory.sources.open import open_source
    from factory.vision.classifier import build_classifier

    names = open_source(SourceSpec()).class_names
    folder = tmp_path_factory.mktemp("classifiers") / "looker"
    build_classifier(Classifier(width=4), channels=1, class_names=names, seed=0).save(folder)
    return folder


@pytest.fixture
def small_spec(looker):
    """Make a spec of small parts: 120 real images, 60 held-out ones, and datasets as given."""

    def make(synthetic, **fields):
        settings = {
            "real": SourceSpec(num_images=120),
            "held_out": SourceSpec(split="test", num_images=60),
            "synthetic": synthetic,
            "extractors": [{"kind": "classifier", "model": str(looker)}],
            "classifier": str(looker),
            "detection": None,
        }
        return EvaluateSpec.model_validate(settings | fields)

    return make
