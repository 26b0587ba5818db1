"""Captions of images: words that are true of their pixels, put around the name of their class.

N images, H height, W width, C channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from factory.seeds import hash_seed
from factory.spec.text_fit import Captions

_LEAST_DIFFERENCE = 0.1
"""A pixel that differs by more than this from the picture's border belongs to the thing shown."""


@dataclass(frozen=True)
class _Silhouettes:
    """The things that N images show, each on an even background."""

    grey: NDArray[np.float64]
    """[N, H, W] from 0 to 1."""
    inside: NDArray[np.bool_]
    """[N, H, W]: which pixels are the thing's; all of them where none differ from the border."""

    @property
    def area(self) -> NDArray[np.int64]:
        """Pixels inside, [N]."""
        return self.inside.sum(axis=(1, 2))

    def span(self, axis: int) -> NDArray[np.int64]:
        """Pixels from the first inside to the last, along `axis`, [N]."""
        hit: NDArray[np.bool_] = np.asarray(self.inside.any(axis=3 - axis))
        return hit.shape[1] - hit.argmax(axis=1) - hit[:, ::-1].argmax(axis=1)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean over the pixels inside, of values that broadcast to [N, H, W]."""
        return (values * self.inside).sum(axis=(1, 2)) / self.area


class _Measure(NamedTuple):
    """A number of each image, and what it is called when small, middling and large."""

    words: tuple[str, str, str]
    bounds: tuple[float, float]
    of: Callable[[_Silhouettes], NDArray[np.floating]]


def _brightness(shown: _Silhouettes) -> NDArray[np.floating]:
    return shown.mean(shown.grey)


def _height(shown: _Silhouettes) -> NDArray[np.floating]:
    return shown.span(1) / shown.inside.shape[1]


def _width(shown: _Silhouettes) -> NDArray[np.floating]:
    return shown.span(2) / shown.inside.shape[2]


def _filling(shown: _Silhouettes) -> NDArray[np.floating]:
    return shown.area / (shown.span(1) * shown.span(2))


def _symmetry(shown: _Silhouettes) -> NDArray[np.floating]:
    mirrored = shown.inside[:, :, ::-1]
    common = (shown.inside & mirrored).sum(axis=(1, 2))
    return common / (shown.inside | mirrored).sum(axis=(1, 2))


def _depth(shown: _Silhouettes) -> NDArray[np.floating]:
    """How far down its centre lies, as a fraction of its height."""
    top = shown.inside.any(axis=2).argmax(axis=1)
    rows = np.arange(shown.inside.shape[1])[None, :, None] + 0.5
    return (shown.mean(rows) - top) / shown.span(1)


def _roughness(shown: _Silhouettes) -> NDArray[np.floating]:
    """Mean difference between neighbours inside, down plus across."""
    total = np.zeros(len(shown.grey))
    for axis in (1, 2):
        both = np.diff(shown.inside.astype(np.int8), axis=axis) == 0
        both &= np.delete(shown.inside, 0, axis=axis)
        steps = np.abs(np.diff(shown.grey, axis=axis)) * both
        total += steps.sum(axis=(1, 2)) / both.sum(axis=(1, 2)).clip(min=1)
    return total


# Bounds near the thirds of Fashion-MNIST, where each word then tells something.
_MEASURES = (
    _Measure(("dark", "grey", "bright"), (0.5, 0.68), _brightness),
    _Measure(("low", "medium", "tall"), (0.6, 0.95), _height),
    _Measure(("narrow", "regular", "wide"), (0.6, 0.95), _width),
    _Measure(("hollow", "filled", "solid"), (0.6, 0.77), _filling),
    _Measure(("lopsided", "skewed", "symmetric"), (0.6, 0.85), _symmetry),
    _Measure(("tapered", "straight", "flared"), (0.49, 0.54), _depth),
    _Measure(("plain", "textured", "patterned"), (0.17, 0.25), _roughness),
)

ATTRIBUTE_WORDS = tuple(word for measure in _MEASURES for word in measure.words)
"""All that `describe` may say."""


def describe(images: NDArray[np.uint8]) -> list[tuple[str, ...]]:
    """Words that are true of each image, one a measure.

    Brightness, height, width, filling, symmetry, where its mass lies, and texture, of what
    differs from the grey value that is the median of the image's border.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        N times as many words as there are measures, always in the same order.
    """
    shown = _silhouettes(images)
    levels = [np.digitize(measure.of(shown), measure.bounds) for measure in _MEASURES]
    return [
        tuple(measure.words[level] for measure, level in zip(_MEASURES, row, strict=True))
        for row in np.stack(levels, axis=1)
    ]


def draw_caption(
    captions: Captions, class_name: str, attributes: Sequence[str], *, seed: int
) -> str:
    """One caption of an image; every part of it is drawn evenly from `seed`.

    Args:
        captions: templates and words.
        class_name: of the image.
        attributes: words that are true of the image, as `describe` gives them.
        seed: another one gives another caption.
    """
    template = _pick(captions.templates, seed, "template")
    word = _pick(captions.class_words.get(class_name, (class_name,)), seed, "class")
    count = hash_seed(seed, "count") % (captions.max_attributes + 1)
    chosen = sorted(attributes, key=lambda attribute: hash_seed(seed, attribute))[:count]
    text = template.format(class_name=word, attributes=" ".join(chosen))
    return " ".join(text.split())


def caption_words(captions: Captions, class_names: Sequence[str]) -> tuple[str, ...]:
    """All words that captions of these classes can hold, in lower case and sorted."""
    nothing = {"class_name": "", "attributes": ""}
    texts = [template.format(**nothing) for template in captions.templates]
    for name in class_names:
        texts += captions.class_words.get(name, (name,))
    words = {word for text in texts for word in text.lower().split()}
    return tuple(sorted(words | set(ATTRIBUTE_WORDS)))


def _silhouettes(images: NDArray[np.uint8]) -> _Silhouettes:
    grey = images.mean(axis=3) / 255
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    background = np.median(border, axis=1)[:, None, None]
    inside = np.abs(grey - background) > _LEAST_DIFFERENCE
    inside |= ~inside.any(axis=(1, 2), keepdims=True)
    return _Silhouettes(grey, inside)


def _pick(choices: Sequence[str], *parts: str | int) -> str:
    return choices[hash_seed(*parts) % len(choices)]
