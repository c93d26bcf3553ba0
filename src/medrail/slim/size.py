"""Size: how large a network is, and how much work one answer of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@dataclass(frozen=True)
class Size:
    """What a network is made of.

    channels:
        Outputs of all convolutions and linear layers together.
    parameters:
        Numbers that are trained; zeros count.
    macs:
        Multiplications, each with its addition, of convolutions and linear layers for one image.
    """

    channels: int
    parameters: int
    macs: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def size_of(network: nn.Module, shape: Sequence[int]) -> Size:
    """By letting the network answer once.

    Parameters
    ----------
    shape:
        (C, [D,] H, W) of the image.
    """
    macs = 0

    def count(module: nn.Module, given: tuple[torch.Tensor, ...], answered: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Linear):
            macs += answered.numel() * module.in_features
        elif isinstance(module, _ConvNd):
            each = math.prod(module.kernel_size) * module.in_channels // module.groups
            if isinstance(module, _ConvTransposeNd):  # every input is spread, instead of every output gathered
                each, answered = math.prod(module.kernel_size) * module.out_channels // module.groups, given[0]
            macs += answered.numel() * each

    layers = [module for module in network.modules() if isinstance(module, _ConvNd | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    training, weight = network.training, next(network.parameters())
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *shape, device=weight.device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    channels = sum(layer.weight.shape[0] if isinstance(layer, nn.Linear) else layer.out_channels for layer in layers)
    return Size(channels, sum(parameter.numel() for parameter in network.parameters()), macs)
