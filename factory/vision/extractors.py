"""Networks whose features images are compared in, each shown images exactly as it was trained.

- `efficientnet_lite0`: an image becomes a square of 224 px (bicubic, antialiased where that makes
  it smaller), and its pixels p in 0..255 become (p - 127) / 128. The 1,280 features are the mean
  over places of the last map.
- `inception`: takes pixels in 0..255, and makes of an image a square of 299 px itself (bilinear, as
  TensorFlow 1 did: without antialiasing, aligned at a corner). The 2,048 features are its last
  pooling's.
- `dinov2`: sees what the model's own image processor makes of an image; as published, its shorter
  edge becomes 256 px (bicubic), and the middle square of 224 px is cut out. The features are the
  class token after the last norm.
- `clip`: the same; as published, the shorter edge becomes 224 px. The features are the image's
  embedding, projected to where the texts' are, not scaled to length 1.
- `classifier`: as `factory.vision.labeller` says; the features are what the last layer takes.

Small images are enlarged. Images that are not square are stretched by the first two, and lose their
ends to the middle square of the next two; of a square one, too, dinov2's drops a sixteenth at each
edge.
N images, C channels (1 grey, 3 RGB), H height, W width, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from factory.images import tensor_to_float
from factory.spec import SpecError
from factory.vision.channels import to_channels
from factory.vision.extractor_config import INCEPTION_URL, PinnedExtractor
from factory.vision.labeller import load_labeller
from factory.vision.pretrained import LITE0_NORMALISATION, load_lite0, load_with_processor

_LITE0_SIDE = 224
_PROBE_SIDE = 32


class _Network(NamedTuple):
    prepare: Callable[[NDArray[np.uint8]], torch.Tensor]
    """RGB images uint8 [N, H, W, 3] -> what `see` takes, on any device."""
    see: Callable[[torch.Tensor], torch.Tensor]
    """That, on the network's device -> features float32 [N, D]."""
    num_features: int


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """A network on its device, and what shows it images.

    It computes in float32, without TF32, and always in batches of one size, the last one filled up
    with black images: a network's last bits depend on the size of its batch. So with one CPU thread
    an image has the same features, to the bit, in any company; where several threads divide a
    batch, its place there may change the last bits. Grey images are repeated as RGB.
    """

    label: str
    """What reports call it."""
    num_features: int
    """D."""
    look: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """Images uint8 [N, H, W, C] -> features float32 [N, D], not checked."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 [N, H, W, C] of any H and W -> features float32 [N, D].

        Raises:
            ValueError: if C is neither 1 nor 3, or the network gives NaN or infinity.
        """
        # Convolutions on a GPU would round to TF32, which is torch's default.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            features = self.look(images)
        broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(broken):
            raise ValueError(
                f"extractor {self.label}: gives NaN or infinity for images {broken.tolist()} of "
                f"{len(images)}; look at its weights"
            )
        return features


def load_extractor(
    pinned: PinnedExtractor, device: torch.device, *, field: str = "extractors"
) -> FeatureExtractor:
    """Load an extractor and place it on `device`.

    Args:
        pinned: as `pin_extractor` found it.
        device: where it computes.
        field: the section of the spec that it stands in, for errors.

    Raises:
        SpecError: if its weights cannot be had, are damaged or incomplete, or are of a network
            without such features.
    """
    kind, field = pinned.spec.kind, f"{field}.model"
    path = pinned.weights.local()
    match kind:
        case "efficientnet_lite0":
            network = _lite0(device)
        case "inception":
            network = _inception(path, device, field)
        case "dinov2":
            network = _dinov2(path, device, field)
        case "clip":
            network = _clip(path, device, field)
        case "classifier":
            # It fills up batches itself.
            labeller = load_labeller(path, device, field=field)
            return FeatureExtractor(pinned.label, labeller.num_features, labeller.features)
    return FeatureExtractor(
        pinned.label, network.num_features, lambda images: _look(network, images, device)
    )


@torch.inference_mode()
def _look(
    network: _Network, images: NDArray[np.uint8], device: torch.device
) -> NDArray[np.float32]:
    images = to_channels(images, 3)
    # EfficientNet-Lite0 on one core: 34 images/s with 16, 21 with 64; a GPU wants more at once.
    batch_size = 16 if device.type == "cpu" else 256
    rows = []
    # At least one batch, so that no images give an array of the right width.
    for start in range(0, max(1, len(images)), batch_size):
        batch = images[start : start + batch_size]
        full = np.zeros((batch_size, *images.shape[1:]), dtype=np.uint8)
        full[: len(batch)] = batch
        rows.append(network.see(network.prepare(full).to(device))[: len(batch)])
    # Fetched only now: a GPU computes while the next batch is prepared.
    return torch.cat(rows).cpu().numpy()


def _lite0(device: torch.device) -> _Network:
    trunk = load_lite0().eval().to(device)
    trunk.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    mean, std = (
        torch.tensor(values, device=device).view(1, -1, 1, 1)
        for values in (LITE0_NORMALISATION.mean, LITE0_NORMALISATION.std)
    )

    def see(images: torch.Tensor) -> torch.Tensor:
        x = tensor_to_float(images)
        if x.shape[2:] != (_LITE0_SIDE, _LITE0_SIDE):
            # The cubic of Pillow (a = -0.5), widened where the image is larger. It overshoots.
            size = (_LITE0_SIDE, _LITE0_SIDE)
            x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(-1, 1)
        x = (x - mean) / std
        return trunk(x.contiguous(memory_format=torch.channels_last))

    return _Network(torch.from_numpy, see, trunk.num_features)


def _inception(path: Path, device: torch.device, field: str) -> _Network:
    try:
        network = torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise _no_inception(path, field, error) from None

    def see(images: torch.Tensor) -> torch.Tensor:
        # Optimised, torch rewrites the network after its first calls, and with it last bits.
        with torch.jit.optimized_execution(False):
            return network(images.permute(0, 3, 1, 2).contiguous(), return_features=True)

    black = torch.zeros(1, _PROBE_SIDE, _PROBE_SIDE, 3, dtype=torch.uint8, device=device)
    try:
        found: Any = see(black)
    except RuntimeError as error:
        raise _no_inception(path, field, error) from None
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        shape = list(getattr(found, "shape", []))
        raise _no_inception(path, field, f"its features of one image are {shape}, expected [1, D]")
    return _Network(torch.from_numpy, see, found.shape[1])


def _no_inception(path: Path, field: str, reason: object) -> SpecError:
    return SpecError(
        f"{field}: {path} is no network in TorchScript that takes pixels and return_features=True "
        f"({' '.join(str(reason).splitlines()[:3])}); the published one lies at {INCEPTION_URL}"
    )


def _dinov2(folder: Path, device: torch.device, field: str) -> _Network:
    from transformers import Dinov2Model

    model, prepare = load_with_processor(Dinov2Model, str(folder), field=field)
    model.to(device)
    return _Network(
        prepare, lambda x: model(pixel_values=x).pooler_output, model.config.hidden_size
    )


def _clip(folder: Path, device: torch.device, field: str) -> _Network:
    from transformers import CLIPModel

    model, prepare = load_with_processor(CLIPModel, str(folder), field=field)
    model.to(device)
    return _Network(
        prepare,
        lambda x: model.get_image_features(pixel_values=x).pooler_output,
        model.config.projection_dim,
    )
