"""Comparisons whose trainings never ran: exact records of networks of a chosen skill."""

import hashlib
import io
import itertools
from pathlib import Path

import numpy as np

from factory.classify.arms import Sources, prepare_arms
from factory.classify.compare import make_report
from factory.classify.prepare import Prepared, record_name
from factory.classify.results import ClassifyReport, Epoch, TrialRecord, ZeroShotResult
from factory.records import Device
from factory.sources.source import Source
from factory.spec import ClassifySpec
from factory.store import Store

DEVICE = Device(kind="cpu AVX512", versions={"torch": "2.13.0"})
NAMES = ("cat", "T-shirt/top", "<script>alert('&')</script>", 'a "$x$" <b>')
ARMS = {
    "real": {"mix": {"kind": "real"}},
    "real+synthetic": {"mix": {"kind": "multiplier", "multiplier": 1}},
    "synthetic": {"mix": {"kind": "ratio", "synthetic_ratio": 1.0}},
}
ZERO_SHOT = ZeroShotResult(
    model="clip", prompt="a photo of a {}", top1=0.5, macro_f1=0.48, per_class_accuracy={}
)


def make_source(name, class_names, counts, *, side=12, seed=0, **fields) -> Source:
    """Noise over a grey level of each class."""
    labels = np.repeat(np.arange(len(class_names)), counts)
    noise = np.random.default_rng(seed).integers(0, 60, (len(labels), side, side, 1))
    levels = (labels * 190 // len(class_names))[:, None, None, None]
    images = (noise + levels).astype(np.uint8)
    return Source(name, "train", images, labels, tuple(class_names), **fields)


def make_sources(class_names, *, num_real, num_test) -> Sources:
    seen = {"name": "photos", "split": "train", "num_images": 60_000, "digest": "0" * 64}
    return Sources(
        real=make_source("photos", class_names, num_real, seed=1),
        validation=None,
        weights=None,
        test=make_source("photos, held out", class_names, num_test, seed=2),
        synthetic={
            "synthetic": make_source("drawn", class_names, 60, seed=3, trained_on=seen),
        },
    )


def fake_history(skill: float, trial: int) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=epoch,
            step=10 * epoch,
            learning_rate=0.1,
            loss=2 / (epoch + skill) + 0.02 * trial,
            accuracy=1 - 0.5 / (epoch + skill),
            validation_loss=2.2 / (epoch + skill),
            validation_accuracy=1 - 0.6 / (epoch + skill),
        )
        for epoch in range(1, 7)
    )


def put_trial(prepared: Prepared, arm: str, trial: int, skill: float) -> None:
    """A finished training whose network is right the more often the greater its skill."""
    labels, num_classes = prepared.sources.test.labels, len(prepared.sources.test.class_names)
    # All networks find the same images hard.
    shared = np.random.default_rng(7).normal(size=(len(labels), num_classes))
    own = np.random.default_rng([trial, int(100 * skill)])
    logits = shared + own.normal(0.0, 0.5, shared.shape)
    logits += (skill + own.normal(0, 0.03)) * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    encoded = io.BytesIO()
    np.save(encoded, probabilities.astype(np.float16))
    fingerprint = prepared.arms[arm].fingerprint
    record = TrialRecord(
        fingerprint=fingerprint,
        arm=arm,
        trial=trial,
        predictions=f"trials/{fingerprint}-{trial}.npy",
        sha256=hashlib.sha256(encoded.getvalue()).hexdigest(),
        weights_sha256="",
        top1=float((probabilities.argmax(axis=1) == labels).mean()),
        num_parameters=175_000,
        num_steps=prepared.arms[arm].num_steps,
        images_seen=128 * prepared.arms[arm].num_steps,
        best_epoch=None,
        history=fake_history(skill, trial),
        seconds=61.4,
        images_per_second=1_630.0,
        device=DEVICE,
    )
    store = Store(prepared.root)
    store.put(record.predictions, encoded.getvalue())
    store.put(record_name(fingerprint, trial), record.model_dump_json().encode())


def fake_comparison(
    root: Path,
    *,
    arms=None,
    class_names=NAMES,
    num_seeds=3,
    num_real=30,
    num_test=100,
    skills=(2.0, 2.4, 1.2),
    zero_shot=None,
) -> tuple[Prepared, ClassifyReport]:
    """A comparison whose trainings are done, with networks that differ as `skills` say."""
    spec = ClassifySpec.model_validate({"arms": arms or ARMS, "num_seeds": num_seeds})
    sources = make_sources(class_names, num_real=num_real, num_test=num_test)
    overlap = {"real": 0, "synthetic": 2}
    prepared = Prepared(spec, str(root), sources, prepare_arms(spec, sources), overlap)
    for arm, skill in zip(prepared.arms, itertools.cycle(skills), strict=False):
        for trial in range(num_seeds):
            put_trial(prepared, arm, trial, skill)
    made = num_seeds * len(prepared.arms)
    report = make_report(prepared, zero_shot=zero_shot, made=made, failures={}, seconds=90)
    return prepared, report
