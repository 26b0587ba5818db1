"""The model card: what a trained model is, what it has seen, and how good it was measured to be."""

from importlib.metadata import version

import yaml

from factory.fit.history import FitReport
from factory.fit.prepare import Prepared
from factory.progress import duration


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
        "tags": ["class-conditional", "edm", "synthetic-data"],
    }
    if prepared.spec.licence is not None:
        header["license"] = prepared.spec.licence.lower()
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---"


def _what(prepared: Prepared, report: FitReport) -> str:
    height, width, channels = prepared.source.images.shape[1:]
    return (
        f"Draws {width}x{height} {'grey' if channels == 1 else 'RGB'} images of "
        f"{len(prepared.source.class_names)} classes: {', '.join(prepared.source.class_names)}. "
        "A diffusion model in pixel space with the preconditioning of EDM (Karras et al. 2022), "
        f"{report.num_parameters:,} parameters in float16.\n\n"
        "    python jobs/generate.py generator.model=FOLDER"
    )


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
    steps = prepared.spec.metric.num_inference_steps
    return f"""| what | value |
|---|---|
| Frechet distance of {kept.num_samples:,} drawn images | {kept.frechet_distance:.3f} |
| Frechet distance of as many real training images | {referee.real_distance:.3f} |
| drawn images in which the classifier sees the class asked for | {kept.agreement:.1%} |
| the reference images in which it sees their class | {referee.accuracy:.1%} |
| sampling speed | {kept.images_per_second:.1f} images/s |

Against {referee.num_held_out:,} real images ({referee.held_out}), {_shared(prepared)}, in the 64 \
features of a small classifier: not comparable with published FID. Drawn from this \
folder with Heun's method at {steps} noise levels ({2 * steps - 1} network evaluations), without \
guidance."""


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

Kept are the averaged weights after {report.kept.images:,} images, which had the lowest distance \
of all checkpoints. Fingerprint of the fit: `{report.fingerprint}`."""


def _portable(prepared: Prepared) -> dict[str, object]:
    """The spec, less defaults and placement, its sources by name instead of by path."""
    tree = prepared.spec.model_dump(
        mode="json", exclude_defaults=True, exclude={"resources", "num_workers"}
    )
    for field, source in (("source", prepared.source), ("held_out", prepared.held_out)):
        if field in tree and "path" in tree[field]:
            tree[field]["path"] = source.name
    return tree
