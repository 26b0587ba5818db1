"""Residual networks that turn images into features, for small images and large ones.

N images, C channels, H height, W width, D features.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
_HEAD_CHANNELS = 64
"""Channels of one attention head, where there are as many."""
_MOST_GROUPS = 8

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet_attention"]
Norm = Callable[[int], nn.Module]
"""Number of channels -> a normalisation of them, with a weight and a bias for each."""


class ResNet(nn.Module):
    """A residual network (He et al. 2015, arXiv 1512.03385) up to its pooled features.

    Blocks end in their activation, shortcuts that change shape are 1x1 convolutions (option B),
    and a bottleneck strides in its 3x3 convolution ("v1.5"). Each block's last batch norm starts
    at zero, so that every block starts as its shortcut (Goyal et al. 2017, arXiv 1706.02677, 5.1).

    `resnet_attention` stands for the classifier of lundberg2022, "ResNet blocks and attention
    layers" before pooling and a linear layer. What the paper leaves open is chosen here: the
    layout of ResNet-18, and one self-attention layer at the end of each of the last two stages
    (8x8 and 4x4 places for 32 px images and the small stem).
    """

    def __init__(
        self,
        network: ResNetName,
        *,
        stem: Literal["small", "imagenet"],
        width: int,
        channels: int,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        """An untrained network; its weights come from torch's global generator.

        Args:
            network: how deep, and of what blocks.
            stem: `small`: one 3x3 convolution at full size; `imagenet`: 7x7 with stride 2, then
                max pooling.
            width: channels of the first stage; each of the next three has twice as many. A
                bottleneck gives out four times as many.
            channels: C.
            norm: `batch`, or `group`: over at most 8 groups of channels (Wu and He 2018,
                arXiv 1803.08494).
        """
        super().__init__()
        self.channels = channels
        layer = nn.BatchNorm2d if norm == "batch" else _group_norm
        block = _Bottleneck if network == "resnet50" else _Block
        self.stem = (_small_stem if stem == "small" else _stem)(channels, width, layer)
        self.stages = nn.Sequential()
        into = width
        for stage, depth in enumerate(_DEPTHS.get(network, _DEPTHS["resnet18"])):
            inner = width * 2**stage
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(into, inner, layer, stride=stride))
                into = inner * block.expansion
            if network == "resnet_attention" and stage >= 2:
                blocks.append(_Attention(into, layer))
            self.stages.append(nn.Sequential(*blocks))
        self.num_features = into
        _initialise(self)

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, C, H, W], sides of 8 px and more -> the last stage's [N, D, h, w]."""
        return self.stages(self.stem(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images float [N, C, H, W] in [-1, 1] -> features [N, D], the map's mean over places."""
        return self.feature_map(x).mean(dim=(2, 3))


class _Block(nn.Module):
    expansion = 1

    def __init__(self, channels: int, inner: int, norm: Norm, *, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(channels, inner, 3, norm, stride=stride),
            nn.ReLU(inplace=True),
            *_convolution(inner, inner, 3, norm),
        )
        self.shortcut = _shortcut(channels, inner, norm, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.branch(x).add_(self.shortcut(x)), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels: int, inner: int, norm: Norm, *, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(channels, inner, 1, norm),
            nn.ReLU(inplace=True),
            *_convolution(inner, inner, 3, norm, stride=stride),
            nn.ReLU(inplace=True),
            *_convolution(inner, inner * self.expansion, 1, norm),
        )
        self.shortcut = _shortcut(channels, inner * self.expansion, norm, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.branch(x).add_(self.shortcut(x)), inplace=True)


class _Attention(nn.Module):
    """Self-attention between the places of a map, added to it; starts as the identity."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.num_heads = max(1, channels // _HEAD_CHANNELS)
        while channels % self.num_heads:
            self.num_heads -= 1
        self.norm = norm(channels)
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, channels, height, width = x.shape
        seen = self.queries_keys_values(self.norm(x)).flatten(2)
        heads = seen.view(n, 3, self.num_heads, -1, height * width).transpose(3, 4)
        mixed = F.scaled_dot_product_attention(*heads.unbind(dim=1))
        return x + self.out(mixed.transpose(2, 3).reshape(n, channels, height, width))


def _small_stem(channels: int, width: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*_convolution(channels, width, 3, norm), nn.ReLU(inplace=True))


def _stem(channels: int, width: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(channels, width, 7, norm, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _shortcut(channels: int, out_channels: int, norm: Norm, *, stride: int) -> nn.Sequential:
    if channels == out_channels and stride == 1:
        return nn.Sequential()
    return nn.Sequential(_Projection(channels, out_channels, stride), norm(out_channels))


class _Projection(nn.Conv2d):
    """A 1x1 convolution that leaves places out before and not within.

    oneDNN's own stride writes past its memory in the gradient of fewer than 8 channels, and gives
    wrong ones (uxlfoundation/oneDNN issue 6035: AVX2, channels-last).
    """

    def __init__(self, channels: int, out_channels: int, step: int) -> None:
        super().__init__(channels, out_channels, 1, bias=False)
        self._step = step

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input[:, :, :: self._step, :: self._step])


def _convolution(
    channels: int, out_channels: int, kernel: int, norm: Norm, *, stride: int = 1
) -> tuple[nn.Conv2d, nn.Module]:
    convolution = nn.Conv2d(
        channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    return convolution, norm(out_channels)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(_MOST_GROUPS, channels), channels)


def _initialise(network: ResNet) -> None:
    for module in network.modules():
        match module:
            case nn.Conv2d():
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            case _Block() | _Bottleneck():
                nn.init.zeros_(module.branch[-1].weight)  # pyright: ignore[reportArgumentType]
            case _:
                pass
    for module in network.modules():
        if isinstance(module, _Attention):
            nn.init.zeros_(module.out.weight)
            nn.init.zeros_(module.out.bias)  # pyright: ignore[reportArgumentType]
