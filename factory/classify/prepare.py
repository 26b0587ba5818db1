"""Check a comparison before anything heavy starts: open its sources, mix its arms, pin them."""

from dataclasses import dataclass

from factory.classify.arms import (
    PreparedArm,
    Sources,
    hold_out,
    prepare_arms,
    synthetic_name,
)
from factory.classify.leakage import count_overlap, refuse_leaks
from factory.classify.results import ClassifyDryRun, DryArm, TrialRecord
from factory.classify.schedule import images_per_step
from factory.classify.weights import pin_weights
from factory.classify.words import mix_in_words
from factory.records import refuse_others
from factory.sources.mix import most_of_each, synthetic_needed
from factory.sources.named import fit_named, open_named
from factory.sources.source import Source
from factory.sources.summary import summarize
from factory.spec import ClassifySpec, SpecError
from factory.store import Store


@dataclass(frozen=True, slots=True)
class Prepared:
    """A comparison whose inputs are pinned."""

    spec: ClassifySpec
    root: str
    sources: Sources
    arms: dict[str, PreparedArm]
    overlap: dict[str, int]
    """Source -> test images that occur in it."""

    def records(self) -> dict[tuple[str, int], TrialRecord]:
        """Records of the arms' trainings in the root, by arm and trial."""
        names = {
            (name, trial): record_name(arm.fingerprint, trial)
            for name, arm in self.arms.items()
            for trial in range(self.spec.num_seeds)
        }
        found = {
            name: TrialRecord.model_validate_json(data)
            for name, data in Store(self.root).get_many(set(names.values())).items()
        }
        return {key: found[name] for key, name in names.items() if name in found}

    def pending(self) -> list[tuple[str, int]]:
        """Arm and trial of every training that is still to do, trial by trial.

        Of arms with the same images and length the first one is trained, for all of them.
        """
        store, records = Store(self.root), self.records()
        pending: dict[tuple[str, int], tuple[str, int]] = {}
        for trial in range(self.spec.num_seeds):
            for name, arm in self.arms.items():
                config = f"{classifier_folder(arm.fingerprint, trial)}/config.json"
                lacks_classifier = self.spec.save_classifiers and not store.exists(config)
                if (name, trial) not in records or lacks_classifier:
                    pending.setdefault((arm.fingerprint, trial), (name, trial))
        return list(pending.values())


def record_name(arm_fingerprint: str, trial: int) -> str:
    """Name of a training's record in the root."""
    return f"trials/{arm_fingerprint}-{trial}.json"


def classifier_folder(arm_fingerprint: str, trial: int) -> str:
    """Folder in the root for a trained classifier."""
    return f"classifiers/{arm_fingerprint}-{trial}"


def prepare(spec: ClassifySpec, root: str) -> Prepared:
    """Open all sources, mix all arms; reads `root`, writes nothing.

    Raises:
        SpecError: if sources do not fit one another, hold too few images for an arm, or the
            generator has seen the test images; or if the root holds something else.
    """
    refuse_others(Store(root), ClassifySpec, job="classify")
    classifier, weights = pin_weights(spec.classifier)
    spec = spec.model_copy(update={"classifier": classifier})
    whole, opened = open_named("real", spec.real), open_named("test", spec.test)
    empty = [name for name, count in whole.class_counts.items() if count == 0]
    if empty:
        raise SpecError(f"real: {whole.name} holds no images of {empty}; nothing can learn them")
    test = fit_named("test", opened, whole)
    real, validation = whole, None
    held_out = spec.training.validation
    if held_out is not None and held_out.of == "real":
        real, validation = hold_out(whole, held_out.fraction, seed=spec.seed)
    synthetic = _open_synthetic(spec, real)
    refuse_leaks(spec.test, opened, {name: source.trained_on for name, source in synthetic.items()})
    overlap = count_overlap(test, whole, synthetic)
    sources = Sources(real, validation, test, synthetic, weights)
    return Prepared(spec, root, sources, prepare_arms(spec, sources), overlap)


def dry_run(prepared: Prepared) -> ClassifyDryRun:
    """Say what would be trained; starts nothing."""
    spec, sources = prepared.spec, prepared.sources
    return ClassifyDryRun(
        root=prepared.root,
        asked=spec.model_dump(mode="json"),
        real=summarize(sources.real),
        test=summarize(sources.test),
        synthetic={name: summarize(source) for name, source in sources.synthetic.items()},
        overlap=prepared.overlap,
        arms={
            name: DryArm(
                mix=mix_in_words(arm.arm),
                real_counts=arm.mixed.real_counts,
                synthetic_counts=arm.mixed.synthetic_counts,
                num_steps=arm.num_steps,
                images_seen=arm.num_steps * images_per_step(spec.training, arm.arm),
                fingerprint=arm.fingerprint,
            )
            for name, arm in prepared.arms.items()
        },
        num_trainings=len({arm.fingerprint for arm in prepared.arms.values()}) * spec.num_seeds,
        num_pending=len(prepared.pending()),
    )


def _open_synthetic(spec: ClassifySpec, real: Source) -> dict[str, Source]:
    """The synthetic sources that arms take images of, read no further than they are needed."""
    most: dict[str, dict[str, int]] = {}
    for arm in spec.arms.values():
        needed = synthetic_needed(arm.mix, real.class_counts)
        key = synthetic_name(spec, arm, needed)
        if key is not None:
            most[key] = most_of_each([needed, most.get(key, {})])
    opened = {}
    for key, counts in most.items():
        field = f"synthetic.{key}"
        source = open_named(field, spec.synthetic[key], images_per_class=counts)
        opened[key] = fit_named(field, source, real)
    return opened
