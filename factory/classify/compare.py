"""From the records of all trainings to the report: scores, intervals, verdicts."""

import hashlib
import io
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from factory.classify import leakage
from factory.classify.arms import PreparedArm, baseline_name
from factory.classify.prepare import Prepared, record_name
from factory.classify.results import ArmResult, ClassifyReport, TrialRecord, Verdict, ZeroShotResult
from factory.classify.train import TrainingFailed
from factory.classify.words import mix_in_words, network_in_words, training_in_words
from factory.metrics.classification import calibration, confusion, is_correct, macro_f1
from factory.metrics.evidence import (
    METHOD,
    compare,
    compare_classes,
    score_interval,
    seed_interval,
    within,
)
from factory.pages.folder import HTML_NAME
from factory.sources.summary import summarize
from factory.spec import JobError
from factory.store import Store

_FAR_ABOVE_GUESSING = 1.5
"""A baseline whose accuracy is below this times that of guessing has not learned."""
_PACKAGES = ("factory", "ray", "torch", "numpy", "kornia", "transformers")


class Finished:
    """The finished trainings of one arm, and what they say of the test images.

    S seeds, N test images, K classes.
    """

    def __init__(
        self,
        records: list[TrialRecord],
        probabilities: NDArray[np.float32],
        labels: NDArray[np.int64],
    ) -> None:
        """Score every seed.

        Args:
            records: of the S trainings, in order of their seeds.
            probabilities: [S, N, K].
            labels: true labels [N].
        """
        self.records = records
        self.probabilities = probabilities
        self.correct = np.stack([is_correct(labels, seed) for seed in probabilities])
        self.f1 = [macro_f1(labels, seed) for seed in probabilities]

    def of_trials(self, trials: set[int]) -> tuple[NDArray[np.bool_], list[float]]:
        """`correct` and `f1` of the trainings with these numbers."""
        rows = [row for row, record in enumerate(self.records) if record.trial in trials]
        return self.correct[rows], [self.f1[row] for row in rows]


def make_report(
    prepared: Prepared,
    *,
    zero_shot: ZeroShotResult | None,
    made: int,
    failures: dict[str, str],
    seconds: float,
) -> ClassifyReport:
    """Compare all arms that have a finished training with the baseline.

    Args:
        prepared: the comparison.
        zero_shot: result of the zero-shot baseline, if one was asked for.
        made: trainings done by this run.
        failures: training -> why it failed.
        seconds: wall-clock time of this run so far.

    Raises:
        TrainingFailed: if the baseline has no finished training.
        JobError: if predictions are not what their record says.
    """
    finished = read_finished(prepared)
    spec, sources = prepared.spec, prepared.sources
    if baseline_name(spec) not in finished:
        reasons = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise TrainingFailed(
            f"no training of the baseline {baseline_name(spec)} was finished ({reasons})"
        )
    first = next(iter(finished.values())).records[0]
    return ClassifyReport(
        root=Store(prepared.root).url,
        name=spec.name,
        network=network_in_words(spec.classifier),
        num_parameters=first.num_parameters,
        training=training_in_words(spec.training),
        real=summarize(sources.real),
        test=summarize(sources.test),
        synthetic={name: summarize(source) for name, source in sources.synthetic.items()},
        overlap=prepared.overlap,
        arms={
            name: _arm_result(prepared, prepared.arms[name], own) for name, own in finished.items()
        },
        baseline=baseline_name(spec),
        verdicts=_verdicts(prepared, finished),
        warnings=_warnings(
            finished[baseline_name(spec)], sources.test.class_counts, spec.confidence
        ),
        method=METHOD,
        confidence=spec.confidence,
        zero_shot=zero_shot,
        made=made,
        skipped=len({(r.fingerprint, r.trial) for f in finished.values() for r in f.records})
        - made,
        failures=failures,
        seconds=round(seconds, 1),
        device=first.device,
        versions={name: version(name) for name in _PACKAGES},
        html=f"{Store(prepared.root).url}/{HTML_NAME}",
    )


def read_finished(prepared: Prepared) -> dict[str, Finished]:
    """Arm -> its finished trainings, in the order of the arms."""
    store, labels = Store(prepared.root), prepared.sources.test.labels
    records = prepared.records()
    finished = {}
    for name in prepared.arms:
        trials = range(prepared.spec.num_seeds)
        own = [records[name, trial] for trial in trials if (name, trial) in records]
        if own:
            probabilities = np.stack([_read_predictions(store, record) for record in own])
            finished[name] = Finished(own, probabilities.astype(np.float32), labels)
    return finished


def _read_predictions(store: Store, record: TrialRecord) -> NDArray[np.float16]:
    data = store.get(record.predictions)
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.sha256:
        raise JobError(
            f"{store.url}/{record.predictions}: sha256 is {digest[:12]}..., its record says "
            f"{record.sha256[:12]}...; delete {record_name(record.fingerprint, record.trial)} and "
            "run again"
        )
    return np.load(io.BytesIO(data))


def _arm_result(prepared: Prepared, arm: PreparedArm, own: Finished) -> ArmResult:
    labels, names = prepared.sources.test.labels, prepared.sources.test.class_names
    confidence = prepared.spec.confidence
    confusions = [confusion(labels, seed) for seed in own.probabilities]
    return ArmResult(
        name=arm.name,
        mix=mix_in_words(arm.arm),
        arm=arm.arm,
        fingerprint=arm.fingerprint,
        real_counts=arm.mixed.real_counts,
        synthetic_counts=arm.mixed.synthetic_counts,
        num_steps=max(record.num_steps for record in own.records),
        images_seen=max(record.images_seen for record in own.records),
        top1=score_interval(own.correct, confidence),
        seed_top1=tuple(record.top1 for record in own.records),
        macro_f1=within(seed_interval(own.f1, confidence), 0.0, 1.0),
        per_class_accuracy={
            name: score_interval(own.correct[:, labels == label], confidence)
            for label, name in enumerate(names)
            if (labels == label).any()
        },
        confusion=tuple(tuple(row) for row in np.mean(confusions, axis=0).tolist()),
        calibration=calibration(
            np.tile(labels, len(own.records)), own.probabilities.reshape(-1, len(names))
        ),
        curves=tuple(record.history for record in own.records),
        seconds=float(np.mean([record.seconds for record in own.records])),
        images_per_second=float(np.mean([record.images_per_second for record in own.records])),
    )


def _verdicts(prepared: Prepared, finished: dict[str, Finished]) -> tuple[Verdict, ...]:
    first = baseline_name(prepared.spec)
    return tuple(
        _verdict(prepared, prepared.arms[name], own, finished[first])
        for name, own in finished.items()
        if name != first
    )


def _verdict(prepared: Prepared, arm: PreparedArm, own: Finished, baseline: Finished) -> Verdict:
    test, confidence = prepared.sources.test, prepared.spec.confidence
    # Where trainings failed, only the seeds that both arms have are compared, if there are any.
    trials = [{record.trial for record in side.records} for side in (own, baseline)]
    common = trials[0] & trials[1] or trials[0] | trials[1]
    correct, f1 = own.of_trials(common)
    base_correct, base_f1 = baseline.of_trials(common)
    return Verdict(
        arm=arm.name,
        baseline=baseline_name(prepared.spec),
        overall=compare(correct, base_correct, confidence),
        per_class=compare_classes(correct, base_correct, test.labels, test.class_names, confidence),
        f1_difference=seed_interval(
            [own - base for own, base in zip(f1, base_f1, strict=False)], confidence
        ),
        leakage=_leakage(prepared, arm),
    )


def _warnings(
    baseline: Finished, class_counts: dict[str, int], confidence: float
) -> tuple[str, ...]:
    """What a reader must know before the verdicts."""
    guess = max(class_counts.values()) / sum(class_counts.values())
    reached = score_interval(baseline.correct, confidence)
    if reached.mean <= _FAR_ABOVE_GUESSING * guess:
        why = "it has learned almost nothing"
    elif reached.low is not None and reached.low <= guess:
        why = "its interval reaches down to that, so it may have learned nothing"
    else:
        return ()
    return (
        f"The baseline is right on {reached.mean:.1%} of the test images, and always naming the "
        f"most frequent class is right on {guess:.1%}: {why}; comparisons with it say little. "
        "Train longer, or give more images or seeds.",
    )


def _leakage(prepared: Prepared, arm: PreparedArm) -> str:
    """What the generators had seen that the arm and the baseline take images of."""
    baseline = prepared.arms[baseline_name(prepared.spec)]
    sentences = [
        leakage.describe(
            prepared.sources.synthetic[side.synthetic],
            owner=owner,
            num_real=len(np.unique(side.mixed.real)),
        )
        for owner, side in (("this arm", arm), ("the baseline", baseline))
        if side.synthetic is not None
    ]
    return "; ".join(sentences) or "no synthetic images"
