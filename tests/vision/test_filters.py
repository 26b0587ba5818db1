import numpy as np
import pytest
import torch
from PIL import Image

from factory.spec import AgreementFilter, Classifier, ContrastFilter, NearRealFilter, SpecError
from factory.vision.classifier import build_classifier
from factory.vision.filters import load_filter
from factory.vision.labeller import load_labeller
from tests.vision.test_classifier import CLASS_NAMES, train
from tests.vision.test_small_cnn import striped

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A classifier under the name that specs call it by."""
    folder = tmp_path_factory.mktemp("classifier")
    classifier = build_classifier(Classifier(width=4), channels=1, class_names=CLASS_NAMES, seed=0)
    train(classifier, striped(60), num_steps=15)
    classifier.save(folder)
    return {"org/stripes": str(folder)}


def save_images(folder, source):
    """An image folder that `SourceSpec` reads."""
    for index, (image, label) in enumerate(zip(source.images, source.labels, strict=True)):
        path = folder / "train" / source.class_names[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    return {"path": str(folder)}


def agreement(min_confidence=0.0):
    return AgreementFilter(kind="agreement", model="org/stripes", min_confidence=min_confidence)


def test_agreement_rejects_other_classes_and_low_confidence(folders):
    images = striped(90, seed=1).images
    labels, confidences = load_labeller(folders["org/stripes"], CPU)(images)
    found = [CLASS_NAMES[label] for label in labels]
    other = [CLASS_NAMES[(label + 1) % 3] for label in labels]
    bound = float(np.median(confidences))
    assert load_filter(agreement(), folders, CPU)(images, found) == [None] * 90
    strict = load_filter(agreement(bound), folders, CPU)
    assert strict(images, found) == ["confidence" if c < bound else None for c in confidences]
    # An image of another class is told so, however sure the labeller is.
    assert strict(images, other) == ["agreement"] * 90


def test_class_that_the_labeller_does_not_know_is_refused(folders):
    with pytest.raises(SpecError, match=r"\['cat', 'dog'\] are no classes .*'rows'"):
        load_filter(agreement(), folders, CPU)(striped(3).images, ["dog", "rows", "cat"])


def test_contrast_rejects_below_the_standard_deviation_of_luma():
    keep = load_filter(ContrastFilter(kind="contrast", min_deviation=8), {}, CPU)
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 2 - 1
    grey = np.stack([128 + checks * size for size in (0, 7, 8, 9)]).astype(np.uint8)[..., None]
    assert keep(grey, [""] * 4) == ["contrast", "contrast", None, None]
    assert keep(grey.repeat(3, axis=3), [""] * 4) == ["contrast", "contrast", None, None]
    # Colours of one luma: no light and dark in them, however far apart red and green are.
    colours = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    colours[0, checks == 1] = (200, 0, 0)
    colours[0, checks == -1] = (0, 102, 0)
    assert keep(colours, [""]) == ["contrast"]
    assert load_filter(ContrastFilter(kind="contrast", min_deviation=0), {}, CPU)(
        grey, [""] * 4
    ) == [None] * 4  # fmt: skip


@pytest.mark.parametrize("features", ["pixels", "org/stripes"])
def test_near_real_filter_opens_its_sources_and_rejects_copies(tmp_path, folders, features):
    real, unseen = striped(60, seed=2), striped(60, seed=3)
    spec = NearRealFilter.model_validate(
        {
            "kind": "near_real",
            "real": save_images(tmp_path / "real", real),
            "held_out": save_images(tmp_path / "held_out", striped(60, seed=4)),
            "features": features,
            "quantile": 0.05,
        }
    )
    near = load_filter(spec, folders, CPU)
    assert near(real.images, [""] * 60) == ["near_real"] * 60
    assert near(unseen.images, [""] * 60).count("near_real") < 20


def test_filters_say_the_same_of_an_image_in_any_company(folders):
    source = striped(90, seed=1)
    names = [CLASS_NAMES[label] for label in source.labels]
    confidences = load_labeller(folders["org/stripes"], CPU)(source.images).confidences
    # Bounds that lie on a value that occurs: one bit more or less would show.
    deviation = float(source.images[2].std(dtype=np.float64))
    for spec in (
        agreement(float(confidences[40])),
        ContrastFilter(kind="contrast", min_deviation=deviation),
    ):
        judge = load_filter(spec, folders, CPU)
        together = judge(source.images, names)
        assert len(set(together)) > 1
        alone = [judge(source.images[i : i + 1], names[i : i + 1])[0] for i in range(90)]
        assert alone == together
