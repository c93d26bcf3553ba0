"""Networks that answer (N, K) logits for a whole picture or volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import ResNet
from torch import nn

from medrail.config import ModelConfig

_DEEP_STEM_FROM = 64
"""A ResNet's first convolution halves axes of at least this many pixels; shorter ones would lose their detail."""


class TinyCnn(nn.Module):
    """Four convolution blocks, global average pooling, one linear layer: about 100,000 weights in 2-D.

    Takes (N, C, [D,] H, W) of any size from 8 a side (an axis is halved only while it is longer than one) and answers
    (N, K).
    """

    def __init__(self, dims: int, channels: int, n_classes: int, width: int = 16) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        normalisation = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        blocks: list[nn.Module] = []
        for level in range(4):
            inner = width * 2**level
            blocks += [
                convolution(channels, inner, kernel_size=3, stride=2, padding=1, bias=False),
                normalisation(inner),
                nn.ReLU(),
            ]
            channels = inner
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.pool(self.blocks(x)).flatten(1))
        return logits


def tiny_cnn(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    return TinyCnn(model.dims, model.channels, n_classes)


def resnet18(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    return _resnet("basic", [2, 2, 2, 2], model, n_classes, grid)


def resnet50(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    return _resnet("bottleneck", [3, 4, 6, 3], model, n_classes, grid)


def _resnet(block: str, layers: list[int], model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    """He et al., CVPR 2016. MONAI's own default is a first convolution of stride 1, 3-5 times the work."""
    sizes = grid or [_DEEP_STEM_FROM] * model.dims
    stem_stride: Any = tuple(2 if size >= _DEEP_STEM_FROM else 1 for size in sizes)
    network: nn.Module = ResNet(
        block,
        layers,
        [64, 128, 256, 512],
        spatial_dims=model.dims,
        n_input_channels=model.channels,
        conv1_t_stride=stem_stride,
        num_classes=n_classes,
        bias_downsample=False,
    )
    return network


def densenet121(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    network: nn.Module = DenseNet121(spatial_dims=model.dims, in_channels=model.channels, out_channels=n_classes)
    return network


def efficientnet_b0(model: ModelConfig, n_classes: int, grid: Sequence[int]) -> nn.Module:
    network = EfficientNetBN(
        "efficientnet-b0",
        pretrained=False,
        spatial_dims=model.dims,
        in_channels=model.channels,
        num_classes=n_classes,
        # MONAI's momentum of 0.01 leaves the running statistics behind the weights for hundreds of steps.
        norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
    )
    network.set_swish(memory_efficient=False)  # the other one is a custom autograd function that cannot be exported
    return network
