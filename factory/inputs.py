"""Open what a generate spec names, and check that its parts fit together."""

import difflib
import logging
from dataclasses import dataclass
from typing import Any

from factory.adapters import Adapter, read_adapters
from factory.models import (
    ModelFolder,
    PinnedFolder,
    PipelineFolder,
    open_model,
    open_pipeline,
    pin_folder,
)
from factory.plan import Layout
from factory.sources.decode import size_in_words
from factory.sources.named import open_named
from factory.sources.open import open_source
from factory.sources.source import Source
from factory.sources.trained_on import chain, seen_in_words
from factory.spec import (
    AgreementFilter,
    DdpmGenerator,
    DitGenerator,
    EdmGenerator,
    GenerateSpec,
    NearRealFilter,
    SpecError,
    TextToImageGenerator,
)
from factory.text_schedulers import check_pipeline, check_sides, scheduler_class, steps_of
from factory.vision.labeller_config import labeller_class_names
from factory.vision.near_real_images import refuse_misfits

_LOG = logging.getLogger(__name__)
_TEXT_PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "LatentConsistencyModelPipeline",
)
"""Pipelines whose latents one stream an image was tested with."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was opened on the way."""

    model: ModelFolder | PipelineFolder
    classifiers: dict[str, PinnedFolder]
    start: Source | None
    """Source of a reconstruction."""
    adapters: dict[str, Adapter]
    near_real: dict[int, tuple[Source, Source]]
    """Number of a near_real filter -> its real and its held-out images."""

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """What the model says that it had seen; None: it says nothing."""
        model = self.model
        return model.config.trained_on if isinstance(model, ModelFolder) else model.trained_on


def open_start(spec: GenerateSpec) -> Source | None:
    """The real images that a reconstruction starts from; None: it starts from noise."""
    if spec.reconstruct is None:
        return None
    try:
        return open_source(spec.reconstruct.source)
    except SpecError as error:
        raise SpecError(f"reconstruct.source: {error}") from None


def open_inputs(spec: GenerateSpec) -> Inputs:
    """Find and pin all that `spec` names.

    Raises:
        SpecError: if something cannot be had, is of another kind, or cannot do what is asked.
    """
    adapters = {}
    match spec.generator:
        case EdmGenerator() | DdpmGenerator() as generator:
            model = open_model(generator)
        case DitGenerator() | TextToImageGenerator() as generator:
            model = open_pipeline(generator.model, generator.revision, field="generator.model")
            if isinstance(generator, TextToImageGenerator) and generator.adapters is not None:
                adapters = read_adapters(generator.adapters)
    inputs = Inputs(
        model, _pin_classifiers(spec), open_start(spec), adapters, _open_near_real(spec)
    )
    match spec.generator:
        case EdmGenerator() | DdpmGenerator():
            _check_pixel_model(spec, inputs)
        case DitGenerator() as generator:
            _check_labels(spec)
            _check_steps(generator.num_inference_steps, model)
        case TextToImageGenerator() as generator:
            _check_labels(spec)
            _check_text_model(spec, generator, inputs)
    for number, (real, _) in inputs.near_real.items():
        field = f"filters.{number}.real"
        _check_drawn_shape(spec, inputs, field, real)
        _warn_of_unseen(inputs, field, real)
    return inputs


def _pin_classifiers(spec: GenerateSpec) -> dict[str, PinnedFolder]:
    named: dict[str, tuple[str, str | None]] = {}
    if spec.labeller is not None:
        named[spec.labeller.model] = ("labeller.model", spec.labeller.revision)
    for number, filter_ in enumerate(spec.filters):
        match filter_:
            case AgreementFilter(model=name, revision=revision):
                field = f"filters.{number}.model"
            case NearRealFilter(features=name) if name != "pixels":
                field, revision = f"filters.{number}.features", None
            case _:
                continue
        other, before = named.setdefault(name, (field, revision))
        if revision != before:
            raise SpecError(
                f"{field}: {name} is asked for at revision {revision}, and as {other} at {before}; "
                "give one revision of it"
            )
    instead = (
        "a folder that jobs/classify.py saved (save_classifiers=true), or a classifier in "
        "transformers' format"
    )
    return {
        name: pin_folder(name, revision, field=field, instead=instead)
        for name, (field, revision) in named.items()
    }


def _open_near_real(spec: GenerateSpec) -> dict[int, tuple[Source, Source]]:
    opened = {}
    for number, filter_ in enumerate(spec.filters):
        if isinstance(filter_, NearRealFilter):
            field = f"filters.{number}"
            real = open_named(f"{field}.real", filter_.real)
            held_out = open_named(f"{field}.held_out", filter_.held_out)
            refuse_misfits(real.images, held_out.images, field=field)
            opened[number] = (real, held_out)
    return opened


def _check_drawn_shape(spec: GenerateSpec, inputs: Inputs, field: str, real: Source) -> None:
    """Compare images with those that are drawn, as far as that is known before drawing."""
    model, there = inputs.model, real.images.shape[1:]
    side, channels = spec.output.image_size, 3
    if isinstance(model, ModelFolder):
        side, channels = side or model.config.image_size, _channels(model)
    drawn = (side or there[0], side or there[1], channels)
    if drawn != there:
        raise SpecError(
            f"{field}: images of {real.name} are {size_in_words(there)}, the dataset's are "
            f"{size_in_words(drawn)}; set image_size and channels of real and held_out"
        )


def _warn_of_unseen(inputs: Inputs, field: str, real: Source) -> None:
    """Say where a filter looks for copies of images that the generator has not seen as they are."""
    steering = [adapter.trained_on for adapter in inputs.adapters.values()]
    if inputs.start is not None:
        steering.append(inputs.start.seen)
    links = [link for seen in (inputs.trained_on, *steering) for link in chain(seen)]
    if real.digest in [link.get("digest") for link in links]:
        return
    had_seen = seen_in_words(inputs.trained_on) or "what nobody knows"
    _LOG.warning(
        "%s: %d images (%s %s) are not what model %s has seen (%s): copies of others pass",
        field, len(real), real.name, real.split, inputs.model.name, had_seen,
    )  # fmt: skip


def decide_class_names(spec: GenerateSpec, inputs: Inputs) -> tuple[str, ...]:
    """The classes of the dataset, in label order.

    Raises:
        SpecError: naming those that cannot be drawn.
    """
    known, owner = _known_classes(spec, inputs)
    asked = spec.class_names or known
    if not asked:
        raise SpecError(
            "class_names: none given, and a text-to-image model knows none; "
            "give e.g. class_names: [cat, dog]"
        )
    unknown = [name for name in asked if known and name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}? It" if near else "it"
        raise SpecError(
            f"class_names: {unknown} are no classes of {owner}; {hint} knows {list(known)}"
        )
    _check_filters(spec, inputs, asked)
    if inputs.start is not None:
        empty = [name for name in asked if name not in inputs.start.class_names]
        if empty:
            raise SpecError(
                f"class_names: {empty} are no classes of reconstruct.source "
                f"{inputs.start.name}; it has {list(inputs.start.class_names)}"
            )
    return asked


def _check_filters(spec: GenerateSpec, inputs: Inputs, class_names: tuple[str, ...]) -> None:
    for number, filter_ in enumerate(spec.filters):
        if isinstance(filter_, NearRealFilter) and filter_.features in inputs.classifiers:
            folder = inputs.classifiers[filter_.features].local(config_only=True)
            labeller_class_names(folder, field=f"filters.{number}.features")
        if not isinstance(filter_, AgreementFilter):
            continue
        field = f"filters.{number}.model"
        folder = inputs.classifiers[filter_.model].local(config_only=True)
        known = labeller_class_names(folder, field=field)
        unknown = [name for name in class_names if name not in known]
        if unknown:
            raise SpecError(
                f"{field}: {filter_.model} does not know {unknown}; it knows {list(known)}; "
                "give a classifier of the dataset's classes"
            )


def _known_classes(spec: GenerateSpec, inputs: Inputs) -> tuple[tuple[str, ...], str]:
    """The classes that there are to draw, and who says so; none if anything can be asked for."""
    if spec.labeller is not None:
        folder = inputs.classifiers[spec.labeller.model].local(config_only=True)
        names = labeller_class_names(folder, field="labeller.model")
        return names, f"labeller {spec.labeller.model}"
    match spec.generator:
        case DitGenerator() as generator:
            return tuple(generator.mapping), "generator.mapping"
        case TextToImageGenerator() as generator:
            if inputs.adapters:
                return tuple(inputs.adapters), f"adapters {generator.adapters}"
            return () if inputs.start is None else inputs.start.class_names, "reconstruct.source"
        case _:
            assert isinstance(inputs.model, ModelFolder)
            return inputs.model.class_names, f"model {spec.generator.model}"


def _check_labels(spec: GenerateSpec) -> None:
    if spec.labels != "given":
        raise SpecError(
            f"labels: is {spec.labels}, but generator kind {spec.generator.kind} draws for a "
            "class; leave labels and labeller out, and give a filter of kind agreement to have a "
            "classifier look"
        )


def _check_steps(num_steps: int | None, model: PinnedFolder) -> None:
    most = _num_train_timesteps(model)
    if num_steps is not None and num_steps > most:
        raise SpecError(
            f"generator.num_inference_steps: is {num_steps}, but the model's chain has {most}; "
            "give no more"
        )


def _check_text_model(spec: GenerateSpec, generator: TextToImageGenerator, inputs: Inputs) -> None:
    assert isinstance(inputs.model, PipelineFolder)
    index, start = inputs.model.index, inputs.start
    pipeline = index.get("_class_name")
    if pipeline not in _TEXT_PIPELINES:
        raise SpecError(
            f"generator.model: {generator.model} is a {pipeline}; "
            f"generator kind text_to_image takes {', '.join(_TEXT_PIPELINES)}"
        )
    scheduler_class(generator, index["scheduler"][1])
    check_pipeline(generator, pipeline, has_start=start is not None)
    check_sides(generator, None if start is None else start.images.shape[1:3])
    if spec.reconstruct is not None:
        steps_of(spec.reconstruct, generator.num_inference_steps)
    others = sorted(
        adapter.class_name
        for adapter in inputs.adapters.values()
        if adapter.base_digest != inputs.model.digest
    )
    if others:
        raise SpecError(
            f"generator.adapters: those of {others} in {generator.adapters} were made for another "
            f"model than {generator.model}; give theirs, or run jobs/adapt.py on this one"
        )


def _check_pixel_model(spec: GenerateSpec, inputs: Inputs) -> None:
    generator, model = spec.generator, inputs.model
    assert isinstance(generator, EdmGenerator | DdpmGenerator)
    assert isinstance(model, ModelFolder)
    if generator.scale != 1 and not model.config.label_dropout:
        without = "with label_dropout 0" if model.class_names else "without labels"
        raise SpecError(
            f"generator.guidance_scale: is {generator.scale}, but model {generator.model} was "
            f"trained {without} and takes no guidance; give 1"
        )
    if (spec.labels == "given") != bool(model.class_names):
        is_what = "class-conditional" if model.class_names else "unconditional"
        ways = (
            "leave labels and labeller out, or give a model of jobs/fit.py conditional=false"
            if model.class_names
            else "give labels=as_found or labels=quota, and labeller.model=FOLDER"
        )
        raise SpecError(
            f"labels: is {spec.labels}, but model {generator.model} is {is_what}; {ways}"
        )
    if isinstance(generator, DdpmGenerator):
        _check_steps(generator.num_inference_steps, model)
    if inputs.start is not None:
        _check_start(spec, model, inputs.start)


def _check_start(spec: GenerateSpec, model: ModelFolder, start: Source) -> None:
    height, width, channels = start.images.shape[1:]
    size, wanted = model.config.image_size, _channels(model)
    if (height, width, channels) != (size, size, wanted):
        raise SpecError(
            f"reconstruct.source: images of {start.name} are "
            f"{size_in_words(start.images.shape[1:])}, but model {spec.generator.model} draws "
            f"{size_in_words((size, size, wanted))}; set image_size and channels of the source"
        )
    assert spec.reconstruct is not None
    assert isinstance(spec.generator, EdmGenerator | DdpmGenerator)
    able = ("heun", "euler", "ddpm", "ddim")
    if spec.generator.scheduler not in able:
        raise SpecError(
            f"generator.scheduler: {spec.generator.scheduler} moves a whole batch from one noise "
            "level; to reconstruct give heun or euler (kind edm), ddpm or ddim (kind ddpm)"
        )
    steps = spec.generator.num_inference_steps or _num_train_timesteps(model)
    t_re = spec.reconstruct.t_re
    low, high = t_re if isinstance(t_re, tuple) else (t_re, t_re)
    assert low is not None
    assert high is not None
    if not 0 <= low <= high <= steps:
        raise SpecError(
            f"reconstruct.t_re: is {t_re}; give an index from 0 (the source) to {steps} (the "
            "number of steps: pure noise), or a pair of them that rises"
        )


def _channels(model: ModelFolder) -> int:
    return model.read_json("unet/config.json")["in_channels"] // model.config.patch_size**2


def _num_train_timesteps(model: PinnedFolder) -> int:
    """T of a model's chain."""
    return model.read_json("scheduler/scheduler_config.json")["num_train_timesteps"]


def decide_layout(spec: GenerateSpec) -> Layout:
    """How classes lie in shards.

    Raises:
        SpecError: if it is asked for and cannot be.
    """
    has_adapters = isinstance(spec.generator, TextToImageGenerator) and spec.generator.adapters
    one_class = [
        name
        for name, is_asked in {
            "a table of counts": isinstance(spec.images_per_class, dict),
            "filters": bool(spec.filters),
            "adapters": bool(has_adapters),
            "a reconstruction": spec.reconstruct is not None,
        }.items()
        if is_asked
    ]
    if spec.labels != "given":
        return "pool"
    if spec.layout == "interleaved" and one_class:
        raise SpecError(
            f"layout: is interleaved, but {' and '.join(one_class)} need by_class; leave it out"
        )
    return spec.layout or ("by_class" if one_class else "interleaved")
