"""Check a fit before anything heavy starts: open its sources, pin them, look at its root."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from factory.fit.autoencoder import downscaling, open_autoencoder
from factory.fit.history import HISTORY_NAME, REPORT_NAME, FitReport, Row
from factory.fit.schedule import make_schedule
from factory.models import ModelFolder, PinnedFolder, open_model
from factory.records import RootSpec, check_root, claim_root
from factory.sources.open import open_source
from factory.sources.parts import hold_out
from factory.sources.source import Source
from factory.spec import (
    DdpmGenerator,
    EdmGenerator,
    FitSpec,
    Frozen,
    SpecError,
    TextToImageGenerator,
    differences,
    fingerprint,
)
from factory.spec.fit import DdpmObjective, EdmObjective
from factory.spec.text_fit import AutoencoderObjective, TextToImageObjective
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
    autoencoder: PinnedFolder | None
    """Of a text-to-image model."""
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
    start, autoencoder = open_start(spec, source), open_autoencoder(spec, source)
    _check_sizes(spec, source, autoencoder)
    placement = {"resources", "num_workers"}
    asked = spec.model_dump(mode="json", exclude=placement)
    pinned = {
        "source": {"digest": source.digest},
        "held_out": {"digest": held_out.digest},
        "start_from": None if start is None else {"digest": start.digest},
    }
    if autoencoder is not None:
        pinned["objective"] = _pinned_objective(asked["objective"], autoencoder)
    identity = asked | pinned
    root_spec = RootSpec(fingerprint=fingerprint(identity), identity=identity, asked=asked)
    prepared = Prepared(spec, root, source, held_out, start, autoencoder, root_spec)
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
    """The training images and the held-out ones, less the classes that are left out.

    Raises:
        SpecError: if a source cannot be opened, or has no such class.
    """
    source = _without(open_source(spec.source), spec.leave_out)
    if spec.held_out is None:
        return hold_out(source, spec.validation_fraction or HELD_OUT_FRACTION, seed=spec.seed)
    return source, _without(open_source(spec.held_out), spec.leave_out)


def generator_of(
    spec: FitSpec, model: str
) -> EdmGenerator | DdpmGenerator | TextToImageGenerator | None:
    """How `generate` draws from a model that `spec` trains: with few steps, without guidance.

    None: not at all, from an autoencoder.
    """
    num_steps = spec.metric.num_inference_steps
    match spec.objective:
        case EdmObjective():
            return EdmGenerator(model=model, num_inference_steps=num_steps, guidance_scale=1.0)
        case DdpmObjective():
            return DdpmGenerator(
                kind="ddpm",
                model=model,
                scheduler="dpm_solver_multistep",
                num_inference_steps=num_steps,
            )
        case TextToImageObjective():
            return TextToImageGenerator(
                kind="text_to_image",
                model=model,
                num_inference_steps=num_steps,
                guidance_scale=1.0,
            )
        case AutoencoderObjective():
            return None


def open_start(spec: FitSpec, source: Source) -> ModelFolder | None:
    """The model that training starts from, pinned.

    Raises:
        SpecError: if its shape, classes or image size are not the fit's.
    """
    if spec.start_from is None:
        return None
    generator = generator_of(spec, spec.start_from)
    assert isinstance(generator, EdmGenerator | DdpmGenerator), "the spec refuses others"
    model = open_model(generator, field="start_from")
    changes = differences(_facts_there(model), _facts_wanted(spec, source))
    if changes:
        raise SpecError(
            f"start_from: {spec.start_from} is of another kind than this fit (model -> fit: "
            f"{'; '.join(changes)}); give its objective and shape, and images of its classes and "
            "size"
        )
    return model


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
        held_out=held_out.place,
        num_held_out=len(held_out),
        num_steps=make_schedule(spec, len(source)).num_steps,
        images_seen=history[-1].images if history else 0,
        done=finished(prepared) is not None,
    )


def _facts_wanted(spec: FitSpec, source: Source) -> dict[str, object]:
    size, channels = source.images.shape[2:]
    facts: dict[str, object] = {
        "class_names": list(source.class_names) if spec.conditional else [],
        "image_size": size,
        "patch_size": spec.shape.patch_size,
        "block_out_channels": list(spec.shape.block_out_channels),
        "layers_per_block": spec.shape.layers_per_block,
        "attention_levels": sorted(spec.shape.attention_levels),
        "in_channels": channels * spec.shape.patch_size**2,
    }
    if isinstance(spec.objective, DdpmObjective):
        facts["chain"] = spec.objective.model_dump(exclude={"kind"})
    return facts


def _facts_there(model: ModelFolder) -> dict[str, object]:
    folder = model.local(config_only=True)
    network = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    kinds = enumerate(network["down_block_types"])
    facts: dict[str, object] = {
        "class_names": list(model.class_names),
        "image_size": model.config.image_size,
        "patch_size": model.config.patch_size,
        "block_out_channels": network["block_out_channels"],
        "layers_per_block": network["layers_per_block"],
        "attention_levels": [level for level, kind in kinds if kind.startswith("Attn")],
        "in_channels": network["in_channels"],
    }
    if model.config.class_name == "DdpmPipeline":
        facts["chain"] = _chain(folder)
    return facts


def _chain(folder: Path) -> dict[str, object]:
    """The chain of a DDPM model, in the words of its objective."""
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text("utf-8"))
    chain = {name: config[name] for name in DdpmObjective.model_fields if name != "kind"}
    if chain["beta_schedule"] == "squaredcos_cap_v2":
        chain["beta_schedule"] = "cosine"
    return chain


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


def _check_sizes(spec: FitSpec, source: Source, autoencoder: PinnedFolder | None) -> None:
    height, width = source.images.shape[1:3]
    if height != width:
        raise SpecError(f"source: images are {width}x{height}; crop them to squares before")
    levels = len(spec.shape.block_out_channels)
    below, what = spec.shape.patch_size, f"patch_size {spec.shape.patch_size}"
    if isinstance(spec.objective, AutoencoderObjective):
        below, what = 1, "an autoencoder"
    elif autoencoder is not None:
        below = downscaling(autoencoder)
        what = f"an autoencoder that makes sides {below} times smaller"
    multiple = below * 2 ** (levels - 1)
    if height % multiple:
        raise SpecError(
            f"shape: {what} and {levels} levels need images of a multiple of {multiple} px, and "
            f"these have {height} px; change either"
        )
    parts = spec.num_workers * spec.training.gradient_accumulation_steps
    if spec.training.batch_size % parts:
        raise SpecError(
            f"training.batch_size: is {spec.training.batch_size}, but num_workers x "
            f"gradient_accumulation_steps is {parts}; give a multiple of it"
        )


def _without(source: Source, leave_out: tuple[str, ...]) -> Source:
    """The images of all other classes, in the order of `source`; labels count what is left."""
    unknown = sorted(set(leave_out) - set(source.class_names))
    if unknown:
        raise SpecError(
            f"leave_out: {source.name} has no classes {unknown}; it has {list(source.class_names)}"
        )
    left = [label for label, name in enumerate(source.class_names) if name not in leave_out]
    part = source.take(np.flatnonzero(np.isin(source.labels, left)))
    return replace(
        part,
        labels=np.searchsorted(left, part.labels),
        class_names=tuple(source.class_names[label] for label in left),
    )


def _pinned_objective(asked: dict[str, object], autoencoder: PinnedFolder) -> dict[str, object]:
    places = ("autoencoder", "autoencoder_revision")
    kept = {field: value for field, value in asked.items() if field not in places}
    return kept | {"autoencoder": {"digest": autoencoder.digest}}
