"""Trainings: same spec, same weights; killed and resumed, same weights; what fails says where."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from factory.classify.prepare import classifier_folder, prepare
from factory.classify.train import Trainer, TrainingFailed
from factory.classify.trial import Trial
from factory.records import ASKED_NAME
from factory.store import Store
from factory.vision.classifier import load_classifier

CPU = torch.device("cpu")
DOUBLE = {"kind": "multiplier", "multiplier": 2}


@pytest.fixture
def trials(tmp_path):
    def make(spec, root="root"):
        prepared = prepare(spec, str(tmp_path / root))
        Store(prepared.root).put(ASKED_NAME, prepared.spec.model_dump_json().encode())
        return Trial(spec, prepared.root, prepared.sources, prepared.arms), prepared

    return make


class Stopped(Exception):
    """Stands for the death of the process."""


def stop_after(monkeypatch, epochs):
    """Let a training die after that many epochs, as a kill would: nothing is cleaned up."""
    whole = Trainer.train_epoch

    def train_epoch(self):
        if len(self.history) >= epochs:
            raise Stopped
        whole(self)

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)


def test_small_network_learns_to_tell_stripes_apart(comparison, trials):
    train, _ = trials(comparison(arms={"real": {}}, training={"epochs": 6}))
    record = train("real", 0, CPU)
    assert record.top1 > 0.95
    assert [row.epoch for row in record.history] == [1, 2, 3, 4, 5, 6]
    assert record.history[-1].loss < record.history[0].loss


@pytest.mark.parametrize("augmentation", ["none", "flip_crop", "trivialaugment"])
def test_same_spec_gives_the_same_weights(comparison, trials, augmentation):
    spec = comparison(
        arms={"both": {"mix": DOUBLE, "batches": "paired"}},
        training={"epochs": 1, "augmentation": augmentation},
    )
    torch.manual_seed(5)
    first = trials(spec, "a")[0]("both", 0, CPU)
    torch.manual_seed(6)
    second = trials(spec, "b")[0]("both", 0, CPU)
    assert first.weights_sha256 == second.weights_sha256
    assert first.sha256 == second.sha256


def test_seeds_give_other_weights(comparison, trials):
    train, _ = trials(comparison(arms={"real": {}}, training={"epochs": 1}))
    assert train("real", 0, CPU).weights_sha256 != train("real", 1, CPU).weights_sha256


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_killed_and_resumed_training_ends_with_the_same_weights(
    comparison, trials, monkeypatch, optimizer
):
    spec = comparison(
        arms={"both": {"mix": DOUBLE}},
        training={
            "optimizer": optimizer,
            "augmentation": "flip_crop",
            "validation": {"fraction": 0.1, "of": "mix", "patience": 3},
        },
    )
    whole = trials(spec, "whole")[0]("both", 0, CPU)
    train, prepared = trials(spec, "killed")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            train("both", 0, CPU, checkpoint_seconds=0)
    assert [name for name in Store(prepared.root).sizes() if name.startswith("checkpoints/")]
    resumed = trials(spec, "killed")[0]("both", 0, CPU)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history
    assert not [name for name in Store(prepared.root).sizes() if name.startswith("checkpoints/")]


def test_predictions_lie_where_the_record_says(comparison, trials):
    train, prepared = trials(comparison(arms={"real": {}}, training={"epochs": 1}))
    record = train("real", 0, CPU)
    data = Store(prepared.root).get(record.predictions)
    assert hashlib.sha256(data).hexdigest() == record.sha256
    assert prepared.records() == {("real", 0): record}
    assert prepared.pending() == [("real", 1)]


def test_late_attempt_changes_nothing(comparison, trials):
    spec = comparison(arms={"real": {}}, training={"epochs": 1})
    train, prepared = trials(spec)
    first = train("real", 0, CPU)
    second = trials(spec)[0]("real", 0, CPU)
    assert second == first
    assert prepared.records()["real", 0] == first


def test_saved_classifier_predicts_what_the_record_holds(comparison, trials):
    spec = comparison(arms={"real": {}}, training={"epochs": 2}, save_classifiers=True)
    train, prepared = trials(spec)
    record = train("real", 0, CPU)
    network = load_classifier(Path(prepared.root, classifier_folder(record.fingerprint, 0)))
    kept = np.load(io.BytesIO(Store(prepared.root).get(record.predictions)))
    probabilities = network.predict(prepared.sources.test.images)
    assert (probabilities.astype(np.float16) == kept).all()
    assert network.config.trained_on == prepared.sources.real.seen


def test_patience_stops_early_and_goes_back_to_the_best(comparison, trials):
    spec = comparison(
        arms={"real": {}},
        training={
            "epochs": 60,
            "learning_rate": 0.3,
            "schedule": "constant",
            "validation": {"fraction": 0.2, "of": "real", "patience": 2},
        },
    )
    record = trials(spec)[0]("real", 0, CPU)
    losses = [row.validation_loss for row in record.history]
    assert len(losses) < 60
    assert record.best_epoch == 1 + losses.index(min(losses))
    assert len(losses) == record.best_epoch + 2


def test_infinite_loss_stops_with_the_step(comparison, trials):
    spec = comparison(arms={"real": {}}, training={"learning_rate": 1e30, "schedule": "constant"})
    with pytest.raises(TrainingFailed, match=r"step \d+ is (nan|inf).*learning_rate"):
        trials(spec)[0]("real", 0, CPU)


def test_mixed_precision_trains_too(comparison, trials):
    train, _ = trials(
        comparison(arms={"real": {}}, training={"epochs": 6, "mixed_precision": "bf16"})
    )
    assert train("real", 0, CPU).top1 > 0.9
