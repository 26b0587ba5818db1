"""The model card: what a trained model is, what it has seen, and how good it was measured to be."""

from importlib.metadata import version

import yaml

from factory.captions import ATTRIBUTE_WORDS
from factory.fit.history import FitReport
from factory.fit.prepare import Prepared, generator_of
from factory.progress import duration
from factory.spec import FitSpec
from factory.spec.fit import DdpmObjective, EdmObjective
from factory.spec.text_fit import AutoencoderObjective, TextToImageObjective


def write_card(prepared: Prepared, report: FitReport) -> str:
    """README.md of a model folder, with the Hub's YAML header; names no path of this machine."""
    sections = [
        _header(prepared),
        f"# {prepared.spec.name}",
        _what(prepared, report),
        "## Trained on",
        _trained_on(prepared),
        "## Measured",
        _measured(prepared, report),
        "## Made by",
        _made_by(prepared, report),
    ]
    return "\n\n".join(sections) + "\n"


def _header(prepared: Prepared) -> str:
    header: dict[str, object] = {
        "library_name": "diffusers",
        "tags": [
            *_conditioning(prepared.spec),
            prepared.spec.objective.kind.replace("_", "-"),
            "synthetic-data",
        ],
    }
    if prepared.spec.licence is not None:
        header["license"] = prepared.spec.licence.lower()
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _conditioning(spec: FitSpec) -> list[str]:
    if isinstance(spec.objective, AutoencoderObjective | TextToImageObjective):
        return []
    return ["class-conditional" if spec.conditional else "unconditional"]


def _what(prepared: Prepared, report: FitReport) -> str:
    height, width, channels = prepared.source.images.shape[1:]
    names = prepared.source.class_names
    verb = "Encodes" if isinstance(prepared.spec.objective, AutoencoderObjective) else "Draws"
    classes = f"of {len(names)} classes: {', '.join(names)}"
    return (
        f"{verb} {width}x{height} {'grey' if channels == 1 else 'RGB'} images "
        f"{classes if prepared.spec.conditional else 'without asking for a class'}. "
        f"{_objective(prepared.spec)}, "
        f"{report.num_parameters:,} trained parameters in float16.\n\n"
        f"    python {' '.join(_command(prepared.spec))}"
    )


def _objective(spec: FitSpec) -> str:
    pixels = "A diffusion model in pixel space"
    match spec.objective:
        case EdmObjective():
            return f"{pixels} with the preconditioning of EDM (Karras et al. 2022)"
        case DdpmObjective() as chain:
            return (
                f"{pixels} that predicts the noise of a chain of {chain.num_train_timesteps:,} "
                f"steps (DDPM, Ho et al. 2020; {chain.beta_schedule} beta)"
            )
        case AutoencoderObjective() as objective:
            return (
                f"`AutoencoderKL` of diffusers with latents of {objective.latent_channels} "
                f"channels, sides {2 ** (len(spec.shape.block_out_channels) - 1)} times smaller"
            )
        case TextToImageObjective() as objective:
            return (
                "`StableDiffusionPipeline` of diffusers; its captions name the class as "
                f"{_told(objective)}, and may put before it any of {', '.join(ATTRIBUTE_WORDS)}"
            )


def _told(objective: TextToImageObjective) -> str:
    words = objective.captions.class_words
    return "; ".join(f"{name}: {', '.join(dict.fromkeys(words[name]))}" for name in words) or "is"


def _command(spec: FitSpec) -> list[str]:
    """What uses the model, with what the defaults of the job need for it."""
    if isinstance(spec.objective, AutoencoderObjective):
        return ["jobs/fit.py objective.kind=text_to_image objective.autoencoder=FOLDER"]
    overrides = ["jobs/generate.py generator.model=FOLDER"]
    if spec.objective.kind != "edm":
        overrides.append(f"generator.kind={spec.objective.kind}")
    elif not spec.label_dropout:
        overrides.append("generator.guidance_scale=1")
    if not spec.conditional:
        overrides += ["labels=as_found", "labeller.model=CLASSIFIER"]
    return overrides


def _trained_on(prepared: Prepared) -> str:
    source, start = prepared.source, prepared.start
    text = (
        f"{len(source):,} images of {source.name} (split {source.split}, licence: "
        f"{source.licence or 'not stated in its files'}), content digest `{source.digest}`."
    )
    if start is None:
        return text
    return f"{text}\n\nTraining went on from model {start.name} (digest `{start.digest}`), which \
had been trained on {start.config.trained_on}."


def _measured(prepared: Prepared, report: FitReport) -> str:
    kept, referee = report.kept, report.referee
    rows = [
        ("validation loss", f"{kept.validation_loss:.4f}"),
        (f"Frechet distance of {kept.num_samples:,} drawn images", f"{kept.frechet_distance:.3f}"),
        ("Frechet distance of as many real training images", f"{referee.real_distance:.3f}"),
    ]
    if kept.agreement is not None:
        rows += [
            ("drawn images seen as the class asked for", f"{kept.agreement:.1%}"),
            ("the reference images seen as their class", f"{referee.accuracy:.1%}"),
        ]
    rows.append(("sampling speed", f"{kept.images_per_second:.1f} images/s"))
    lines = "\n".join(f"| {what} | {value} |" for what, value in rows)
    return f"""| what | value |
|---|---|
{lines}

Against {referee.num_held_out:,} real images ({referee.held_out}), {_shared(prepared)}, in the 64 \
features of a small classifier: not comparable with published FID. {_how(prepared.spec)}."""


def _how(spec: FitSpec) -> str:
    generator = generator_of(spec, "FOLDER")
    if generator is None:
        return "The drawn images are reconstructions of some of them"
    scheduler = generator.scheduler or "its own scheduler"
    return (
        f"Drawn from this folder with {scheduler} in {generator.num_inference_steps} network "
        "evaluations, without guidance"
    )


def _shared(prepared: Prepared) -> str:
    known = {image.tobytes() for image in prepared.source.images}
    shared = sum(image.tobytes() in known for image in prepared.held_out.images)
    if shared == 0:
        return "none of which the model or the classifier was trained on"
    return f"{shared:,} of which the model and the classifier were trained on"


def _made_by(prepared: Prepared, report: FitReport) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report.device.versions.items())
    workers = "1 worker" if report.num_workers == 1 else f"{report.num_workers} workers"
    spec = yaml.safe_dump(_portable(prepared), sort_keys=False).strip().replace("\n", "\n    ")
    return f"""`python jobs/fit.py fit.yaml` of factory {version("factory")} with the spec

    {spec}

in {duration(report.training_seconds)} of training ({report.images_per_second:.0f} images/s) on \
{workers} with {prepared.spec.threads} CPU threads, {report.device.kind}; {versions}.

Kept are the averaged weights after {report.kept.images:,} images, {_why(prepared.spec)}. The \
Frechet distance was lowest after {report.best_sample.images:,} images, the validation loss after \
{report.lowest_loss.images:,}. Fingerprint of the fit: `{report.fingerprint}`."""


def _why(spec: FitSpec) -> str:
    match spec.metric.keep:
        case "best_sample":
            return "the checkpoint whose samples were best"
        case "lowest_loss":
            return "the checkpoint with the lowest validation loss"
        case "last":
            return "the last checkpoint"


def _portable(prepared: Prepared) -> dict[str, object]:
    """The spec, less defaults and placement, its sources by name instead of by path."""
    tree = prepared.spec.model_dump(
        mode="json", exclude_defaults=True, exclude={"resources", "num_workers"}
    )
    for field, source in (("source", prepared.source), ("held_out", prepared.held_out)):
        if field in tree and "path" in tree[field]:
            tree[field]["path"] = source.name
    if prepared.autoencoder is not None:
        tree["objective"]["autoencoder"] = f"FOLDER of digest {prepared.autoencoder.digest}"
    return tree
