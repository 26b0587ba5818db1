"""Check a search before anything heavy starts: its space, its real images, its datasets."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from factory.classify.arms import hold_out
from factory.classify.leakage import MOST_OVERLAP, count_common, count_overlap, refuse_leaks
from factory.classify.weights import pin_weights
from factory.records import refuse_others, take_inventory
from factory.resolve import Resolved, resolve
from factory.sources.mix import most_of_each
from factory.sources.named import fit_named, open_named
from factory.sources.source import Source
from factory.sources.summary import SourceSummary, summarize
from factory.spec import Frozen, SpecError, TuneSpec, fingerprint
from factory.store import Store
from factory.tune.point import (
    ARM,
    RealData,
    as_comparison,
    images_needed,
    images_spec,
)
from factory.tune.space import Config, check_space, combinations, in_words, values, with_config

_LEAST_SHARD = 25
"""Images of a shard that is worth its file."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Synthetic images that several configurations share."""

    fingerprint: str
    config: Config
    """The part of the configurations that changes the images."""
    resolved: Resolved
    """With the counts of the largest that a configuration may need."""
    folder: str
    """Its root, named by its fingerprint."""

    @property
    def most_images(self) -> int:
        """Images that the search may draw of it."""
        return self.resolved.plan.num_images


@dataclass(frozen=True, slots=True)
class Prepared:
    """A search whose inputs are pinned."""

    spec: TuneSpec
    root: str
    data: RealData
    whole: Source
    """All real images, which the final trainings have."""
    test: SourceSummary
    datasets: dict[str, Dataset]
    """By fingerprint."""
    fingerprints: dict[str, str]
    """`images_key` of a configuration -> fingerprint of its dataset."""
    overlap: int
    """Test images that occur among the real ones, pixel by pixel."""
    weights: tuple[str | None, ...]
    """Digests of the weights that trainings start from, of every classifier of the space."""

    def dataset_of(self, config: Config) -> Dataset:
        """The images of a configuration; of an empty one, those of the default mix."""
        return self.datasets[self.fingerprints[images_key(config)]]

    @property
    def most_images(self) -> int:
        """Images that the search may draw in all."""
        sizes = {name: dataset.most_images for name, dataset in self.datasets.items()}
        default = sizes.pop(self.fingerprints.get(images_key({}), ""), 0)
        # A trial takes images of one dataset, and the default mix may be none of the trials.
        return default + sum(sorted(sizes.values(), reverse=True)[: self.spec.search.num_trials])

    @property
    def fingerprint(self) -> str:
        """Names all that decides which trials there are."""
        what = self.spec.model_dump(
            mode="json", exclude={"confirm", "num_seeds", "confidence", "max_images", "resources"}
        )
        real = [self.data.real.digest, self.data.validation.digest]
        return fingerprint([what, real, sorted(self.datasets), self.weights])


class DryDataset(Frozen):
    """A dataset that a search may draw."""

    images: str
    """Its settings, in words."""
    root: str
    most_images: int
    there: int
    """Images that are there already."""


class TuneDryRun(Frozen):
    """What --dry-run prints."""

    root: str
    fingerprint: str
    asked: dict[str, object]
    real: SourceSummary
    validation: SourceSummary
    test: SourceSummary
    num_trials: int
    num_trainings: int
    """Of the search, the confirmation and the final comparison, at most."""
    datasets: tuple[DryDataset, ...]
    most_images: int
    """Images that may be drawn in all."""


def prepare(spec: TuneSpec, root: str) -> Prepared:
    """Open all sources, resolve all datasets that trials may need; reads `root`, writes nothing.

    Raises:
        SpecError: if the space names no fields or values of theirs, sources do not fit one another,
            images cannot be drawn, more than `max_images` might be, or a generator has seen the
            test images; or if the root holds something else.
    """
    refuse_others(Store(root), TuneSpec, job="tune")
    check_space(spec)
    _check_comparisons(spec)
    whole, opened = open_named("real", spec.real), open_named("test", spec.test)
    test = fit_named("test", opened, whole)
    data = _hold_out(spec, whole)
    overlap = count_overlap(test, whole, {})["real"]
    _check_apart(data, test)
    weights = tuple(
        pin_weights(with_config(spec, config).classifier)[1]
        for config in combinations(spec.space, "classifier.")
    )
    spec = _with_shard_size(spec, whole, data.real)
    found = list(_datasets(spec, root, whole))
    # The default's settings may be among those of the space.
    datasets = {dataset.fingerprint: dataset for dataset in found}
    fingerprints = {images_key(dataset.config): dataset.fingerprint for dataset in found}
    trained_on = {
        f"generate ({in_words(d.config)})": d.resolved.root_spec.trained_on
        for d in datasets.values()
    }
    refuse_leaks(spec.test, opened, trained_on)
    prepared = Prepared(
        spec, root, data, whole, summarize(test), datasets, fingerprints, overlap, weights
    )
    _check_bound(prepared)
    return prepared


def dry_run(prepared: Prepared) -> TuneDryRun:
    """Say what would be tried; starts nothing."""
    spec = prepared.spec
    trials = num_trials(spec)
    return TuneDryRun(
        root=prepared.root,
        fingerprint=prepared.fingerprint,
        asked=spec.model_dump(mode="json"),
        real=summarize(prepared.whole),
        validation=summarize(prepared.data.validation),
        test=prepared.test,
        num_trials=trials,
        num_trainings=trials * spec.search.num_seeds
        + min(spec.confirm.top, trials) * spec.confirm.num_seeds
        + 3 * spec.num_seeds,
        datasets=tuple(
            DryDataset(
                images=in_words(dataset.config) or "as the spec says",
                root=dataset.folder,
                most_images=dataset.most_images,
                there=count_images(dataset),
            )
            for dataset in prepared.datasets.values()
        ),
        most_images=prepared.most_images,
    )


def images_key(config: Config) -> str:
    """Names the part of a configuration that changes the images."""
    return fingerprint({path: config[path] for path in config if path.startswith("generate.")})


def images_ahead(spec: TuneSpec, class_counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """`images_key` of a configuration -> images of each class that its trials will all need.

    Args:
        spec: the search.
        class_counts: real images of each class that they are mixed with.
    """
    if spec.search.searcher != "grid":
        return {}
    # It tries all mixes with all images; other searches may never ask for the most. Images that
    # the default mix alone takes are not among them.
    mixes = combinations(spec.space, "arm.")
    most = most_of_each(images_needed(with_config(spec, mix), class_counts) for mix in mixes)
    return {images_key(config): most for config in combinations(spec.space, "generate.")}


def in_whole_shards(counts: Mapping[str, int], dataset: Dataset) -> dict[str, int]:
    """Images of each class that fill the shards which hold `counts`, and none beyond the dataset.

    A short shard that has to grow is drawn anew, so a search that cannot tell what its trials will
    ask for draws whole ones. Of other layouts than one class a shard, `counts` as they are.
    """
    plan = dataset.resolved.plan
    if plan.layout != "by_class" or plan.reconstructs or plan.counts is None:
        return dict(counts)
    most, size = dict(zip(plan.class_names, plan.counts, strict=True)), plan.shard_size
    return {name: min(-(-count // size) * size, most[name]) for name, count in counts.items()}


def num_trials(spec: TuneSpec) -> int:
    """Configurations that the search tries."""
    return spec.search.num_trials or sum(1 for _ in combinations(spec.space))


def count_images(dataset: Dataset) -> int:
    """Images that lie in its root."""
    store = Store(dataset.folder)
    if not store.exists("spec.json"):
        return 0
    records = take_inventory(store, dataset.fingerprint).records
    return sum(record.num_samples for record in records.values())


def _check_comparisons(spec: TuneSpec) -> None:
    """Refuse configurations that no comparison takes, though each of their values is one."""
    path = "arm.synthetic_ratio"
    if spec.num_workers > 1 and path in spec.space and values(spec.space[path]) is None:
        raise SpecError(
            f"space: {path} has no step and num_workers is {spec.num_workers}, which a batch of "
            "any share cannot be divided among; give a step or a list"
        )
    for sections in (("arm.", "training.batch_size"), ("training.",), ("classifier.",)):
        for config in combinations(spec.space, sections):
            try:
                as_comparison(with_config(spec, config), None)
            except ValidationError as error:
                said = f"space: {in_words(config)}" if config else "spec"
                reasons = "; ".join(
                    item["msg"].removeprefix("Value error, ").replace(f"arms.{ARM}.", "arm.")
                    for item in error.errors(include_url=False)
                )
                raise SpecError(f"{said}: {reasons}") from None


def _hold_out(spec: TuneSpec, whole: Source) -> RealData:
    if spec.validation is not None:
        opened = open_named("validation", spec.validation)
        return RealData(whole, fit_named("validation", opened, whole))
    field = "validation_fraction"
    real, held = hold_out(whole, spec.validation_fraction, seed=spec.seed, field=field)
    return RealData(real, replace(held, split=f"{whole.split}, held out"))


def _check_apart(data: RealData, test: Source) -> None:
    validation = data.validation
    for field, other in (("real", data.real), ("test", test)):
        common = count_common(validation, other)
        if common > MOST_OVERLAP * len(validation):
            raise SpecError(
                f"validation: {common} of its {len(validation)} images are among those of {field}; "
                "give others, e.g. half: first to one and half: second to the other"
            )


def _arm_counts(spec: TuneSpec, counts: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """What the mixes of the space, and the default one, need of each class."""
    for config in [{}, *combinations(spec.space, "arm.")]:
        yield images_needed(with_config(spec, config), counts)


def _with_shard_size(spec: TuneSpec, whole: Source, real: Source) -> TuneSpec:
    """`spec` with shards that a larger dataset keeps whole, where its counts have a divisor.

    A short shard that grows is drawn anew; one that is full never is.
    """
    generate = spec.generate
    if "shard_size" in generate.model_fields_set or generate.labels == "quota":
        return spec
    needed = [
        count
        for source in (whole, real)
        for counts in _arm_counts(spec, source.class_counts)
        for count in counts.values()
        if count
    ]
    size = math.gcd(*needed) if needed else 0
    if size < _LEAST_SHARD:
        return spec
    while size > generate.shard_size and size % 2 == 0:
        size //= 2
    return spec.model_copy(update={"generate": generate.model_copy(update={"shard_size": size})})


def _datasets(spec: TuneSpec, root: str, whole: Source) -> Iterator[Dataset]:
    """That of the default mix, then those of the space; where any image of it may be needed."""
    default, *mixes = _arm_counts(spec, whole.class_counts)
    most, own = most_of_each(mixes), None
    if any(default.values()):
        own = _resolved(spec, {}, default)
        yield _dataset(root, {}, own)
    if not any(most.values()):
        return
    for config in combinations(spec.space, "generate."):
        resolved = _resolved(spec, config, most)
        if own is not None and resolved.fingerprint == own.fingerprint:
            resolved = _resolved(spec, config, most_of_each([most, default]))
        yield _dataset(root, config, resolved)


def _dataset(root: str, config: Config, resolved: Resolved) -> Dataset:
    folder = f"{root}/datasets/{resolved.fingerprint}"
    return Dataset(resolved.fingerprint, config, resolved, folder)


def _resolved(spec: TuneSpec, config: Config, counts: Mapping[str, int]) -> Resolved:
    try:
        return resolve(images_spec(with_config(spec, config), counts))
    except SpecError as error:
        said = f" ({in_words(config)})" if config else ""
        raise SpecError(f"generate{said}: {error}") from None


def _check_bound(prepared: Prepared) -> None:
    bound, most = prepared.spec.max_images, prepared.most_images
    if bound is not None and most > bound:
        each = "; ".join(
            f"{in_words(dataset.config) or 'as the spec says'}: {dataset.most_images:,}"
            for dataset in prepared.datasets.values()
        )
        raise SpecError(
            f"max_images: is {bound:,}, but the search may draw {most:,} images "
            f"({each}); try fewer settings of the images, or a smaller mix"
        )
