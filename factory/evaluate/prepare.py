"""Check an evaluation before anything heavy starts: open its datasets, pin its networks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factory.evaluate.results import EvaluateDryRun
from factory.images import pixel_digest
from factory.models import PinnedFolder, pin_folder
from factory.records import refuse_others
from factory.sources.named import align_named, check_size, open_named
from factory.sources.source import Source
from factory.sources.summary import summarize
from factory.sources.trained_on import chain, seen_in_words
from factory.spec import EvaluateSpec, SpecError, fingerprint
from factory.spec.evaluate import HELD_OUT
from factory.store import Store
from factory.vision.extractor_config import PinnedExtractor, pin_extractor
from factory.vision.labeller_config import labeller_class_names

BLOCK = 512
"""Images of one task, and of one file of features."""
_PASSES, _MOST_SEEN = 20, 300_000
"""Length of the training of the small classifier: passes over the real images, and most images."""
_FEWEST = 10
"""With fewer images a side every distance is noise."""


@dataclass(frozen=True, slots=True)
class Block:
    """Images whose features are computed together."""

    dataset: str
    start: int
    name: str
    """File of their features in the root."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An evaluation whose inputs are pinned."""

    spec: EvaluateSpec
    root: str
    sources: dict[str, Source]
    """"real", the held-out images where there are any, then the synthetic datasets. All with the
    same classes in the same order, where labels are looked at."""
    seen: Source
    """What generators are taken to have seen: `real`, or what the spec says."""
    extractors: tuple[PinnedExtractor, ...]
    classifier: PinnedFolder | None
    """None: labels are not looked at, or a small one is trained."""
    grad_cam: dict[str, PinnedFolder]

    @property
    def looks(self) -> tuple[str, ...]:
        """Folder in the root of what each network sees: the extractors, then the classifier."""
        names = [f"features/{extractor.fingerprint}" for extractor in self.extractors]
        if self.spec.per_class:
            names.append(f"probabilities/{self.classifier_digest}")
        return tuple(names)

    def is_small(self, look: str) -> bool:
        """Whether a network's folder is that of the small classifier, which is trained first."""
        return self.classifier is None and look.startswith("probabilities/")

    @property
    def num_images(self) -> int:
        """Images of all datasets together."""
        return sum(map(len, self.sources.values()))

    @property
    def num_looks(self) -> int:
        """Each network looks at each image."""
        return self.num_images * len(self.looks)

    @property
    def classifier_digest(self) -> str:
        """Names what sees classes: the given classifier, or the training of the small one."""
        if self.classifier is not None:
            return self.classifier.digest[:32]
        identity = {
            "real": self.sources["real"].digest,
            "num_images": self.num_seen,
            "seed": self.spec.seed,
        }
        return fingerprint(identity)

    @property
    def num_seen(self) -> int:
        """Images that the small classifier sees in its training."""
        return min(_PASSES * len(self.sources["real"]), _MOST_SEEN)

    def blocks(self, look: str) -> Iterator[Block]:
        """All blocks of all datasets, as the network of that folder sees them."""
        for dataset in self.sources:
            yield from self.blocks_of(dataset, look)

    def blocks_of(self, dataset: str, look: str) -> Iterator[Block]:
        """Those of one dataset, in its order."""
        images = self.sources[dataset].images
        for start in range(0, len(images), BLOCK):
            digest = _pixels_digest(images[start : start + BLOCK])
            yield Block(dataset, start, f"{look}/{digest}.npy")

    def pending(self) -> dict[str, list[Block]]:
        """Folder of a network -> blocks whose files are not there yet; equal blocks once."""
        store = Store(self.root)
        pending = {}
        for look in self.looks:
            there = store.sizes(look)
            blocks = {block.name: block for block in self.blocks(look) if block.name not in there}
            pending[look] = list(blocks.values())
        return pending

    def why_unchecked(self, dataset: str) -> str:
        """Why nothing can be said of copies in a dataset; empty where it can."""
        trained_on = self.sources[dataset].trained_on
        if trained_on is None:
            return "what its generator had seen is not known"
        if [part.get("digest") for part in chain(trained_on)] != [self.seen.digest]:
            given = self.spec.memorisation is not None and self.spec.memorisation.seen is not None
            return (
                f"its generator saw {seen_in_words(trained_on)}, and not just the "
                f"{len(self.seen):,} images ({self.seen.place}) given as "
                f"{'memorisation.seen' if given else 'real'}; name all that it has seen in "
                "memorisation.seen"
            )
        return "" if HELD_OUT in self.sources else "there are no held-out images to calibrate by"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which datasets will not be judged for copies, and why: a line for each reason."""
        if self.spec.memorisation is None:
            return ()
        unjudged: dict[str, list[str]] = {}
        for name in self.spec.synthetic:
            unjudged.setdefault(self.why_unchecked(name), []).append(name)
        return tuple(
            f"{', '.join(names)}: will not be judged for copies: {reason}"
            for reason, names in unjudged.items()
            if reason
        )


def prepare(spec: EvaluateSpec, root: str) -> Prepared:
    """Open all datasets, pin all networks; reads `root`, writes nothing.

    Raises:
        SpecError: if datasets do not fit one another, or a network cannot be had; or if the root
            holds something else.
    """
    refuse_others(Store(root), EvaluateSpec, job="evaluate")
    real = open_named("real", spec.real)
    sources = {"real": real}
    if spec.held_out is not None:
        sources[HELD_OUT] = _fit("held_out", open_named("held_out", spec.held_out), real, spec)
    for name, source in spec.synthetic.items():
        field = f"synthetic.{name}"
        sources[name] = _fit(field, open_named(field, source), real, spec)
    _refuse_single(sources)
    seen = _open_seen(spec, real, sources.get(HELD_OUT))
    classifier = _pin_classifier(spec, real)
    return Prepared(
        spec=spec,
        root=root,
        sources=sources,
        seen=seen,
        extractors=tuple(
            pin_extractor(extractor, field=f"extractors.{number}")
            for number, extractor in enumerate(spec.extractors)
        ),
        classifier=classifier,
        grad_cam={
            name: _pin(folder, None, f"grad_cam.{name}") for name, folder in spec.grad_cam.items()
        },
    )


def dry_run(prepared: Prepared) -> EvaluateDryRun:
    """Say what would be measured; starts nothing."""
    sources = prepared.sources
    return EvaluateDryRun(
        root=prepared.root,
        asked=prepared.spec.model_dump(mode="json"),
        real=summarize(sources["real"]),
        datasets={name: summarize(source) for name, source in sources.items() if name != "real"},
        extractors=tuple(extractor.label for extractor in prepared.extractors),
        num_images=prepared.num_looks,
        num_pending=sum(
            min(BLOCK, len(sources[block.dataset]) - block.start)
            for blocks in prepared.pending().values()
            for block in blocks
        ),
        warnings=prepared.warnings,
    )


def _open_seen(spec: EvaluateSpec, real: Source, held_out: Source | None) -> Source:
    if spec.memorisation is None or spec.memorisation.seen is None:
        return real
    seen = open_named("memorisation.seen", spec.memorisation.seen)
    check_size("memorisation.seen", seen, real)
    if held_out is not None and _holds(seen, held_out):
        raise SpecError(
            f"memorisation.seen: {seen.place} holds all {len(held_out):,} images of "
            f"held_out ({held_out.place}), which no generator may have seen; name "
            "what the generator was trained on, e.g. its train split, or give other images as "
            "held_out"
        )
    return seen


def _holds(whole: Source, part: Source) -> bool:
    """Whether all images of `part` are among those of `whole`, pixel by pixel."""
    missing = {pixel_digest(image) for image in part.images}
    for image in whole.images:
        missing.discard(pixel_digest(image))
    return not missing


def _fit(field: str, source: Source, real: Source, spec: EvaluateSpec) -> Source:
    """`source`, its labels in the order of `real`'s where they are looked at; of its size."""
    if spec.per_class:
        remedy = "; or set per_class=false to compare images without labels"
        source = align_named(field, source, real, remedy=remedy)
    check_size(field, source, real)
    return source


def _refuse_single(sources: dict[str, Source]) -> None:
    few = {name: len(source) for name, source in sources.items() if len(source) < _FEWEST}
    if few:
        raise SpecError(
            f"{', '.join(f'{name} has {count} images' for name, count in few.items())}; "
            f"give each at least {_FEWEST}"
        )


def _pin_classifier(spec: EvaluateSpec, real: Source) -> PinnedFolder | None:
    if spec.classifier is None:
        return None
    pinned = _pin(spec.classifier, spec.classifier_revision, "classifier")
    known = labeller_class_names(pinned.local(config_only=True), field="classifier")
    unknown = [name for name in real.class_names if name not in known]
    if unknown:
        raise SpecError(
            f"classifier: {spec.classifier} does not know the classes {unknown} of {real.name}; "
            f"it knows {list(known)}; give one that was trained on these classes"
        )
    return pinned


def _pin(name: str, revision: str | None, field: str) -> PinnedFolder:
    instead = "a folder that jobs/classify.py saved (save_classifiers: true)"
    return pin_folder(name, revision, field=field, instead=instead)


def _pixels_digest(images: NDArray[np.uint8]) -> str:
    total = hashlib.sha256(repr(images.shape).encode())
    total.update(np.ascontiguousarray(images).data)
    return total.hexdigest()[:32]
