"""What a card says in sentences, for readers who have never heard of the factory."""

from collections.abc import Mapping
from typing import Any

from factory.mapping import ResolvedMapping
from factory.pages.page import percent_in_words
from factory.publish.facts import Facts, Seen
from factory.publish.measured import (
    Estimate,
    Memorisation,
)
from factory.sources.trained_on import place_in_words
from factory.spec import (
    AgreementFilter,
    ContrastFilter,
    DdpmGenerator,
    DitGenerator,
    DuplicateFilter,
    EdmGenerator,
    Filter,
    MixConfig,
    NearRealFilter,
    RealConfig,
    TextToImageGenerator,
)


def lead(facts: Facts) -> str:
    """What the dataset is, in one or two sentences."""
    height, width = facts.image_size
    num_classes = len(facts.class_counts)
    what = (
        f"{facts.num_images:,} images of {num_classes:,} class{'' if num_classes == 1 else 'es'} "
        f"({width} \u00d7 {height} px, {'grey' if facts.channels == 1 else 'RGB'})"
    )
    if facts.spec.reconstruct is not None:
        return f"{what}, which a diffusion model drew from noised real images."
    return f"{what}, all drawn by a diffusion model: none of them is a photograph."


def labels_in_words(facts: Facts) -> str:
    """What an image's label rests on."""
    if facts.spec.reconstruct is not None:
        return "An image's label is that of the real image that it was drawn from"
    if facts.spec.labels != "given":
        return "An image's label is what a classifier saw in it, not what somebody checked"
    if any(isinstance(filter_, AgreementFilter) for filter_ in facts.spec.filters):
        return "An image's label is the class that it was drawn for, and a classifier agreed"
    return (
        "An image's label is the class that it was drawn for: nobody checked that the image shows "
        "it"
    )


def system_in_words(facts: Facts) -> str:
    """The kind of generator."""
    conditional = "class-conditional" if facts.spec.labels == "given" else "unconditional"
    match facts.spec.generator:
        case EdmGenerator():
            return f"a {conditional} diffusion model in pixel space (EDM)"
        case DdpmGenerator():
            return f"a {conditional} diffusion model in pixel space (DDPM)"
        case DitGenerator():
            return "a class-conditional latent diffusion transformer (DiT) of ImageNet's classes"
        case TextToImageGenerator():
            return "a text-to-image pipeline of diffusers"


def settings(facts: Facts) -> dict[str, str]:
    """How the generator was used: name in the spec -> value."""
    left_out = {"kind", "model", "revision", "guidance_weight", "prompts", "mapping", "adapters"}
    chosen = facts.spec.generator.model_dump(mode="json", exclude=left_out, exclude_none=True)
    # Not `in ("", False)`: that leaves out 0, too.
    given = {name: value for name, value in chosen.items() if value is not False and value != ""}
    shown = {name: _plain(value) for name, value in given.items()}
    return {**shown, "seed": str(facts.spec.seed)}


def _plain(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def reconstruction_in_words(facts: Facts) -> str | None:
    """How far real images were noised before a model drew them again."""
    start = facts.spec.reconstruct
    if start is None:
        return None
    steps = facts.spec.generator.num_inference_steps
    level = (
        f"strength {_plain(start.strength)}" if start.t_re is None else f"t_re {_plain(start.t_re)}"
    )
    of_steps = "" if steps is None else f" of {steps:,} steps"
    source: Mapping[str, Any] = facts.pins["reconstruct"]
    num_images = sum(source["class_counts"].values())
    return (
        f"Each image was drawn from one of {num_images:,} real ones (content digest "
        f"{source['digest'][:12]}\u2026), noised to {level}{of_steps}; at 0 it would be the real "
        "image itself"
    )


def filter_in_words(filter_: Filter, pins: Mapping[str, Any]) -> str:
    """What a filter rejects."""
    match filter_:
        case AgreementFilter():
            least = percent_in_words(filter_.min_confidence)
            unsure = f", or as it with less than {least}" if filter_.min_confidence else ""
            model = str(pins["model"])[:12]
            return (
                f"agreement: a classifier (digest {model}\u2026) sees it as another class{unsure}"
            )
        case DuplicateFilter():
            bits = filter_.max_distance
            same = "the same pixels" if bits is None else f"a hash within {bits} of 64 bits"
            return f"duplicate: its shard holds an image of {same}"
        case NearRealFilter():
            share = percent_in_words(filter_.quantile)
            return (
                f"near_real: it lies as near to a training image as the nearest {share} of unseen "
                "real images do"
            )
        case ContrastFilter():
            return (
                f"contrast: its grey values deviate by less than {filter_.min_deviation:g} of 255"
            )


def seen_in_words(seen: Seen) -> str:
    """A link of what went into the images."""
    if seen.num_images is None:
        return f"whatever {seen.name} had seen, which is not known"
    digest = "" if seen.digest is None else f", content digest {seen.digest[:12]}\u2026"
    place = place_in_words(seen.name, seen.split or "")
    return f"{seen.num_images:,} real images ({place}{digest})"


def copies_in_words(found: Memorisation, num_searched: int, confidence: float) -> str:
    """What is known of copies of training images among those that were searched."""
    exact = (
        f" {_images(found.num_exact)} the very pixels of a training image, or of its mirror image."
        if found.num_exact
        else ""
    )
    if found.verdict == "not checked" or found.share is None:
        # What follows tells whoever measured what to do; readers cannot.
        return f"Not checked: {found.reason.partition('; ')[0]}.{exact}"
    has_copies = found.verdict == "copies" or found.num_exact > 0
    words = "Copies were found" if has_copies else "No evidence of copies"
    most = percent_in_words(found.limit or 0.0)
    return (
        f"{words}: {share_in_words(found.share, confidence)} of {num_searched:,} images searched "
        "lie suspiciously near to one that the generator has seen (compared by "
        f"{found.extractor}). Of images that nobody copied {percent_in_words(found.expected)} "
        f"would; up to {most} are no evidence. "
        f"What is suspicious was learned from {found.num_held_out:,} real images that the "
        f"generator has not seen.{exact}"
    )


def _images(count: int) -> str:
    return f"{count:,} image has" if count == 1 else f"{count:,} images have"


def share_in_words(found: Estimate, confidence: float) -> str:
    """E.g. "85.4 % (95 % interval 84.1 to 86.7)"."""
    words = percent_in_words(found.value)
    if found.low is None or found.high is None:
        return words
    around = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    return f"{words} ({100 * confidence:g}\u00a0% interval {around})"


def config_in_words(config: RealConfig | MixConfig) -> str:
    """What another config of the repository holds."""
    if isinstance(config, RealConfig):
        return "real images"
    mix = config.mix.model_dump(mode="json", exclude_none=True)
    kind = mix.pop("kind")
    rest = ", ".join(f"{name} {value}" for name, value in mix.items())
    return f"images of {config.real} and synthetic ones: {kind}{f' ({rest})' if rest else ''}"


def work_in_words(facts: Facts) -> str:
    """Hours that shards took, by kind of device."""
    parts = []
    for device in facts.devices:
        hours = sum(device.seconds.values()) / 3600
        shown = f"{hours:.2f}" if hours >= 0.1 else f"{hours:.4f}"
        parts.append(f"{shown} hours on {device.kind} for {device.num_images:,} images")
    return " and ".join(parts)


def points(fraction: float) -> str:
    """A difference in percentage points with its sign."""
    return f"{100 * fraction:+.1f}".replace("-", "\u2212")


def mapping_rows(mapping: ResolvedMapping) -> list[tuple[str, str]]:
    """Class, and the model's classes that stand for it with the turns that each has."""
    return [
        (name, "; ".join(f"{one.name} ({one.weight})" for one in fine))
        for name, fine in mapping.classes.items()
    ]
