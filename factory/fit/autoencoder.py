"""Find the autoencoder of a text-to-image fit, and check that it takes the images."""

from typing import Any

from factory.models import PinnedFolder, pin_folder
from factory.sources.source import Source
from factory.spec import FitSpec, SpecError
from factory.spec.text_fit import TextToImageObjective

_FIELD = "objective.autoencoder"


def open_autoencoder(spec: FitSpec, source: Source) -> PinnedFolder | None:
    """The autoencoder that `spec` names, pinned; None of a fit that needs none.

    Raises:
        SpecError: if it cannot be had, is none, or does not take the images of `source`.
    """
    if not isinstance(spec.objective, TextToImageObjective):
        return None
    name = spec.objective.autoencoder
    instead = "the model folder of a fit of kind autoencoder, as jobs/fit.py makes it"
    found = pin_folder(name, spec.objective.autoencoder_revision, field=_FIELD, instead=instead)
    config = _read_config(found, name, instead)
    channels = source.images.shape[3]
    if config["in_channels"] != channels:
        raise SpecError(
            f"{_FIELD}: {name} takes images of {config['in_channels']} channels, but those of "
            f"{source.name} have {channels}; set source.channels and held_out.channels"
        )
    return found


def downscaling(autoencoder: PinnedFolder) -> int:
    """How many px of an image stand behind a side of one latent."""
    return 2 ** (len(autoencoder.read_json("config.json")["block_out_channels"]) - 1)


def _read_config(found: PinnedFolder, name: str, instead: str) -> dict[str, Any]:
    try:
        config = found.read_json("config.json")
    except (OSError, ValueError) as error:
        raise SpecError(f"{_FIELD}: {name} cannot be read ({error}); give {instead}") from None
    if config.get("_class_name") != "AutoencoderKL":
        raise SpecError(
            f"{_FIELD}: {name} is a {config.get('_class_name')}, not an AutoencoderKL; give "
            f"{instead}"
        )
    return config
