"""Images beside what was made of them: reconstructions by dataset, and where classifiers look.

R images, H height, W width, C channels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from factory.diffusion.device import pick_device
from factory.evaluate.pictures import SideBySide
from factory.evaluate.prepare import Prepared
from factory.images import decode_image
from factory.records import SPEC_NAME, read_root, take_inventory
from factory.shards.reader import read_shard
from factory.sources.source import Source
from factory.spec import Series
from factory.spec.evaluate import HELD_OUT
from factory.store import Store
from factory.vision.classifier import load_classifier
from factory.vision.grad_cam import grad_cam, overlay

NUM_ROWS = 8
"""Images that are looked at, each of another class as long as there are any."""


def reconstructions(prepared: Prepared) -> SideBySide | None:
    """Real images, and what each dataset of the series made of them (yamaguchi2024, Fig. 5).

    None where the datasets are no reconstructions of the real or of the held-out images.
    """
    series = prepared.spec.series
    originals = _originals(prepared)
    if series is None or not originals:
        return None
    found = {}
    for name in sorted(series.values, key=lambda name: series.values[name]):
        made = dict(_made_of(prepared, name, set(originals)))
        found[_heading(series, name)] = made
    common = [key for key in originals if all(key in made for made in found.values())][:NUM_ROWS]
    if not common:
        return None
    return SideBySide(
        row_names=tuple(originals[key][0] for key in common),
        images=np.stack([originals[key][1] for key in common]),
        others={
            heading: np.stack([made[key] for key in common]) for heading, made in found.items()
        },
    )


def classifiers_at_work(prepared: Prepared) -> SideBySide | None:
    """Held-out images, and where each classifier of the spec looks (yamaguchi2024, Fig. 7).

    Raises:
        SpecError: if a classifier cannot be loaded, or has no feature maps.
    """
    if not prepared.grad_cam:
        return None
    source = prepared.sources.get(HELD_OUT, prepared.sources["real"])
    places = _one_of_each(source)
    images = source.images[places]
    others = {}
    for name, pinned in prepared.grad_cam.items():
        classifier = load_classifier(pinned.local()).to(pick_device())
        others[name] = overlay(images, grad_cam(classifier, images, None))
    names = tuple(source.class_names[label] for label in source.labels[places])
    return SideBySide(row_names=names, images=images, others=others)


def _originals(prepared: Prepared) -> dict[str, tuple[str, NDArray[np.uint8]]]:
    """`source_image` of images that are looked at -> class name and pixels [H, W, C]."""
    originals = {}
    for name in ("real", HELD_OUT):
        source = prepared.sources.get(name)
        if source is not None:
            for place in _one_of_each(source):
                class_name = source.class_names[source.labels[place]]
                key = f"{source.digest[:12]}:{place}"
                originals[key] = class_name, source.images[place]
    return originals


def _one_of_each(source: Source) -> NDArray[np.int64]:
    """Places of the first image of each of the first classes that have any, [R]."""
    _, first = np.unique(source.labels, return_index=True)
    return first[:NUM_ROWS]


def _made_of(
    prepared: Prepared, name: str, wanted: set[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """`source_image` -> the first image that a root holds of it, of those that are wanted."""
    path = prepared.spec.synthetic[name].path
    store = Store(path if "://" in path else str(Path(path).expanduser().resolve()))
    if not store.exists(SPEC_NAME):
        return
    missing = set(wanted)
    for record in take_inventory(store, read_root(store).fingerprint).records.values():
        for sample in read_shard(store.get(record.file), record.format):
            key = str(sample.provenance.get("source_image"))
            if key in missing:
                missing.remove(key)
                yield key, decode_image(sample.image)
        if not missing:
            return


def _heading(series: Series, name: str) -> str:
    return f"{series.parameter} {series.values[name]:g}"
