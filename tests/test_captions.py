from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from factory.captions import ATTRIBUTE_WORDS, caption_words, describe, draw_caption
from factory.spec.text_fit import Captions

CAPTIONS = Captions(
    templates=("a photo of a {attributes} {class_name}", "{class_name}"),
    class_words={"Sneaker": ("sneaker", "shoe")},
)


def picture(rows=slice(4, 28), columns=slice(8, 24), *, grey=255, background=0):
    """A box on an even background, uint8 [32, 32, 1]."""
    image = np.full((32, 32, 1), background, np.uint8)
    image[rows, columns] = grey
    return image


def words_of(image):
    return describe(image[None])[0]


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (picture(grey=60), "dark"),
        (picture(grey=140), "grey"),
        (picture(grey=230), "bright"),
        (picture(rows=slice(20, 28)), "low"),
        (picture(rows=slice(0, 32)), "tall"),
        (picture(columns=slice(12, 20)), "narrow"),
        (picture(columns=slice(0, 32), rows=slice(8, 24)), "wide"),
        (picture(), "solid"),
        (picture(), "plain"),
        (picture(), "symmetric"),
        (picture(columns=slice(0, 12)), "lopsided"),
        (picture(), "straight"),
    ],
)
def test_box_is_told_as_it_is(image, word):
    assert word in words_of(image)


def test_ring_is_hollow():
    image = picture()
    image[8:24, 11:21] = 0
    assert "hollow" in words_of(image)


def test_wedge_is_flared_and_upside_down_tapered():
    wedge = np.zeros((32, 32, 1), np.uint8)
    for row in range(4, 28):
        half = (row - 2) // 2
        wedge[row, 16 - half : 16 + half] = 200
    assert "flared" in words_of(wedge)
    assert "tapered" in words_of(wedge[::-1])


def test_stripes_are_patterned():
    image = picture()
    image[4:28:2] //= 2
    assert "patterned" in words_of(image)


def test_background_may_have_any_grey():
    dark, bright = picture(grey=200, background=0), picture(grey=200, background=255)
    assert words_of(dark) == words_of(bright)


def test_channels_of_a_grey_image_change_nothing():
    image = picture(grey=140)
    assert words_of(np.repeat(image, 3, axis=2)) == words_of(image)


def test_image_is_told_the_same_beside_any_other():
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 12, 3), dtype=np.uint8)
    assert describe(images) == [words_of(image) for image in images]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_blank_image_gets_words_without_a_warning(grey):
    with np.errstate(all="raise"):
        words = words_of(picture(grey=grey, background=grey))
    assert set(words) <= set(ATTRIBUTE_WORDS)


def test_captions_hold_the_class_and_only_what_is_true():
    attributes = words_of(picture())
    for seed in range(200):
        words = draw_caption(CAPTIONS, "Sneaker", attributes, seed=seed).split()
        assert {"sneaker", "shoe"} & set(words)
        assert set(words) <= {"a", "photo", "of", "sneaker", "shoe", *attributes}


def test_every_part_of_a_caption_is_drawn():
    attributes = words_of(picture())
    drawn = [draw_caption(CAPTIONS, "Sneaker", attributes, seed=seed) for seed in range(2_000)]
    long = [text.split() for text in drawn if text.startswith("a photo of a ")]
    counts = Counter(len(words) - 5 for words in long)
    assert 0.45 < len(long) / len(drawn) < 0.55
    assert 0.45 < np.mean([words[-1] == "shoe" for words in long]) < 0.55
    assert counts.keys() == {0, 1, 2, 3}
    assert min(counts.values()) > 0.2 * len(long)
    assert {word for words in long for word in words} >= set(attributes)


def test_caption_of_a_seed_is_fixed():
    # What a model was trained on must not change with a version.
    drawn = [draw_caption(CAPTIONS, "Sneaker", ("dark", "wide"), seed=seed) for seed in range(4)]
    assert drawn == ["shoe", "a photo of a shoe", "a photo of a dark wide sneaker", "sneaker"]


def test_class_without_words_stands_for_itself():
    captions = Captions(templates=("{attributes} {class_name}",), max_attributes=0)
    assert draw_caption(captions, "Ankle boot", ("dark",), seed=0) == "Ankle boot"


def test_words_of_captions_are_all_that_can_be_drawn():
    words = caption_words(CAPTIONS, ("Sneaker", "Ankle boot"))
    assert words == tuple(
        sorted({"a", "photo", "of", "sneaker", "shoe", "ankle", "boot", *ATTRIBUTE_WORDS})
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"templates": ("a photo",)}, "a photo"),
        ({"templates": ("{class_name} {colour}",)}, "{colour}"),
        ({"templates": ("{class_name",)}, "{class_name"),
        ({"class_words": {"Sneaker": ()}}, "Sneaker"),
        ({"class_words": {"Sneaker": ("shoe", "")}}, "Sneaker"),
    ],
)
def test_captions_that_cannot_be_drawn_are_refused(fields, named):
    with pytest.raises(ValidationError, match=r"templates|class_words") as error:
        Captions.model_validate(fields)
    assert named in str(error.value)
