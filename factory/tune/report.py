"""From what was tried to the report: order, costs, shares."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from factory.classify.leakage import seen_images
from factory.classify.words import mix_in_words, network_in_words, training_in_words
from factory.metrics.evidence import seed_interval, within
from factory.pages.folder import HTML_NAME
from factory.records import take_inventory
from factory.sources.summary import summarize
from factory.spec import JobError, Resources
from factory.store import Store
from factory.tune.final import Final
from factory.tune.point import images_needed
from factory.tune.prepare import Dataset, Prepared
from factory.tune.results import (
    CHOSEN_ARM,
    CHOSEN_CLASSIFY,
    REAL_ARM,
    ConfirmedTrial,
    DatasetResult,
    FinalResult,
    TrialResult,
    TuneReport,
)
from factory.tune.space import Config, with_config
from factory.tune.tried import Score, Tried

_PACKAGES = ("factory", "ray", "optuna", "torch", "diffusers", "numpy")


def best_of(tried: Sequence[Tried], top: int) -> list[Tried]:
    """The best that were trained to the end, each training once; the best first.

    Raises:
        JobError: if there is none.
    """
    best: dict[str, Tried] = {}
    for trial in sorted(tried, key=lambda trial: -trial.accuracy):
        if trial.scores:
            best.setdefault(trial.scores[0].fingerprint, trial)
    if not best:
        raise JobError("no configuration could be trained to the end; see the failures above")
    return list(best.values())[:top]


def confirmed_trials(
    best: Sequence[Tried], scores: Mapping[int, Sequence[Score]], confidence: float
) -> tuple[ConfirmedTrial, ...]:
    """Trials with the scores of fresh seeds alone, the best first.

    Args:
        best: the trials.
        scores: number of a trial -> its fresh scores; those without any are left out.
        confidence: of the intervals.
    """
    confirmed = []
    for trial in best:
        accuracies = tuple(score.accuracy for score in scores.get(trial.number, ()))
        if accuracies:
            confirmed.append(
                ConfirmedTrial(
                    number=trial.number,
                    config=trial.config,
                    accuracies=accuracies,
                    accuracy=within(seed_interval(accuracies, confidence), 0.0, 1.0),
                )
            )
    return tuple(sorted(confirmed, key=lambda trial: -trial.accuracy.mean))


def make_report(
    prepared: Prepared,
    tried: Sequence[Tried],
    confirmed: tuple[ConfirmedTrial, ...],
    retrained: Sequence[Score],
    final: Final,
    *,
    failures: dict[str, str],
    num_there: int,
    num_drawn: int,
    seconds: float,
) -> TuneReport:
    """What the search found, and what it cost.

    Args:
        prepared: the search.
        tried: in the order of the search.
        confirmed: the best first.
        retrained: scores of all trainings of the confirmation.
        final: the chosen mix on the test images.
        failures: configuration -> why it could not be trained.
        num_there: images that lay there before this run.
        num_drawn: images that this run drew.
        seconds: wall-clock time of this run.
    """
    costs = _Costs(prepared)
    trials = tuple(costs.of_trial(trial) for trial in tried)
    datasets = tuple(
        costs.of_dataset(dataset, trials)
        for dataset in prepared.datasets.values()
        if costs.num_images[dataset.fingerprint]
    )
    training_seconds = sum(trial.training_seconds for trial in trials)
    training_seconds += sum(score.seconds for score in retrained)
    drawing_seconds = sum(dataset.device_seconds for dataset in datasets)
    store, compared = Store(prepared.root), final.comparison
    chosen = with_config(prepared.spec, confirmed[0].config)
    return TuneReport(
        root=store.url,
        name=prepared.spec.name,
        fingerprint=prepared.fingerprint,
        real=summarize(prepared.whole),
        validation=summarize(prepared.data.validation),
        test=prepared.test,
        overlap=prepared.overlap,
        network=network_in_words(chosen.classifier),
        training=training_in_words(chosen.training),
        trials=trials,
        confirmed=confirmed,
        chosen=confirmed[0].config,
        validation_seen=_is_validation_seen(prepared, confirmed[0].config),
        final=FinalResult(
            arms={name: arm.top1 for name, arm in compared.arms.items()},
            mixes={name: mix_in_words(arm.arm) for name, arm in compared.arms.items()},
            against_real=next(
                v for v in compared.verdicts if (v.arm, v.baseline) == (CHOSEN_ARM, REAL_ARM)
            ),
            against_default=final.against_default,
            default_was_chosen=final.default_was_chosen,
            warnings=compared.warnings,
            html=compared.html,
        ),
        datasets=datasets,
        num_images=sum(dataset.num_images for dataset in datasets),
        num_images_asked=sum(trial.num_synthetic for trial in trials),
        num_there=num_there,
        num_drawn=num_drawn,
        training_seconds=round(training_seconds, 1),
        drawing_seconds=round(drawing_seconds, 1),
        cost=costs.price(training_seconds, drawing_seconds),
        failures=failures | {f"final: {name}": why for name, why in compared.failures.items()},
        seconds=round(seconds, 1),
        device=compared.device,
        versions={name: version(name) for name in _PACKAGES},
        chosen_generate=final.generate and f"{store.url}/{final.generate}",
        chosen_classify=f"{store.url}/{CHOSEN_CLASSIFY}",
        html=f"{store.url}/{HTML_NAME}",
    )


def _is_validation_seen(prepared: Prepared, chosen: Config) -> bool:
    spec, data = prepared.spec, prepared.data
    if not images_needed(with_config(spec, chosen), data.real.class_counts):
        return False
    seen = prepared.dataset_of(chosen).resolved.root_spec.trained_on
    # Images that are held out of `real` are seen with it.
    asked, source = spec.real, prepared.whole
    if spec.validation is not None:
        asked, source = spec.validation, data.validation
    return bool(seen_images(asked, source, {"chosen": seen}))


class _Costs:
    """Device time and money, from the records of the datasets."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.num_images: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        for dataset in prepared.datasets.values():
            records = take_inventory(Store(dataset.folder), dataset.fingerprint).records.values()
            self.num_images[dataset.fingerprint] = sum(record.num_samples for record in records)
            self.seconds[dataset.fingerprint] = sum(
                sum(record.seconds.values()) for record in records
            )

    def of_trial(self, tried: Tried) -> TrialResult:
        counts = self._prepared.data.real.class_counts
        needed = images_needed(with_config(self._prepared.spec, tried.config), counts)
        num_synthetic = sum(needed.values())
        fingerprint = self._prepared.dataset_of(tried.config).fingerprint if needed else None
        drawing = 0.0
        if fingerprint is not None and self.num_images[fingerprint]:
            share = num_synthetic / self.num_images[fingerprint]
            drawing = share * self.seconds[fingerprint]
        training = tried.seconds
        return TrialResult(
            number=tried.number,
            config=tried.config,
            accuracy=tried.accuracy,
            accuracies=tuple(score.accuracy for score in tried.scores),
            percent=tried.percent,
            dataset=fingerprint,
            num_real=tried.scores[0].num_real if tried.scores else 0,
            num_synthetic=num_synthetic,
            training_seconds=round(training, 2),
            drawing_seconds=round(drawing, 2),
            cost=self.price(training, drawing),
        )

    def of_dataset(self, dataset: Dataset, trials: Sequence[TrialResult]) -> DatasetResult:
        seconds = self.seconds[dataset.fingerprint]
        return DatasetResult(
            fingerprint=dataset.fingerprint,
            config=dataset.config,
            root=dataset.folder,
            num_images=self.num_images[dataset.fingerprint],
            num_asked=sum(t.num_synthetic for t in trials if t.dataset == dataset.fingerprint),
            device_seconds=round(seconds, 2),
            cost=_price(seconds, self._prepared.spec.generate.resources),
        )

    def price(self, training_seconds: float, drawing_seconds: float) -> float | None:
        """Of both; None where a price is missing."""
        spec = self._prepared.spec
        training = _price(training_seconds, spec.resources)
        drawing = _price(drawing_seconds, spec.generate.resources)
        return None if training is None or drawing is None else training + drawing


def _price(seconds: float, resources: Resources) -> float | None:
    price = resources.price_per_hour
    return None if price is None else seconds / 3600 * price
