"""Pin what a spec asks by content: a spec becomes a resolved spec with a fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.adapters import Adapter
from factory.inputs import (
    Inputs,
    decide_class_names,
    decide_layout,
    open_inputs,
)
from factory.mapping import ResolvedMapping, read_id2label, resolve_mapping
from factory.models import ModelFolder, PinnedFolder, PipelineFolder
from factory.plan import Layout, Plan, make_plan
from factory.prompts import ResolvedPrompts, resolve_prompts
from factory.records import RootSpec, chain_trained_on
from factory.spec import (
    DitGenerator,
    Filter,
    GenerateSpec,
    Labeller,
    NearRealFilter,
    SourceSpec,
    TextToImageGenerator,
    fingerprint,
)
from factory.vision.labeller_config import labeller_trained_on


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec with every input pinned: what is asked, its plan, and where all that it needs lies."""

    spec: GenerateSpec
    root_spec: RootSpec
    plan: Plan
    model: ModelFolder | PipelineFolder
    mapping: ResolvedMapping | None = None
    """Of an ImageNet model: the fine classes of each class."""
    prompts: ResolvedPrompts | None = None
    """Of a text-to-image model."""
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    """Class -> what was trained for it, of a text-to-image model."""
    classifiers: Mapping[str, PinnedFolder] = field(default_factory=dict)
    """What the spec calls a classifier -> where it lies."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits that name all that changes a byte."""
        return self.root_spec.fingerprint


def resolve(spec: GenerateSpec) -> Resolved:
    """Pin every input of `spec` by content.

    Raises:
        SpecError: if something that it names cannot be had, or its parts do not fit together.
    """
    spec = _with_absolute_paths(spec)
    inputs = open_inputs(spec)
    class_names = decide_class_names(spec, inputs)
    mapping = prompts = None
    match spec.generator:
        case DitGenerator() as generator:
            id2label = read_id2label(inputs.model.local(config_only=True))
            mapping = resolve_mapping(generator.mapping, id2label)
        case TextToImageGenerator() as generator:
            phrases = {name: adapter.phrase for name, adapter in inputs.adapters.items()}
            prompts = resolve_prompts(generator.prompts, class_names, phrases)
        case _:
            pass
    layout = decide_layout(spec)
    counts = None if inputs.start is None else inputs.start.class_counts
    identity = _identity(spec, inputs, class_names, layout) | {
        "mapping": None if mapping is None else mapping.model_dump(mode="json"),
        "prompts": None if prompts is None else prompts.model_dump(mode="json"),
    }
    root_spec = RootSpec(
        fingerprint=fingerprint(identity),
        identity=identity,
        asked=_asked(spec, inputs),
        trained_on=_trained_on(inputs),
    )
    return Resolved(
        spec=spec,
        root_spec=root_spec,
        plan=make_plan(spec, class_names, layout=layout, source_counts=counts),
        model=inputs.model,
        mapping=mapping,
        prompts=prompts,
        adapters=inputs.adapters,
        classifiers=inputs.classifiers,
    )


def _identity(
    spec: GenerateSpec, inputs: Inputs, class_names: tuple[str, ...], layout: Layout
) -> dict[str, Any]:
    start, reconstruct = inputs.start, spec.reconstruct
    left_out = {"model", "revision", "guidance_weight", "mapping", "prompts", "adapters"}
    generator = spec.generator.model_dump(mode="json", exclude=left_out)
    return {
        "name": spec.name,
        "generator": generator
        | {
            "guidance_scale": spec.generator.scale,
            "digest": inputs.model.digest,
            "adapters": {name: adapter.digest for name, adapter in inputs.adapters.items()},
        },
        "class_names": list(class_names),
        "labels": spec.labels,
        "labeller": None if spec.labeller is None else _pinned(spec.labeller, inputs),
        "filters": [
            _pinned(filter_, inputs) | _pinned_images(number, inputs)
            for number, filter_ in enumerate(spec.filters)
        ],
        "reconstruct": reconstruct
        and start
        and reconstruct.model_dump(mode="json", exclude={"source", "passes"})
        | {"digest": start.digest, "class_counts": start.class_counts},
        "seed": spec.seed,
        "layout": layout,
        "shard_size": spec.shard_size,
        "batch_size": spec.batch_size,
        "threads": spec.threads,
        "output": spec.output.model_dump(mode="json"),
    }


def _pinned(part: Labeller | Filter, inputs: Inputs) -> dict[str, Any]:
    """A section without paths, with the digests of what they name."""
    tree = part.model_dump(mode="json")
    tree.pop("revision", None)
    for field_ in ("model", "features"):
        name = tree.get(field_)
        if name in inputs.classifiers:
            tree[field_] = inputs.classifiers[name].digest
    return tree


def _pinned_images(number: int, inputs: Inputs) -> dict[str, str]:
    """The digests of the images that filter `number` compares with, if it does."""
    if number not in inputs.near_real:
        return {}
    real, held_out = inputs.near_real[number]
    return {"real": real.digest, "held_out": held_out.digest}


def _asked(spec: GenerateSpec, inputs: Inputs) -> dict[str, Any]:
    """The spec, its folders absolute and its revisions commits: whoever draws from the root again
    may stand in another folder, or come after a push."""
    asked = spec.model_dump(mode="json", exclude={"resources", "recheck", "preview"})
    # As it can be read again: of two ways to say a thing, one.
    asked["generator"] |= {"guidance_scale": spec.generator.scale}
    asked["generator"].pop("guidance_weight", None)
    if isinstance(spec.generator, TextToImageGenerator):
        prompts = spec.generator.prompts.model_dump(mode="json", exclude_defaults=True)
        asked["generator"]["prompts"] = prompts
    if not inputs.model.is_embedded:
        asked["generator"] |= {"model": inputs.model.path, "revision": inputs.model.revision}
    for section in [asked["labeller"], *asked["filters"]]:
        for field_ in ("model", "features"):
            folder = inputs.classifiers.get((section or {}).get(field_, ""))
            if folder is not None:
                section[field_] = folder.path
                if "revision" in section:
                    section["revision"] = folder.revision
    return asked


def _with_absolute_paths(spec: GenerateSpec) -> GenerateSpec:
    """Actors stand in other folders than the job."""
    changes: dict[str, Any] = {
        "filters": tuple(
            filter_.model_copy(
                update={
                    "real": _absolute_source(filter_.real),
                    "held_out": _absolute_source(filter_.held_out),
                }
            )
            if isinstance(filter_, NearRealFilter)
            else filter_
            for filter_ in spec.filters
        )
    }
    if spec.reconstruct is not None:
        source = _absolute_source(spec.reconstruct.source)
        changes["reconstruct"] = spec.reconstruct.model_copy(update={"source": source})
    generator = spec.generator
    if isinstance(generator, TextToImageGenerator):
        prompts = generator.prompts
        if prompts.file is not None:
            prompts = prompts.model_copy(update={"file": _absolute(prompts.file)})
        adapters = generator.adapters and _absolute(generator.adapters)
        update = {"prompts": prompts, "adapters": adapters}
        changes["generator"] = generator.model_copy(update=update)
    return spec.model_copy(update=changes)


def _absolute_source(source: SourceSpec) -> SourceSpec:
    return source.model_copy(update={"path": _absolute(source.path)})


def _absolute(path: str) -> str:
    """A file or folder that is there by its absolute path; anything else as it is."""
    local = Path(path).expanduser()
    return str(local.resolve()) if local.exists() else path


def _trained_on(inputs: Inputs) -> dict[str, Any] | None:
    """The real data behind the images: what the generator had seen, and all that steers it."""
    trained, start = inputs.trained_on, inputs.start
    others: list[dict[str, Any] | None] = []
    others += [adapter.trained_on for adapter in inputs.adapters.values()]
    if start is not None:
        others.append(start.seen)
    for name, folder in inputs.classifiers.items():
        others.append(labeller_trained_on(folder.local(config_only=True), field=name))
    others = [link for link in others if link is not None]
    if trained is None and others:
        trained = {"name": f"model {inputs.model.name}"}
    return chain_trained_on(trained, *others)
