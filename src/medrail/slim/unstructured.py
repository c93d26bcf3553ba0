"""Unstructured pruning: single weights set to zero. It makes nothing faster or smaller; it is here to compare with.

A convolution multiplies by a zero as slowly as by any other number, and the file stores it as any other number. Only
whole channels that are gone (``medrail.slim.prune``) are work that is gone. See docs/explanation/pruning.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import prune


@dataclass(frozen=True)
class Sparsity:
    """How many weights of the convolutions and linear layers are exactly zero.

    by_layer:
        Name -> share of its weights.
    """

    zeros: int
    weights: int
    by_layer: Mapping[str, float]

    @property
    def share(self) -> float:
        """0..1: what "sparsity 40 %" means."""
        return self.zeros / self.weights if self.weights else 0.0


def zero_smallest(network: nn.Module, ratio: float) -> nn.Module:
    """A copy in which the ``ratio`` of the weights that are nearest to zero, over all layers together, are zero.

    That is ``torch.nn.utils.prune.global_unstructured`` with L1Unstructured (Han et al., NeurIPS 2015), made permanent.
    """
    network = copy.deepcopy(network)
    layers = [(layer, "weight") for _, layer in _layers(network)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=ratio)
    for layer, name in layers:
        prune.remove(layer, name)  # type: ignore[no-untyped-call]
    return network


def evaluate_sparsity(network: nn.Module) -> Sparsity:
    """Count the zeros, for people who are asked for it. It says nothing about time: that is to be measured."""
    zeros, weights, by_layer = 0, 0, {}
    for name, layer in _layers(network):
        weight = layer.get_parameter("weight")
        found = int(torch.count_nonzero(weight == 0))
        zeros, weights = zeros + found, weights + weight.numel()
        by_layer[name] = found / weight.numel()
    return Sparsity(zeros, weights, by_layer)


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, one) for name, one in network.named_modules() if isinstance(one, _ConvNd | nn.Linear))
