"""Deep supervision: the coarser maps of a decoder are held against the mask, too (Lee et al., AISTATS 2015).

The layers that turn those maps into answers exist in training only, so the network that is kept and exported is the
same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from medrail.train.loss import Loss

Maps = Callable[[nn.Module], Sequence[nn.Module]]
"""Network -> the modules of its decoder whose outputs are supervised, the finest first."""


class Supervised(nn.Module):
    """A network and one 1 x 1 convolution for each supervised map.

    In training it answers with a list of logits, the network's own first; else with the network's own.

    Parameters
    ----------
    size:
        (C, [D,] H, W) of an input, to see how many channels the maps have.
    """

    def __init__(self, network: nn.Module, maps: Maps, n_classes: int, size: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self._maps = maps
        training = network.training
        with torch.no_grad():
            _, found = _with_maps(network.eval(), maps, torch.zeros(1, *size))
        network.train(training)
        convolution = nn.Conv2d if len(size) == 3 else nn.Conv3d
        self.heads = nn.ModuleList(convolution(map_.shape[1], n_classes, 1) for map_ in found)

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        if not self.training:
            logits: torch.Tensor = self.network(images)
            return logits
        logits, found = _with_maps(self.network, self._maps, images)
        return [logits, *(head(map_) for head, map_ in zip(self.heads, found, strict=True))]


def supervised_loss(
    loss_of: Loss, answers: torch.Tensor | Sequence[torch.Tensor], targets: torch.Tensor
) -> torch.Tensor:
    """The loss of the finest answer; of several their mean, each next one counting half (Isensee et al., Nature Methods
    18, 2021). Masks become coarser by taking the nearest voxel.
    """
    if isinstance(answers, torch.Tensor):
        return loss_of(answers, targets)
    weights = [0.5**level for level in range(len(answers))]
    total = torch.zeros((), device=targets.device)
    for answer, weight in zip(answers, weights, strict=True):
        fitting = targets
        if answer.shape[2:] != targets.shape[1:]:
            fitting = functional.interpolate(targets[:, None].float(), answer.shape[2:], mode="nearest")[:, 0].long()
        total = total + weight / sum(weights) * loss_of(answer, fitting)
    return total


def _with_maps(network: nn.Module, maps: Maps, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The network's answer and what the supervised modules gave on the way."""
    found: dict[nn.Module, torch.Tensor] = {}
    modules = maps(network)
    handles = [
        module.register_forward_hook(lambda module, _, output: found.__setitem__(module, output)) for module in modules
    ]
    try:
        logits: torch.Tensor = network(images)
    finally:
        for handle in handles:
            handle.remove()
    return logits, [found[module] for module in modules]
