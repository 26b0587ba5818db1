"""What the objective of a fit decides: the model in training, and how the judge draws from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from factory.diffusion.ddpm_sampler import DdpmSampler
from factory.diffusion.edm_sampler import EdmSampler
from factory.fit.pixel import DdpmTrainee, EdmTrainee
from factory.fit.prepare import generator_of
from factory.fit.text import AutoencoderTrainee, TextTrainee
from factory.fit.text_drawer import AutoencoderDrawer, TextDrawer
from factory.fit.trainee import Trainee
from factory.sources.source import Source
from factory.spec import DdpmGenerator, EdmGenerator, FitSpec, TextToImageGenerator
from factory.spec.fit import DdpmObjective, EdmObjective
from factory.spec.text_fit import AutoencoderObjective, TextToImageObjective


class Drawer(Protocol):
    """A loaded model that the judge draws from."""

    def draw(self, class_names: Sequence[str | None], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """N class names (None of an unconditional model) and N seeds -> uint8 [N, H, W, C]."""
        ...


def make_trainee(
    spec: FitSpec,
    source: Source,
    device: torch.device,
    start: Path | None = None,
    autoencoder: Path | None = None,
) -> Trainee:
    """The model that `spec` trains, on `device`; every worker makes the same weights.

    Args:
        spec: what is asked.
        source: images to train on.
        device: where it is trained.
        start: model folder of the same kind and shape to go on from; None: random weights.
        autoencoder: folder of the one that a text-to-image model draws with.
    """
    match spec.objective:
        case EdmObjective():
            return EdmTrainee(spec, source, device, start)
        case DdpmObjective() as objective:
            return DdpmTrainee(spec, objective, source, device, start)
        case AutoencoderObjective() as objective:
            return AutoencoderTrainee(spec, objective, source, device)
        case TextToImageObjective() as objective:
            assert autoencoder is not None
            return TextTrainee(spec, objective, source, device, autoencoder)


def load_drawer(spec: FitSpec, folder: Path, held_out: Source, device: torch.device) -> Drawer:
    """The model saved in `folder`, drawing as `generate` does by default, without guidance.

    An autoencoder draws by reconstructing images of `held_out`.
    """
    match generator_of(spec, str(folder)):
        case EdmGenerator() as generator:
            return EdmSampler(str(folder), generator, device)
        case DdpmGenerator() as generator:
            return DdpmSampler(str(folder), generator, device)
        case TextToImageGenerator() as generator:
            assert isinstance(spec.objective, TextToImageObjective)
            return TextDrawer(folder, generator, spec.objective.captions, device)
        case None:
            return AutoencoderDrawer(folder, held_out, device)
