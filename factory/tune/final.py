"""The chosen mix on the test images: its specs, and the comparison that they are measured by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import yaml

from factory.classify.compare import make_report as compare_arms
from factory.classify.prepare import Prepared as PreparedComparison
from factory.classify.prepare import prepare as prepare_comparison
from factory.classify.results import ClassifyReport, Verdict
from factory.classify.run import run as run_comparison
from factory.classify.train import TrainingFailed
from factory.seeds import hash_seed
from factory.spec import Arm, ClassifySpec, JobError, RealMix
from factory.store import Store
from factory.tune.point import images_needed, images_spec, synthetic_source
from factory.tune.prepare import Prepared
from factory.tune.results import (
    CHOSEN_ARM,
    CHOSEN_CLASSIFY,
    CHOSEN_GENERATE,
    DEFAULT_ARM,
    REAL_ARM,
    ConfirmedTrial,
)
from factory.tune.space import Config, in_words, with_config

FINAL_FOLDER = "final"
"""In the root: the comparison on the test images."""
_SOURCES = {CHOSEN_ARM: "chosen", DEFAULT_ARM: "default"}
"""Arm -> its synthetic source."""


class Final(NamedTuple):
    """What the chosen mix is worth on images that nothing was chosen by."""

    comparison: ClassifyReport
    """Against real images alone."""
    against_default: Verdict | None
    """None where the default mix was chosen, or could not be trained."""
    default_was_chosen: bool
    generate: str | None
    """Name of the chosen dataset's spec in the root; None if the mix takes no synthetic images."""


def named_mixes(chosen: Config) -> dict[str, Config]:
    """Arm of the final comparison -> its configuration; an empty one is the default mix."""
    return {CHOSEN_ARM: chosen, DEFAULT_ARM: {}}


def choose(
    confirmed: Sequence[ConfirmedTrial], compare: Callable[[Config], Final]
) -> tuple[tuple[ConfirmedTrial, ...], Final, dict[str, str]]:
    """Test the best of the confirmed trials that can be trained with all real images.

    Args:
        confirmed: the best first.
        compare: tests a configuration.

    Returns:
        The chosen trial and those behind it, its test, and which better ones failed, in words ->
        why.

    Raises:
        JobError: if none of them can be trained.
    """
    failures: dict[str, str] = {}
    for place, trial in enumerate(confirmed):
        try:
            return tuple(confirmed[place:]), compare(trial.config), failures
        except TrainingFailed as error:
            failures[f"{trial.number}: {in_words(trial.config)}, in the end"] = str(error)
    reasons = "; ".join(f"{name}: {why}" for name, why in failures.items())
    raise JobError(f"no confirmed configuration could be trained with all real images: {reasons}")


def compare_chosen(
    prepared: Prepared,
    chosen: Config,
    images: Mapping[str, str | None],
    *,
    runtime_env: dict[str, Any] | None = None,
) -> Final:
    """Write the chosen specs into the root, and run the comparison that they ask for.

    Args:
        prepared: the search.
        chosen: configuration of the chosen mix.
        images: arm -> root of its synthetic images, all there; None: it takes none.
        runtime_env: as `classify.run.run` takes it.

    Raises:
        TrainingFailed: if no training of the chosen mix, or none of real images alone, is finished.
    """
    store, counts = Store(prepared.root), prepared.whole.class_counts
    configured = with_config(prepared.spec, chosen)
    needed, generate = images_needed(configured, counts), None
    if needed:
        generate = CHOSEN_GENERATE
        tree = images_spec(configured, needed).model_dump(mode="json", exclude_unset=True)
        store.put(generate, _as_yaml(tree, "generate"))
    comparison = final_spec(prepared, chosen, images)
    store.put(CHOSEN_CLASSIFY, _as_yaml(comparison.model_dump(mode="json"), "classify"))
    final = prepare_comparison(comparison, f"{prepared.root}/{FINAL_FOLDER}")
    return final_of(final, run_comparison(final, runtime_env=runtime_env), generate)


def final_of(final: PreparedComparison, report: ClassifyReport, generate: str | None) -> Final:
    """What the final comparison says of the chosen mix.

    Args:
        final: the comparison, its trainings done.
        report: its own report.
        generate: name of the chosen dataset's spec in the root, if there is one.

    Raises:
        TrainingFailed: if no training of the chosen mix is finished.
    """
    if CHOSEN_ARM not in report.arms:
        reasons = "; ".join(f"{name}: {why}" for name, why in report.failures.items())
        raise TrainingFailed(f"no training of the {CHOSEN_ARM} was finished ({reasons})")
    against_default = None
    if DEFAULT_ARM in report.arms:
        spec = final.spec.model_copy(update={"baseline": DEFAULT_ARM})
        other = compare_arms(
            replace(final, spec=spec), zero_shot=None, made=0, failures={}, seconds=0
        )
        against_default = next(v for v in other.verdicts if v.arm == CHOSEN_ARM)
    return Final(report, against_default, DEFAULT_ARM not in final.arms, generate)


def final_spec(
    prepared: Prepared, chosen: Config, images: Mapping[str, str | None]
) -> ClassifySpec:
    """The comparison of the chosen mix with real images alone and with the default mix.

    All have the chosen network, training and augmentation, but for the default mix where the spec
    gives it an augmentation of its own; their seeds are not those of the search.
    """
    spec, configured = prepared.spec, with_config(prepared.spec, chosen)
    mixes = {CHOSEN_ARM: configured.arm, DEFAULT_ARM: spec.arm}
    if mixes[CHOSEN_ARM] == spec.arm and images[CHOSEN_ARM] == images[DEFAULT_ARM]:
        del mixes[DEFAULT_ARM]
    roots = {name: images[name] for name in mixes}
    sources = {_SOURCES[n]: synthetic_source(spec, root) for n, root in roots.items() if root}
    arms = {
        name: arm.model_copy(update={"synthetic": _SOURCES[name] if roots[name] else None})
        for name, arm in mixes.items()
    }
    return ClassifySpec(
        name=spec.name,
        real=spec.real,
        test=spec.test,
        # A mix that may hold synthetic images wants a source of them, even where it takes none.
        synthetic=sources or {"none": synthetic_source(spec, "out")},
        arms={REAL_ARM: Arm(mix=RealMix(), augmentation=configured.arm.augmentation), **arms},
        classifier=configured.classifier,
        training=configured.training,
        seed=hash_seed(spec.seed, "final"),
        num_seeds=spec.num_seeds,
        confidence=spec.confidence,
        threads=spec.threads,
        num_workers=spec.num_workers,
        resources=spec.resources,
    )


def _as_yaml(tree: dict[str, Any], job: str) -> bytes:
    head = f"# Chosen by jobs/tune.py, for `python jobs/{job}.py THIS_FILE --root FOLDER`.\n"
    return (head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)).encode()
