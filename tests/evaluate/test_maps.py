"""Maps of features: the plane of the real images, and who is shown in it."""

import numpy as np
import pytest

from factory.evaluate.maps import MOST_POINTS, fit_plane, map_features, project
from tests.evaluate.evaluations import make_features, make_source

NAMES = ("cat", "dog", "fox")


def cloud(count: int) -> np.ndarray:
    """Features of six numbers with deviations of 3, 2 and 0.1 along turned axes."""
    generator = np.random.default_rng(0)
    turn = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    deviations = np.array([3, 2, 0.1, 0.1, 0.1, 0.1])
    return 5 + (generator.normal(size=(count, 6)) * deviations) @ turn.T


def test_the_plane_keeps_what_varies_most():
    features = cloud(4_000)
    plane = fit_plane(features)
    places = project(plane, features)
    assert np.allclose(plane.axes @ plane.axes.T, np.eye(2))
    assert places.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert places.std(axis=0) == pytest.approx([3, 2], rel=0.05)
    # The two are not correlated, and their shares are those of the whole variance.
    assert np.cov(places.T)[0, 1] == pytest.approx(0, abs=1e-6)
    total = features.var(axis=0, ddof=1).sum()
    assert plane.shares == pytest.approx(places.var(axis=0, ddof=1) / total)


def test_no_order_or_sign_of_features_turns_the_map():
    features = cloud(500)
    places = project(fit_plane(features), features)
    shuffled = np.random.default_rng(1).permutation(6)
    again = project(fit_plane(features[:, shuffled]), features[:, shuffled])
    assert places == pytest.approx(again)


def sources_of(**counts):
    return {name: make_source(name, NAMES, count) for name, count in counts.items()}


def features_of(sources):
    return {name: make_features(source, 0.8) for name, source in sources.items()}


def test_the_plane_belongs_to_the_real_images_alone():
    sources = sources_of(real=20, near=20)
    features = features_of(sources)
    (found,) = map_features(sources, features.__getitem__, [None])
    moved = features | {"near": 100 + 50 * features["near"]}
    (again,) = map_features(sources, moved.__getitem__, [None])
    assert (found.points["real"].places == again.points["real"].places).all()
    assert found.shares == again.shares
    assert not np.allclose(found.points["near"].places, again.points["near"].places)


def test_a_class_alone_shows_that_class_alone():
    sources = sources_of(real=20, near=30)
    _, dogs = map_features(sources, features_of(sources).__getitem__, [None, 1])
    assert {name: len(points.places) for name, points in dogs.points.items()} == {
        "real": 20,
        "near": 30,
    }
    assert all((points.labels == 1).all() for points in dogs.points.values())


def test_a_class_with_too_few_real_images_has_no_map():
    sources = sources_of(real=2, near=30)
    everything, dogs = map_features(sources, features_of(sources).__getitem__, [None, 1])
    assert len(everything.points) == 2
    assert dogs.points == {}


def test_of_many_images_some_are_shown_and_always_the_same():
    sources = sources_of(real=MOST_POINTS, near=5)
    features = features_of(sources)
    (found,) = map_features(sources, features.__getitem__, [None])
    (again,) = map_features(sources, features.__getitem__, [None])
    assert len(found.points["real"].places) == MOST_POINTS
    assert (found.points["real"].places == again.points["real"].places).all()
    # They are of every class, and not the first ones.
    assert np.bincount(found.points["real"].labels).min() > MOST_POINTS / 4


def test_features_of_one_source_are_held_at_a_time():
    sources = sources_of(real=5, near=5, far=5)
    features = features_of(sources)
    asked = []
    map_features(sources, lambda name: asked.append(name) or features[name], [None, 0, 1])
    assert asked == ["real", "near", "far"]
