"""Which candidates are rejected, and why: filters that look at each image by itself.

Duplicates depend on what was drawn for a shard already and are in factory/vision/duplicates.py.
N images, H height, W width, C channels.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from factory.sources.open import open_source
from factory.spec import AgreementFilter, ContrastFilter, NearRealFilter, SpecError
from factory.vision.channels import to_channels
from factory.vision.labeller import LabellerNetwork, load_labeller
from factory.vision.near_real import NearReal, pixels


class LoadedFilter(Protocol):
    """A filter with all that it needs; what it says of an image depends on that image alone."""

    def __call__(self, images: NDArray[np.uint8], class_names: Sequence[str]) -> list[str | None]:
        """Why each of N candidates is rejected: one word; None where it is not.

        Args:
            images: uint8 [N, H, W, C].
            class_names: N names, the class that each image is meant to show.
        """
        ...


class Agreement:
    """Rejects what a labeller sees as another class, or as the right one with little confidence."""

    def __init__(self, labeller: LabellerNetwork, *, min_confidence: float) -> None:
        """Ask `labeller`; `min_confidence` is the least probability of the right class."""
        self._labeller = labeller
        self._min_confidence = min_confidence

    def __call__(self, images: NDArray[np.uint8], class_names: Sequence[str]) -> list[str | None]:
        """ "agreement" for another class, "confidence" for too low a probability, or None.

        Raises:
            SpecError: naming the classes that the labeller does not know.
        """
        known = self._labeller.class_names
        unknown = sorted(set(class_names) - set(known))
        if unknown:
            raise SpecError(
                f"filters.agreement: {unknown} are no classes of its model, which knows "
                f"{list(known)}; give a model of the dataset's classes"
            )
        found = self._labeller(images)
        return [
            self._reason(known[label] == name, confidence)
            for label, confidence, name in zip(*found, class_names, strict=True)
        ]

    def _reason(self, agrees: bool, confidence: float) -> str | None:
        if not agrees:
            return "agreement"
        return "confidence" if confidence < self._min_confidence else None


class Contrast:
    """Rejects blank images."""

    def __init__(self, *, min_deviation: float) -> None:
        """Reject below `min_deviation`, a standard deviation of grey values 0 to 255."""
        self._min_deviation = min_deviation

    def __call__(self, images: NDArray[np.uint8], class_names: Sequence[str]) -> list[str | None]:
        """ "contrast" where the standard deviation of an image's ITU-R 601 luma is too low."""
        luma = to_channels(images, 1).reshape(len(images), -1)
        return [
            "contrast" if deviation < self._min_deviation else None
            for deviation in luma.std(axis=1, dtype=np.float64)
        ]


def load_filter(
    spec: AgreementFilter | NearRealFilter | ContrastFilter,
    folders: Mapping[str, str],
    device: torch.device,
) -> LoadedFilter:
    """Load what a filter needs: its network, its real images.

    Args:
        spec: any filter but that of duplicates, which is made anew for each shard (`Duplicates`).
        folders: local folder of each model that `spec` names.
        device: where networks and distances are computed.

    Raises:
        SpecError: if a model or a source cannot be read, or the sources do not fit.
    """
    match spec:
        case AgreementFilter():
            labeller = load_labeller(folders[spec.model], device, field="filters.agreement.model")
            return Agreement(labeller, min_confidence=spec.min_confidence)
        case ContrastFilter():
            return Contrast(min_deviation=spec.min_deviation)
        case NearRealFilter():
            return _near_real(spec, folders, device)


def _near_real(spec: NearRealFilter, folders: Mapping[str, str], device: torch.device) -> NearReal:
    """Open the two sources and calibrate; as `load_filter`."""
    features = pixels
    if spec.features != "pixels":
        field = "filters.near_real.features"
        features = load_labeller(folders[spec.features], device, field=field).features
    return NearReal(
        open_source(spec.real).images,
        open_source(spec.held_out).images,
        features=features,
        quantile=spec.quantile,
        device=device,
    )
