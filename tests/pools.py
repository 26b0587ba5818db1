"""An unconditional model and a labeller of what it draws, for datasets of one pool."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from factory.images import decode_image, to_float
from factory.shards.reader import read_shard
from factory.spec import Classifier
from factory.vision.classifier import build_classifier
from tests.conftest import CLASS_NAMES, save_tiny_model
from tests.datasets import make_dataset


def save_unconditional(folder: Path) -> Path:
    """A random model without classes."""
    return save_tiny_model(folder, class_names=(), label_dropout=0.0)


def save_labeller(folder: Path, unconditional: Path) -> Path:
    """A classifier of dark, middle and bright images, trained on what the model draws."""
    wanted = {"labels": "as_found", "labeller": {"model": str(_untrained(folder / "untrained"))}}
    drawn = make_dataset(folder / "drawn", unconditional, num_images=96, **wanted)
    images = np.stack(
        [
            decode_image(sample.image)
            for record in drawn.inventory.records.values()
            for sample in read_shard(drawn.store.get(record.file), record.format)
        ]
    )
    brightness = images.mean(axis=(1, 2, 3))
    bounds = np.quantile(brightness, [1 / 3, 2 / 3])
    labels = torch.from_numpy(np.digitize(brightness, bounds))
    classifier = build_classifier(Classifier(width=8), channels=3, class_names=CLASS_NAMES, seed=0)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    for _ in range(25):
        classifier.train()
        optimizer.zero_grad()
        F.cross_entropy(classifier(to_float(images)), labels).backward()
        optimizer.step()
    classifier.eval().save(folder / "trained")
    return folder / "trained"


def _untrained(folder: Path) -> Path:
    build_classifier(Classifier(width=8), channels=3, class_names=CLASS_NAMES, seed=1).save(folder)
    return folder
