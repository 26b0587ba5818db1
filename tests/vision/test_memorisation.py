import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from factory.sources.open import open_source
from factory.spec import SourceSpec, SpecError
from factory.vision import near_real
from factory.vision.memorisation import Closeness, Seen, closest_pairs, judge
from factory.vision.near_real import Nearest, pixels

CPU = torch.device("cpu")


def noise(num_images, *, seed, shape=(6, 5, 1)):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num_images, *shape), dtype=np.uint8)


def seen_images(images, features=pixels):
    return Seen(images, features=features, device=CPU)


def scored(scores):
    """Images of which nothing but their scores matters."""
    size = len(scores)
    return Closeness(
        scores=np.asarray(scores, float),
        distances=np.asarray(scores, float),
        seen=np.zeros(size, np.int64),
        is_mirrored=np.zeros(size, bool),
        is_exact=np.zeros(size, bool),
    )


@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_nearest_neighbours_are_those_of_brute_force(k, offset):
    generator = np.random.default_rng(0)
    real = (offset + generator.standard_normal((60, 7))).astype(np.float32)
    # Some queries are vectors themselves, and some vectors come twice.
    real[50:] = real[:10]
    queries = np.concatenate([real[:5], (offset + generator.standard_normal((9, 7)))])
    queries = queries.astype(np.float32)
    every = np.linalg.norm(queries[:, None].astype(np.float64) - real[None], axis=2)
    order = np.lexsort((np.broadcast_to(np.arange(60), every.shape), every), axis=1)[:, :k]
    distances, places = Nearest(real, CPU).neighbours(queries, k)
    assert np.array_equal(places, order)
    assert np.allclose(distances, np.take_along_axis(every, order, axis=1), rtol=1e-12, atol=0)
    assert np.array_equal(distances[:, 0], Nearest(real, CPU).distances(queries))


@pytest.mark.parametrize(("queries", "reals", "numbers"), [(7, 11, 60), (1, 200, 1), (50, 3, 8)])
def test_nearest_neighbours_are_the_same_however_the_work_is_cut(
    monkeypatch, queries, reals, numbers
):
    real, shown = pixels(noise(120, seed=0)), pixels(noise(40, seed=1))
    # Many are equally near, on both sides of every cut.
    real[60:90] = real[0]
    shown[5:9] = real[0] + np.float32(0.01)
    whole = Nearest(real, CPU).neighbours(shown, 6)
    monkeypatch.setattr(near_real, "_QUERIES", queries)
    monkeypatch.setattr(near_real, "_REALS", reals)
    monkeypatch.setattr(near_real, "_DIFFERENCES", numbers)
    for found, expected in zip(Nearest(real, CPU).neighbours(shown, 6), whole, strict=True):
        assert np.array_equal(found, expected)


def test_number_of_neighbours_that_there_are_not_is_refused():
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k is {k}; give 1 to 4"):
            Nearest(pixels(noise(4, seed=0)), CPU).neighbours(pixels(noise(1, seed=1)), k)


def test_copy_is_found_with_its_original_whichever_way_round():
    images = noise(50, seed=0)
    shown = np.concatenate([images[7:8], images[31:32, :, ::-1], noise(3, seed=1)])
    shown[2] = images[12]
    shown[2, 0, 0] ^= 1
    found = seen_images(images).closeness(shown)
    assert found.seen[:3].tolist() == [7, 31, 12]
    assert found.is_mirrored[:3].tolist() == [False, True, False]
    assert found.is_exact.tolist() == [True, True, False, False, False]
    assert found.scores[:2].tolist() == [0, 0]
    assert 0 < found.scores[2] < 0.01 < 0.5 < found.scores[3:].min()


def test_image_is_scored_the_same_in_any_company_and_under_any_unit():
    images, shown = noise(50, seed=0), noise(20, seed=1)
    together = seen_images(images).closeness(shown)
    alone = [seen_images(images).closeness(shown[i : i + 1]).scores[0] for i in range(20)]
    assert np.array_equal(together.scores, alone)
    doubled = seen_images(images, lambda x: 2 * pixels(x)).closeness(shown)
    assert np.array_equal(doubled.scores, together.scores)
    assert np.array_equal(doubled.distances, 2 * together.distances)


def test_image_among_many_of_its_like_is_no_copy():
    blank = np.zeros((40, 6, 5, 1), np.uint8)
    found = seen_images(blank).closeness(blank[:1])
    assert found.scores.tolist() == [1]
    assert found.is_exact.tolist() == [True]


def test_closest_pairs_are_those_with_the_smallest_scores():
    images = noise(50, seed=0)
    shown = np.concatenate([noise(20, seed=1), images[5:6, :, ::-1]])
    found = seen_images(images).closeness(shown)
    pairs = closest_pairs(found, 3)
    assert (pairs[0].image, pairs[0].seen, pairs[0].is_mirrored) == (20, 5, True)
    assert pairs[0].distance == pairs[0].score == 0
    assert [pair.score for pair in pairs] == np.sort(found.scores)[:3].tolist()
    assert all(pair.distance == found.distances[pair.image] for pair in pairs)
    assert len(closest_pairs(found, 100)) == 21


@pytest.mark.parametrize(
    ("num_held_out", "num_images", "quantile", "grain"),
    [
        (100, 50, 0.05, 0),
        (100, 5000, 0.01, 0),
        (1000, 200, 0.01, 0),
        (100, 50, 0.05, 0.02),
        (200, 1000, 0.1, 0.02),
    ],
)
def test_clean_sets_are_accused_as_often_as_the_confidence_says(
    num_held_out, num_images, quantile, grain
):
    generator, rounds, p_values = np.random.default_rng(0), 200, []
    for _ in range(rounds):
        scores = generator.random(num_held_out + num_images)
        if grain:
            # Many equal scores, at the threshold too.
            scores = np.round(scores / grain) * grain
        held_out, images = scored(scores[:num_held_out]), scored(scores[num_held_out:])
        found = judge(images, held_out, quantile=quantile, confidence=0.9)
        assert (found.verdict == "copies") == (found.p_value <= 0.1)
        p_values.append(found.p_value)
    accused = [p for p in p_values if p <= 0.1]
    deviation = np.sqrt(0.09 / rounds)
    assert len(accused) / rounds <= 0.1 + 3 * deviation
    if not grain:
        # Counts are whole numbers: the largest of the p-values is what can be had of the 10 %.
        assert len(accused) / rounds == pytest.approx(max(accused), abs=3 * deviation)


def test_counts_share_and_expectation_of_a_worked_example():
    held_out = scored(np.arange(1, 101) / 100)
    images = scored([0.001] * 8 + [0.05] * 3 + [0.9] * 39)
    found = judge(images, held_out, quantile=0.05, confidence=0.95)
    # The fifth smallest; what equals it is not below it.
    assert found.threshold == 0.05
    assert (found.num_suspicious, found.share) == (8, 0.16)
    assert found.low < 0.16 < found.high
    assert found.expected == pytest.approx(5 / 101)
    assert (found.verdict, found.num_images, found.num_held_out) == ("copies", 50, 100)


@pytest.mark.parametrize(("num_held_out", "num_images"), [(100, 50), (30, 200)])
def test_limit_is_the_largest_share_that_is_not_accused(num_held_out, num_images):
    held_out = scored(np.arange(1, num_held_out + 1))
    verdicts = []
    for num_suspicious in range(num_images + 1):
        images = scored(np.repeat([0.5, 1e6], [num_suspicious, num_images - num_suspicious]))
        found = judge(images, held_out, quantile=0.05, confidence=0.95)
        assert (found.verdict == "copies") == (found.share > found.limit) == (found.p_value <= 0.05)
        verdicts.append(found.verdict)
    assert verdicts == sorted(verdicts, reverse=True)
    assert set(verdicts) == {"copies", "no evidence"}


def test_quantile_counts_whole_images():
    for num_held_out in range(1, 101):
        found = judge(
            scored([0.5]), scored(np.arange(num_held_out)), quantile=0.07, confidence=0.95
        )
        assert found.threshold == -(-7 * num_held_out // 100) - 1


def brighter(images, levels):
    return np.clip(images.astype(int) + levels, 0, 255).astype(np.uint8)


def jpeg(images):
    def once(image):
        file = io.BytesIO()
        Image.fromarray(image[:, :, 0]).save(file, "JPEG", quality=90)
        return np.asarray(Image.open(file))[:, :, None]

    return np.stack([once(image) for image in images])


@pytest.fixture(scope="module")
def clothes():
    """Seen images, held-out ones, and others that nobody has copied, of Fashion-MNIST."""
    train = open_source(SourceSpec(path="fashion_mnist_small", split="train")).images
    test = open_source(SourceSpec(path="fashion_mnist_small", split="test")).images
    others = np.random.default_rng(0).permutation(len(test))
    seen = seen_images(train)
    return train, seen, seen.closeness(test[others[:500]]), test[others[500:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,
        lambda images: images[:, :, ::-1],
        lambda images: brighter(images, 10),
        lambda images: brighter(images, -10),
        jpeg,
    ],
    ids=["exact", "mirrored", "brighter", "darker", "jpeg"],
)
def test_copies_among_clean_images_are_found(clothes, change):
    train, seen, held_out, clean = clothes
    copied = np.random.default_rng(1).choice(len(train), 20, replace=False)
    found = seen.closeness(np.concatenate([change(train[copied]), clean[:480]]))
    verdict = judge(found, held_out, quantile=0.01, confidence=0.95)
    assert verdict.verdict == "copies"
    assert (found.scores[:20] < verdict.threshold).mean() >= 0.9
    assert found.seen[:20].tolist() == copied.tolist()
    # Some garments are their own mirror image but for a few pixels.
    assert {pair.image for pair in closest_pairs(found, 15)} <= set(range(20))


def test_clean_images_are_not_accused_and_neither_are_blurred_ones(clothes):
    _, seen, held_out, clean = clothes
    for images in (clean, gaussian_filter(clean, (0, 1, 1, 0)), clean // 2):
        verdict = judge(seen.closeness(images), held_out, quantile=0.01, confidence=0.95)
        assert (verdict.verdict, verdict.num_exact) == ("no evidence", 0)


def test_exact_copies_are_counted_apart(clothes):
    train, seen, held_out, clean = clothes
    found = seen.closeness(np.concatenate([clean, train[3:5], train[8:9, :, ::-1]]))
    assert judge(found, held_out, quantile=0.01, confidence=0.95).num_exact == 3


def test_held_out_images_that_the_generator_has_seen_are_left_out():
    images, unseen = noise(50, seed=0), noise(40, seed=1)
    seen = seen_images(images)
    mixed = np.concatenate([unseen, images[:2], images[9:10, :, ::-1]])
    drawn = seen.closeness(noise(30, seed=2))
    found, clean = (
        judge(drawn, seen.closeness(held_out), quantile=0.05, confidence=0.95)
        for held_out in (mixed, unseen)
    )
    assert (found.num_held_out, found.num_shared) == (40, 3)
    assert found == clean.model_copy(update={"num_shared": 3})


def test_sets_without_images_are_refused():
    some, none = scored([0.5]), scored([])
    with pytest.raises(SpecError, match="0 images and 1 held-out ones"):
        judge(none, some, quantile=0.01, confidence=0.95)
    shared = replace(some, is_exact=np.ones(1, bool))
    for useless in (none, shared):
        with pytest.raises(SpecError, match=r"1 images and 0 held-out ones that .* not seen"):
            judge(some, useless, quantile=0.01, confidence=0.95)


def test_too_few_seen_images_and_images_of_other_sizes_are_refused():
    with pytest.raises(SpecError, match=r"has seen 4 images; .* from 5 on"):
        seen_images(noise(4, seed=0))
    with pytest.raises(SpecError, match=r"images are \[6, 4, 1\], .* seen \[6, 5, 1\]"):
        seen_images(noise(5, seed=0)).closeness(noise(2, seed=1, shape=(6, 4, 1)))
