"""Where the cells of a network's last map lie in its input.

A convolution of three taps and stride 2 looks with its first answer at the very corner, not half a step inside. After
five of them the cells lie half a cell (16 pixels of 224) above and to the left of where a map that is simply stretched
over the image would show them. So their places are measured, once, when a network is exported.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from medrail.models.evidence import WithEvidence

_CELLS = 4
_LEAST_PX = 32
_AVERAGING: dict[type[nn.Module], type[nn.Module]] = {nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}


def cell_places(network: WithEvidence, input_shape: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """For each axis ``(stride, first)``: the centre of cell i of the evidence lies at voxel ``first + stride * i``.

    A cell sees a wide field, whose centre is where the middle taps of all kernels on the way lead (Araujo, Norris and
    Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019). So the middle taps are all that is
    left in a copy of the network, and the gradient of a cell says which voxels they lead to.

    Parameters
    ----------
    network:
        One with evidence, that takes images of any size.
    input_shape:
        (C, [D,] H, W).
    """
    network = _alike(network, input_shape)
    channels, *sizes = input_shape
    with torch.inference_mode():
        cells = network(torch.ones(1, *input_shape))[-1].shape[2:]
    ratios = [max(1, round(size / count)) for size, count in zip(sizes, cells, strict=True)]
    places = []
    for axis, ratio in enumerate(ratios):
        large = [max(_LEAST_PX, one) for one in ratios]
        large[axis] = max(_CELLS * ratio, _LEAST_PX)
        places.append(_along(network, (channels, *large), axis))
    return tuple(places)


def _along(network: WithEvidence, input_shape: Sequence[int], axis: int) -> tuple[float, float]:
    image = torch.ones(1, *input_shape, requires_grad=True)
    evidence = network(image)[-1].movedim(2 + axis, 0)
    if len(evidence) < _CELLS:  # of a network with larger strides than its trained size could show
        doubled = [size * (2 if number == axis + 1 else 1) for number, size in enumerate(input_shape)]
        return _along(network, doubled, axis)
    middle = len(evidence) // 2
    centres = []
    for cell in (middle - 1, middle):
        (gradient,) = torch.autograd.grad(evidence[cell].sum(), image, retain_graph=True)
        seen = gradient.movedim(2 + axis, 0).flatten(1).double().sum(dim=1)
        centres.append(float((seen * torch.arange(len(seen))).sum() / seen.sum()))
    stride = centres[1] - centres[0]
    return _quarter(stride), _quarter(centres[1] - stride * middle)


def _quarter(value: float) -> float:
    return round(value * 4) / 4


def _alike(network: WithEvidence, input_shape: Sequence[int]) -> WithEvidence:
    """A copy of middle taps only, and of means instead of maxima, so that only the way through it is left."""
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, _ConvNd | nn.Linear):
                _keep_middle(module.weight)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, _BatchNorm):
                module.reset_running_stats()
                if module.affine:
                    module.weight.fill_(1)
                    module.bias.zero_()
            for name, child in module.named_children():
                if type(child) in _AVERAGING:
                    averaging: Any = _AVERAGING[type(child)]
                    setattr(module, name, averaging(child.kernel_size, child.stride, child.padding))
        _cut_gates(network, input_shape)
    return network


def _keep_middle(weight: torch.Tensor) -> None:
    """The middle tap along each axis of the kernel, or the two in the middle, all alike."""
    middle = tuple(slice((taps - 1) // 2, taps // 2 + 1) for taps in weight.shape[2:])
    weight.zero_()
    weight[(slice(None), slice(None), *middle)] = 1
    weight /= weight[0].sum()


def _cut_gates(network: WithEvidence, input_shape: Sequence[int]) -> None:
    """What looks at the mean of everything (squeeze and excitation) has no place: nothing of it may be counted."""

    def cut(module: nn.Module, given: Any, answered: Any) -> None:
        if isinstance(module, _ConvNd) and given[0].shape[2:].numel() == 1:
            module.weight.zero_()

    handles = [module.register_forward_hook(cut) for module in network.modules() if isinstance(module, _ConvNd)]
    large = [max(_CELLS * _LEAST_PX if axis == 0 else _LEAST_PX, size) for axis, size in enumerate(input_shape[1:])]
    network(torch.ones(1, input_shape[0], *large))
    for handle in handles:
        handle.remove()
