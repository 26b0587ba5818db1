"""A generator that saw the test images is refused; what it saw is said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from factory.classify.leakage import count_overlap, describe, refuse_leaks, seen_in_words
from factory.resolve import resolve
from factory.sources.open import open_source
from factory.spec import Classifier, SourceSpec, SpecError
from factory.vision.classifier import build_classifier
from tests.conftest import CLASS_NAMES
from tests.datasets import small_spec


def seen(source, **more):
    return {
        "name": source.name,
        "split": source.split,
        "num_images": len(source),
        "digest": source.digest,
        **more,
    }


def test_generator_that_saw_the_test_images_is_refused(striped_files):
    test = open_source(SourceSpec(path=striped_files["test"]))
    leaky = replace(test, trained_on=seen(test))
    with pytest.raises(SpecError, match=r"test.*drawn"):
        refuse_leaks(SourceSpec(path=striped_files["test"]), test, {"drawn": leaky.trained_on})


def test_generator_that_saw_them_before_it_went_on_with_others_is_refused(striped_files):
    train, test = (open_source(SourceSpec(path=striped_files[name])) for name in ("real", "test"))
    leaky = replace(train, trained_on=seen(train, before=seen(test)))
    with pytest.raises(SpecError, match="drawn"):
        refuse_leaks(SourceSpec(path=striped_files["test"]), test, {"drawn": leaky.trained_on})


def test_part_of_a_test_split_is_known_by_the_whole(striped_files):
    whole = open_source(SourceSpec(path=striped_files["test"]))
    part = open_source(SourceSpec(path=striped_files["test"], num_images=30))
    leaky = replace(whole, trained_on=seen(whole))
    with pytest.raises(SpecError, match="drawn"):
        refuse_leaks(
            SourceSpec(path=striped_files["test"], num_images=30),
            part,
            {"drawn": leaky.trained_on},
        )


def test_generator_of_the_test_split_is_known_by_name_where_the_content_is_another(striped_files):
    test = open_source(SourceSpec(path=striped_files["test"]))
    most = test.take(np.arange(100))
    leaky = replace(most, trained_on=seen(most))
    with pytest.raises(SpecError, match="drawn"):
        refuse_leaks(SourceSpec(path=striped_files["test"]), test, {"drawn": leaky.trained_on})


def test_converted_test_images_are_known_by_what_their_files_hold(striped_files):
    test = open_source(SourceSpec(path=striped_files["test"]))
    leaky = replace(test, trained_on={**seen(test), "name": "elsewhere"})
    small = {"path": striped_files["test"], "image_size": 4, "channels": 3}
    converted = open_source(SourceSpec(**small))
    with pytest.raises(SpecError, match="drawn"):
        refuse_leaks(SourceSpec(**small), converted, {"drawn": leaky.trained_on})


def test_dataset_whose_filter_saw_the_test_images_is_refused(tmp_path, tiny_model, striped_files):
    test = open_source(SourceSpec(path=striped_files["test"]))
    folder = tmp_path / "classifier"
    build_classifier(Classifier(width=4), channels=3, class_names=CLASS_NAMES, seed=0).save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"trained_on": seen(test)}))
    agreement = {"kind": "agreement", "model": str(folder)}
    drawn = resolve(small_spec(tiny_model, filters=[agreement])).root_spec.trained_on
    with pytest.raises(SpecError, match=r"drawn.*a classifier that chose its images"):
        refuse_leaks(SourceSpec(path=striped_files["test"]), test, {"drawn": drawn})


def test_generator_of_the_training_images_passes(striped_files):
    train, test = (open_source(SourceSpec(path=striped_files[name])) for name in ("real", "test"))
    honest = replace(train, trained_on=seen(train))
    refuse_leaks(SourceSpec(path=striped_files["test"]), test, {"drawn": honest.trained_on})


def test_overlap_is_counted_and_much_of_it_refused(striped_files):
    train, test = (open_source(SourceSpec(path=striped_files[name])) for name in ("real", "test"))
    none = count_overlap(test, train, {})
    assert none == {"real": 0}
    mixed = replace(train, images=np.concatenate([train.images[:-5], test.images[:5]]))
    assert count_overlap(test, train, {"real": mixed})["synthetic.real"] == 5
    with pytest.raises(SpecError, match="5 of 120"):
        count_overlap(test, mixed, {})


def test_description_gives_both_numbers(striped_files):
    train = open_source(SourceSpec(path=striped_files["real"]))
    text = describe(replace(train, trained_on=seen(train)), owner="this arm", num_real=40)
    # The file's name, and no split: it has none.
    assert text == f"the generator saw 120 real images ({train.name}); this arm has 40"
    embedded = replace(train, name="fashion_mnist_small", split="test")
    assert seen_in_words(seen(embedded)) == "120 real images (fashion_mnist_small test)"
    assert "not known" in describe(train, owner="this arm", num_real=40)


def test_a_model_before_that_says_nothing_is_named_as_unknown(striped_files):
    train = open_source(SourceSpec(path=striped_files["real"]))
    words = seen_in_words(seen(train, before={"name": "model x"}))
    assert words.endswith("and whatever model x had seen, which is not known")
