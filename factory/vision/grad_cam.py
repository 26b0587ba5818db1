"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).

N images, C channels, H height, W width, K classes; A feature maps [N, D, h, w], y logits [N, K].
"""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray

from factory.images import to_float
from factory.spec import SpecError
from factory.vision.channels import to_channels
from factory.vision.classifier import ImageClassifier
from factory.vision.pretrained import TransformersTrunk

_BATCH = 64


def grad_cam(
    classifier: ImageClassifier, images: NDArray[np.uint8], labels: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """How much each place of each image speaks for a class, float32 [N, H, W] in [0, 1].

    The map of the last stage, `block4` of a ResNet: relu(sum_k alpha_k A_k), where alpha_k is the
    mean over places of dy/dA_k (Eqs. 1 and 2 of the paper), bilinear at the image's size, divided
    by its largest value. An image without evidence for the class has a map of zeros. Leaves the
    network in evaluation mode.

    Args:
        classifier: of images of C channels.
        images: uint8 [N, H, W, C].
        labels: [N], the classes y to ask for; None: for each image the likeliest one.

    Raises:
        SpecError: if the network has no feature maps, as a vision transformer.
    """
    classifier.eval()
    maps = np.zeros(images.shape[:3], dtype=np.float32)
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        x = to_float(images[part]).to(classifier.head.weight.device)
        maps[part] = _maps(classifier, x, None if labels is None else labels[part]).cpu().numpy()
    return maps


def overlay(
    images: NDArray[np.uint8], maps: NDArray[np.float32], *, colormap: str = "turbo"
) -> NDArray[np.uint8]:
    """Maps in colours of matplotlib, half transparent over their images, uint8 [N, H, W, 3].

    Args:
        images: uint8 [N, H, W, C], C 1 or 3.
        maps: [N, H, W] in [0, 1].
        colormap: matplotlib's name.
    """
    colours = colormaps[colormap](maps)[..., :3] * 255
    return np.rint((to_channels(images, 3) + colours) / 2).astype(np.uint8)


def _maps(
    classifier: ImageClassifier, x: torch.Tensor, labels: NDArray[np.int64] | None
) -> torch.Tensor:
    with torch.enable_grad():
        a, y = _forward(classifier, classifier.prepare(x))
        asked = y.argmax(dim=1) if labels is None else torch.from_numpy(labels).to(y.device)
        # Images do not meet in evaluation mode: the sum's gradient is each one's own.
        (gradient,) = torch.autograd.grad(y.gather(1, asked[:, None]).sum(), a)
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    maps = F.relu((alpha * a.detach()).sum(dim=1, keepdim=True))
    maps = F.interpolate(maps, x.shape[2:], mode="bilinear")[:, 0]
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest, 0)


def _forward(classifier: ImageClassifier, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the trunk takes -> A, which has a gradient, and y."""
    trunk = classifier.trunk
    if not isinstance(trunk, TransformersTrunk):
        with torch.no_grad():
            a = trunk.feature_map(x)
        a.requires_grad_()
        return a, classifier.head(a.mean(dim=(2, 3)))
    # The maps lie within its graph, which starts at the images, since a frozen trunk has no other.
    seen = trunk.classifier(pixel_values=x.requires_grad_(), output_hidden_states=True)
    a = seen.hidden_states[-1]
    if a.ndim != 4:
        raise SpecError(
            f"grad_cam: the last layer of a {trunk.architecture['model_type']} network gives "
            f"{list(a.shape[1:])} numbers for an image, expected feature maps [D, h, w]; give a "
            "convolutional network"
        )
    return a, classifier.head(seen.logits)
