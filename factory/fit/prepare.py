"""Check a fit before anything heavy starts: open its sources, pin them, look at its root."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from factory.fit.history import HISTORY_NAME, REPORT_NAME, FitReport, Row
from factory.records import RootSpec, check_root, claim_root
from factory.resolve import ModelFolder, open_model
from factory.sources.open import open_source
from factory.sources.parts import hold_out
from factory.sources.source import Source
from factory.spec import EdmGenerator, FitSpec, Frozen, SpecError, differences, fingerprint
from factory.store import Store

HELD_OUT_FRACTION = 0.1
MIN_JUDGED_IMAGES = 100
"""Of each side of a Frechet distance; the covariance of 64 features needs more images than that."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fit whose inputs are pinned."""

    spec: FitSpec
    root: str
    source: Source
    held_out: Source
    start: ModelFolder | None
    root_spec: RootSpec


class FitDryRun(Frozen):
    """What a fit would do, and how far it is."""

    root: str
    fingerprint: str
    asked: dict[str, object]
    source: str
    num_source_images: int
    class_counts: dict[str, int]
    held_out: str
    num_held_out: int
    num_steps: int
    images_seen: int
    """Training images that the root's history has seen."""
    done: bool


def prepare(spec: FitSpec, root: str) -> Prepared:
    """Open and pin the sources of `spec`; reads `root`, writes nothing.

    Raises:
        SpecError: if the sources do not fit the model or one another, or the root holds another
            fit.
    """
    source, held_out = open_sources(spec)
    _check_sources(source, held_out)
    _check_sizes(spec, source)
    start = open_start(spec, source)
    placement = {"resources", "num_workers"}
    asked = spec.model_dump(mode="json", exclude=placement)
    pinned = {
        "source": {"digest": source.digest},
        "held_out": {"digest": held_out.digest},
        "start_from": None if start is None else {"digest": start.digest},
    }
    identity = asked | pinned
    root_spec = RootSpec(fingerprint=fingerprint(identity), identity=identity, asked=asked)
    prepared = Prepared(spec, root, source, held_out, start, root_spec)
    check_root(Store(root), root_spec)
    return prepared


def claim(prepared: Prepared) -> None:
    """Write the root's spec.json, or join a root that holds the same.

    Raises:
        SpecError: if the root cannot be written or another fit was faster.
    """
    store = Store(prepared.root)
    store.check_makeable()
    claim_root(store, prepared.root_spec)


def open_sources(spec: FitSpec) -> tuple[Source, Source]:
    """The training images and the held-out ones."""
    source = open_source(spec.source)
    if spec.held_out is None:
        return hold_out(source, HELD_OUT_FRACTION, seed=spec.seed)
    return source, open_source(spec.held_out)


def open_start(spec: FitSpec, source: Source) -> ModelFolder | None:
    """The model that training starts from, pinned.

    Raises:
        SpecError: if its shape, classes or image size are not the fit's.
    """
    if spec.start_from is None:
        return None
    model = open_model(EdmGenerator(model=spec.start_from), field="start_from")
    network = json.loads((local_folder(model) / "unet" / "config.json").read_text("utf-8"))
    size, channels = source.images.shape[2:]
    patch = spec.shape.patch_size
    wanted = {
        "class_names": list(source.class_names),
        "image_size": size,
        "patch_size": patch,
        "block_out_channels": list(spec.shape.block_out_channels),
        "layers_per_block": spec.shape.layers_per_block,
        "attention_levels": sorted(spec.shape.attention_levels),
        "in_channels": channels * patch**2,
    }
    kinds = enumerate(network["down_block_types"])
    there = {
        "class_names": list(model.class_names),
        "image_size": model.config.image_size,
        "patch_size": model.config.patch_size,
        "block_out_channels": network["block_out_channels"],
        "layers_per_block": network["layers_per_block"],
        "attention_levels": [level for level, kind in kinds if kind.startswith("Attn")],
        "in_channels": network["in_channels"],
    }
    changes = differences(there, wanted)
    if changes:
        raise SpecError(
            f"start_from: {spec.start_from} is of another kind than this fit (model -> fit: "
            f"{'; '.join(changes)}); give its shape and images of its classes and size"
        )
    return model


def local_folder(model: ModelFolder) -> Path:
    """Where the files of a pinned model lie; one of the Hub is downloaded."""
    if model.revision is None:
        return Path(model.path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model.path, revision=model.revision))


def finished(prepared: Prepared) -> FitReport | None:
    """The report of a fit that its root already holds."""
    try:
        text = Store(prepared.root).get(REPORT_NAME)
    except FileNotFoundError:
        return None
    try:
        return FitReport.model_validate_json(text)
    except ValidationError as error:
        raise SpecError(
            f"{prepared.root}/{REPORT_NAME}: is no report of this version ({error}); delete it"
        ) from None


def read_history(store: Store) -> list[Row]:
    """Rows of the root's history so far."""
    try:
        text = store.get(HISTORY_NAME).decode()
    except FileNotFoundError:
        return []
    return [Row.model_validate_json(line) for line in text.splitlines()]


def dry_run(prepared: Prepared) -> FitDryRun:
    """Say what would be done; starts nothing."""
    spec, source, held_out = prepared.spec, prepared.source, prepared.held_out
    history = read_history(Store(prepared.root))
    return FitDryRun(
        root=prepared.root,
        fingerprint=prepared.root_spec.fingerprint,
        asked=spec.model_dump(mode="json"),
        source=source.name,
        num_source_images=len(source),
        class_counts=source.class_counts,
        held_out=f"{held_out.name} {held_out.split}",
        num_held_out=len(held_out),
        num_steps=-(-spec.training.num_images // spec.training.batch_size),
        images_seen=history[-1].images if history else 0,
        done=finished(prepared) is not None,
    )


def _check_sources(source: Source, held_out: Source) -> None:
    empty = [name for name, count in source.class_counts.items() if count == 0]
    if empty:
        raise SpecError(f"source: {source.name} holds no images of {empty}; nothing can learn them")
    balanced = len(source.class_counts) * min(source.class_counts.values())
    if min(balanced, len(held_out)) < MIN_JUDGED_IMAGES:
        raise SpecError(
            f"source: {balanced} images in classes of one size and {len(held_out)} held out; the "
            f"sample metric needs {MIN_JUDGED_IMAGES} of each"
        )
    if held_out.class_names != source.class_names:
        raise SpecError(
            f"held_out: {held_out.name} has the classes {list(held_out.class_names)}, but "
            f"{source.name} has {list(source.class_names)}; give images of the same classes"
        )
    if held_out.images.shape[1:] != source.images.shape[1:]:
        raise SpecError(
            f"held_out: images are {list(held_out.images.shape[1:])}, but those of {source.name} "
            f"are {list(source.images.shape[1:])}; give images of the same size"
        )


def _check_sizes(spec: FitSpec, source: Source) -> None:
    height, width = source.images.shape[1:3]
    if height != width:
        raise SpecError(f"source: images are {width}x{height}; crop them to squares before")
    levels = len(spec.shape.block_out_channels)
    multiple = spec.shape.patch_size * 2 ** (levels - 1)
    if height % multiple:
        raise SpecError(
            f"shape: patch_size {spec.shape.patch_size} and {levels} levels need images of a "
            f"multiple of {multiple} px, and these have {height} px; change either"
        )
    parts = spec.num_workers * spec.training.gradient_accumulation_steps
    if spec.training.batch_size % parts:
        raise SpecError(
            f"training.batch_size: is {spec.training.batch_size}, but num_workers x "
            f"gradient_accumulation_steps is {parts}; give a multiple of it"
        )
