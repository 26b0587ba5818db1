import io

import numpy as np
import pytest
from PIL import Image

from factory.fit.history import Row, Verdict, kept_of, out_of_patience
from factory.fit.pictures import loss_curves


def rows_of(losses, distances=None):
    """A history with a checkpoint at every row."""
    verdicts = [
        Verdict(
            images=10 * number,
            validation_loss=loss,
            frechet_distance=distance,
            num_samples=100,
            images_per_second=1,
        )
        for number, (loss, distance) in enumerate(zip(losses, distances or losses, strict=True))
    ]
    return [
        Row(images=v.images, loss=1.0, learning_rate=0.1, seconds=1.0, verdict=v) for v in verdicts
    ]


@pytest.mark.parametrize(
    ("losses", "ended"),
    [
        ([], False),
        ([3, 2, 1], False),
        ([1, 2], False),
        ([1, 2, 3], True),
        ([2, 1, 2, 3], True),
        ([1, 2, 0.5, 2], False),
        ([1, 1, 1], True),
    ],
)
def test_patience_ends_after_two_checkpoints_without_a_lower_loss(losses, ended):
    history = rows_of(losses)
    # Rows between checkpoints do not count.
    between = [row.model_copy(update={"verdict": None}) for row in history]
    history = [row for pair in zip(history, between, strict=True) for row in pair]
    assert out_of_patience(history, 2) == ended
    assert not out_of_patience(history, None)


@pytest.mark.parametrize(
    ("keep", "images"), [("best_sample", 0), ("lowest_loss", 10), ("last", 20)]
)
def test_checkpoint_is_kept_as_asked(keep, images):
    history = rows_of([3, 1, 2], [1, 2, 3])
    verdicts = [row.verdict for row in history if row.verdict]
    assert kept_of(verdicts, keep).images == images


def test_loss_curves_show_the_training_rows_and_every_checkpoint():
    def drawn(history):
        return np.asarray(Image.open(io.BytesIO(loss_curves(history))).convert("RGB"))

    whole, without = rows_of([3, 2, 1]), rows_of([3, 2, 1])
    without[1] = without[1].model_copy(update={"verdict": None})
    assert drawn(whole).shape == drawn(without).shape
    assert not np.array_equal(drawn(whole), drawn(without))
    assert loss_curves(whole) == loss_curves(whole)
