"""Check an adaptation before anything heavy starts: find model and images, pin them, look around.

N images, R side in px that the model sees.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.adapt.images import open_concepts, open_prior
from factory.adapt.words import Wording, choose_words
from factory.adapters import ROOT_KIND, Adapter, AdapterKind, list_adapters
from factory.models import PipelineFolder, open_pipeline
from factory.records import RootSpec, chain_trained_on, check_root
from factory.sources.source import Source
from factory.spec import AdaptSpec, DreamBooth, Frozen, SpecError, TextualInversion, fingerprint
from factory.store import Store

PIPELINE = "StableDiffusionPipeline"
"""The kind of model whose training this is: one text encoder, latents, a U-Net."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One class to learn: all that its adapter depends on, beside what all concepts share."""

    class_name: str
    wording: Wording
    images: NDArray[np.uint8]
    """[N, R, R, 3]"""
    prior: NDArray[np.uint8] | None
    """[N, R, R, 3]; None: no prior preservation."""
    trained_on: dict[str, Any]
    fingerprint: str

    @property
    def num_bytes(self) -> int:
        """Of its images."""
        return self.images.nbytes + (0 if self.prior is None else self.prior.nbytes)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An adaptation whose inputs are pinned."""

    spec: AdaptSpec
    root: str
    base: PipelineFolder
    resolution: int
    concepts: tuple[Concept, ...]
    root_spec: RootSpec

    def adapters(self) -> tuple[dict[str, Adapter], dict[str, str]]:
        """The root's adapters by class, and its broken records; see `list_adapters`.

        Raises:
            SpecError: if one of the classes has an adapter that was learned from something else.
        """
        adapters, broken = list_adapters(Store(self.root))
        other = [
            concept.class_name
            for concept in self.concepts
            if concept.class_name in adapters
            and adapters[concept.class_name].fingerprint != concept.fingerprint
        ]
        if other:
            raise SpecError(
                f"root {self.root}: holds adapters of {other} that were learned from other images "
                "or for other words than this spec's; give another --root"
            )
        return adapters, broken


class AdaptDryRun(Frozen):
    """What an adaptation would do, and how far it is."""

    root: str
    fingerprint: str
    asked: dict[str, object]
    model: str
    model_digest: str
    resolution: int
    num_images: int
    """Of each class."""
    phrases: dict[str, str]
    """Class -> what prompts will say for it."""
    done: list[str]
    pending: list[str]
    broken: dict[str, str]
    """Records that would be made again -> why."""


def prepare(spec: AdaptSpec, root: str) -> Prepared:
    """Find and pin what `spec` asks for; reads `root`, writes nothing.

    Raises:
        SpecError: if model, images or words do not fit, or the root holds other adapters.
    """
    base, resolution = open_base(spec)
    sources = open_concepts(spec.concepts, resolution)
    wordings = choose_words(spec, tuple(sources), base)
    prior = spec.method.prior_preservation if isinstance(spec.method, DreamBooth) else None
    priors = open_prior(prior, tuple(sources), resolution) if prior else {}
    root_spec = _root_spec(spec, base, resolution)
    concepts = tuple(
        _concept(name, wordings[name], sources[name], priors.get(name), base, root_spec)
        for name in sources
    )
    prepared = Prepared(spec, root, base, resolution, concepts, root_spec)
    store = Store(root)
    store.check_reachable()
    check_root(store, root_spec)
    prepared.adapters()
    return prepared


def open_base(spec: AdaptSpec) -> tuple[PipelineFolder, int]:
    """The model to adapt, pinned, and the side in px of the images that it will see.

    Raises:
        SpecError: if it cannot be had, is of another kind, or does not take the resolution.
    """
    base = open_pipeline(spec.model, spec.revision, field="model")
    kind = base.index.get("_class_name")
    if kind != PIPELINE:
        raise SpecError(
            f"model: {spec.model} is a {kind}; give a text-to-image model in the format of "
            f"diffusers' {PIPELINE} (Stable Diffusion 1 or 2)"
        )
    try:
        unet, vae = base.read_json("unet/config.json"), base.read_json("vae/config.json")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        multiple = factor * 2 ** (len(unet["block_out_channels"]) - 1)
        resolution = spec.resolution or factor * unet["sample_size"]
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(
            f"model: the configuration of {spec.model} cannot be used ({error!r}); give a whole "
            "model folder in diffusers' format"
        ) from None
    if resolution % multiple:
        raise SpecError(
            f"resolution: is {resolution} px, but {spec.model} takes multiples of {multiple} px"
        )
    return base, resolution


def adapter_kind(spec: AdaptSpec) -> AdapterKind:
    """What kind of adapters the method makes."""
    if isinstance(spec.method, TextualInversion):
        return "textual_inversion"
    return "full" if spec.method.lora is None else "lora"


def dry_run(prepared: Prepared) -> AdaptDryRun:
    """Say what would be done; starts nothing."""
    adapters, broken = prepared.adapters()
    names = [concept.class_name for concept in prepared.concepts]
    return AdaptDryRun(
        root=prepared.root,
        fingerprint=prepared.root_spec.fingerprint,
        asked=prepared.spec.model_dump(mode="json"),
        model=prepared.base.name,
        model_digest=prepared.base.digest,
        resolution=prepared.resolution,
        num_images=prepared.spec.concepts.num_images,
        phrases={concept.class_name: concept.wording.phrase for concept in prepared.concepts},
        done=[name for name in names if name in adapters],
        pending=[name for name in names if name not in adapters],
        broken=broken,
    )


def _root_spec(spec: AdaptSpec, base: PipelineFolder, resolution: int) -> RootSpec:
    """What all concepts share; a class more does not change it."""
    method = spec.method.model_dump(mode="json", exclude={"placeholder_token", "initializer_token"})
    if method.get("prior_preservation"):
        # Its images are pinned concept by concept.
        del method["prior_preservation"]["images"]
    identity = {
        "kind": ROOT_KIND,
        "model": {"digest": base.digest},
        "method": method,
        "num_images": spec.concepts.num_images,
        "resolution": resolution,
        # Checkpoints lose nothing, so how many there are changes nothing.
        "training": spec.training.model_dump(mode="json", exclude={"checkpoint_steps"})
        | {"learning_rate": spec.learning_rate},
        "seed": spec.seed,
        "threads": spec.threads,
    }
    asked = spec.model_dump(mode="json", exclude={"resources"})
    return RootSpec(fingerprint=fingerprint(identity), identity=identity, asked=asked)


def _concept(
    name: str,
    wording: Wording,
    source: Source,
    prior: Source | None,
    base: PipelineFolder,
    root_spec: RootSpec,
) -> Concept:
    trained_on = chain_trained_on(source.seen, base.trained_on)
    assert trained_on is not None
    identity = {
        "shared": root_spec.identity,
        "class_name": name,
        "wording": wording._asdict(),
        "images": source.digest,
        "prior": None if prior is None else prior.digest,
    }
    return Concept(
        class_name=name,
        wording=wording,
        images=source.images,
        prior=None if prior is None else prior.images,
        trained_on=trained_on,
        fingerprint=fingerprint(identity),
    )
