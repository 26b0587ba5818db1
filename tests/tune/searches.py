"""Searches that never ran: exact reports with awkward values."""

import itertools
from typing import Any

from factory.classify.results import Verdict
from factory.metrics.evidence import Comparison, Interval, seed_interval
from factory.records import Device
from factory.sources.summary import SourceSummary
from factory.spec import TuneSpec
from factory.tune.results import (
    CHOSEN_ARM,
    DEFAULT_ARM,
    REAL_ARM,
    ConfirmedTrial,
    DatasetResult,
    FinalResult,
    TrialResult,
    TuneReport,
)

RATIO, GUIDANCE = "arm.synthetic_ratio", "generate.generator.guidance_scale"
WORDS = (None, "<b>bold</b> & $x$", ["left", "right"], "a_name_" * 8)
SPACE: dict[str, Any] = {
    RATIO: [0.25, 0.5, 0.75],
    GUIDANCE: {"low": 1.0, "high": 4.0, "step": 0.5},
    "training.learning_rate": {"low": 0.02, "high": 0.2, "log": True},
    "arm.augmentation": [None, "flip_crop"],
    "training.augmentation": WORDS,
}
LEAKAGE = "the generator saw 60,000 real images (photos <train>); the arm has 2,000"
FAILURE = {"synthetic_ratio 0.5, augmentation <none>": "TrainingFailed: loss is <nan> at step 7"}
NUM_IMAGES = 2_000
"""Of each dataset."""


def fake_spec(**fields: Any) -> TuneSpec:
    search = {"searcher": "random", "num_trials": 33, "scheduler": "asha"}
    return TuneSpec.model_validate({"space": SPACE, "search": search} | fields)


def fake_config(number: int) -> dict[str, Any]:
    return {
        RATIO: (0.25, 0.5, 0.75)[number % 3],
        GUIDANCE: 1 + number % 7 / 2,
        "training.learning_rate": 0.02 * 10 ** (number * 7 % 32 / 32),
        "arm.augmentation": (None, "flip_crop")[number % 2],
        "training.augmentation": WORDS[number % 4],
    }


def fake_trial(number: int, *, priced: bool) -> TrialResult:
    """Better near a ratio of 0.5 and a guidance of 2, and with more images; some are stopped."""
    config, stopped = fake_config(number), number % 9 == 4
    loss = 0.3 * (config[RATIO] - 0.5) ** 2 + 0.01 * (config[GUIDANCE] - 2) ** 2
    accuracy = 0.86 - loss + 0.006 * (number % 4) - 0.5 * stopped
    training, drawing = 20.0 + number % 5, 10.0 * (1 + number % 4)
    return TrialResult(
        number=number,
        config=config,
        accuracy=accuracy,
        accuracies=() if stopped else (accuracy,),
        percent=25 if stopped else 100,
        dataset=f"data{config[GUIDANCE]:g}",
        num_real=0 if stopped else 1_500,
        num_synthetic=500 * (1 + number % 4),
        training_seconds=0 if stopped else training,
        drawing_seconds=drawing,
        cost=(training + drawing) / 3600 if priced else None,
    )


def fake_confirmed(trials: tuple[TrialResult, ...]) -> tuple[ConfirmedTrial, ...]:
    """The best three, all a little worse than they were; the second is now the first."""
    best = sorted((t for t in trials if t.accuracies), key=lambda t: -t.accuracy)[:3]
    drops = (0.006, 0.001, 0.009)
    confirmed = []
    for trial, drop in zip(best, drops, strict=False):
        scores = tuple(trial.accuracy - drop + offset for offset in (-0.004, 0.0, 0.004))
        confirmed.append(
            ConfirmedTrial(
                number=trial.number,
                config=trial.config,
                accuracies=scores,
                accuracy=seed_interval(scores, 0.95),
            )
        )
    return tuple(sorted(confirmed, key=lambda trial: -trial.accuracy.mean))


def fake_verdict(baseline: str, outcome: Any, mean: float) -> Verdict:
    gap = Interval(mean=mean, low=mean - 0.008, high=mean + 0.008, spread=0.004, num_seeds=3)
    overall = Comparison(outcome=outcome, difference=gap, p_value=0.01, detectable=0.0121)
    return Verdict(
        arm=CHOSEN_ARM,
        baseline=baseline,
        overall=overall,
        per_class={},
        f1_difference=gap,
        leakage=f"{LEAKAGE}, as {baseline}",
    )


def fake_final(*, default_was_chosen: bool) -> FinalResult:
    names = [REAL_ARM, CHOSEN_ARM, *([] if default_was_chosen else [DEFAULT_ARM])]
    means = dict(zip(names, (0.846, 0.869, 0.862), strict=False))
    against = None if default_was_chosen else fake_verdict(DEFAULT_ARM, "no evidence", 0.007)
    return FinalResult(
        arms={
            name: Interval(mean=mean, low=mean - 0.006, high=mean + 0.006, spread=0, num_seeds=3)
            for name, mean in means.items()
        },
        mixes=dict(zip(names, ("all real", "all real + 3 x", "all real + 1 x"), strict=False)),
        against_real=fake_verdict(REAL_ARM, "helps", 0.023),
        against_default=against,
        default_was_chosen=default_was_chosen,
        warnings=("The baseline has learned <almost> nothing.",),
        html="/data/my search/final/report.html",
    )


def fake_source(split: str, num_images: int) -> SourceSummary:
    return SourceSummary(
        name="photos <of> clothes",
        split=split,
        digest="0123456789abcdef" * 4,
        num_images=num_images,
        class_counts={"shirt": num_images // 2, "bag": num_images // 2},
        image_size=(28, 28),
        channels=1,
        skipped=0,
        trained_on=None,
    )


def fake_datasets(trials: tuple[TrialResult, ...], *, priced: bool) -> tuple[DatasetResult, ...]:
    guidances = {trial.dataset: trial.config[GUIDANCE] for trial in trials if trial.dataset}
    return tuple(
        DatasetResult(
            fingerprint=fingerprint,
            config={GUIDANCE: guidance},
            root=f"/data/my search/datasets/{fingerprint}",
            num_images=NUM_IMAGES,
            num_asked=sum(t.num_synthetic for t in trials if t.dataset == fingerprint),
            device_seconds=45,
            cost=45 / 3600 if priced else None,
        )
        for fingerprint, guidance in sorted(guidances.items())
    )


def fake_report(
    num_trials: int = 33,
    *,
    priced: bool = False,
    default_was_chosen: bool = False,
    failures: dict[str, str] | None = None,
    trials: tuple[TrialResult, ...] | None = None,
) -> TuneReport:
    """A search of so many trials, or of `trials`."""
    if trials is None:
        trials = tuple(fake_trial(number, priced=priced) for number in range(1, num_trials + 1))
    confirmed, datasets = fake_confirmed(trials), fake_datasets(trials, priced=priced)
    training = sum(trial.training_seconds for trial in trials)
    drawing = sum(dataset.device_seconds for dataset in datasets)
    return TuneReport(
        root="/data/my search",
        name="tune",
        fingerprint="0123456789ab",
        real=fake_source("train", 2_000),
        validation=fake_source("train, held out", 500),
        test=fake_source("test", 1_000),
        overlap=3,
        network="resnet18, width 16, small stem, from scratch",
        training="600 steps of batches of 128, SGD at 0.1 (one_cycle), float32",
        trials=trials,
        confirmed=confirmed,
        chosen=confirmed[0].config,
        validation_seen=False,
        final=fake_final(default_was_chosen=default_was_chosen),
        datasets=datasets,
        num_images=NUM_IMAGES * len(datasets),
        num_images_asked=sum(trial.num_synthetic for trial in trials),
        num_there=0,
        num_drawn=NUM_IMAGES * len(datasets),
        training_seconds=training,
        drawing_seconds=drawing,
        cost=(training + drawing) / 3600 if priced else None,
        failures=failures or {},
        seconds=1_800,
        device=Device(kind="cpu AVX512", versions={"torch": "2.13.0"}),
        versions={"factory": "0.1.0", "torch": "2.13.0"},
        chosen_generate="/data/my search/chosen/generate.yaml" if datasets else None,
        chosen_classify="/data/my search/chosen/classify.yaml",
        html="/data/my search/report.html",
    )


def trial_with(number: int, config: dict[str, Any], accuracy: float, seconds: float) -> TrialResult:
    """A finished trial without synthetic images."""
    return TrialResult(
        number=number,
        config=config,
        accuracy=accuracy,
        accuracies=(accuracy,),
        percent=100,
        dataset=None,
        num_real=2_000,
        num_synthetic=0,
        training_seconds=seconds,
        drawing_seconds=0,
        cost=None,
    )


def tied_trials() -> tuple[TrialResult, ...]:
    """Trials at two expenses and two accuracies, each twice."""
    points = itertools.product((10.0, 20.0), (0.8, 0.9), (0, 1))
    return tuple(
        trial_with(number, {RATIO: 0.5}, accuracy, seconds)
        for number, (seconds, accuracy, _) in enumerate(points, start=1)
    )
