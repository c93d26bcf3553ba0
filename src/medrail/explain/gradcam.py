"""Grad-CAM: an approximate map of what spoke for a class, for any network that has a map or tokens somewhere.

Selvaraju et al., ICCV 2017, section 3: each channel of a late map is weighted by the mean gradient of the class's score
with respect to it; what the weighted channels add up to, where positive, is shown. The gradient is only the slope at
this image, and what comes after the map is left out, so the picture may mislead where the network is not linear there.
For networks that end in global pooling and one linear layer it is the exact evidence, where positive, over the number
of cells (a test says so).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

APPROXIMATE = "approximate (Grad-CAM): the slope of the class's logit less the others', at this image, by place"
BY_ITSELF = "approximate (Grad-CAM): the slope of the label's logit, at this image, by place"
_PROBE_BATCH = 2


class GradCam:
    """Maps of a network's classes.

    The layer is found once, with noise: the last one to finish whose answer is a map, or tokens with a place each, with
    a gradient at more than one place (tokens of a transformer's last block have none where a class token is read).

    Parameters
    ----------
    network:
        A classifier on the CPU; it is put into evaluation mode.
    input_shape:
        (C, [D,] H, W).

    Raises
    ------
    ValueError
        If the network has no such layer.
    """

    def __init__(self, network: nn.Module, input_shape: Sequence[int]) -> None:
        self.network = network.eval()
        noise = torch.randn(_PROBE_BATCH, *input_shape, generator=torch.Generator().manual_seed(0))
        self._layer, self._places = _found(network, noise)

    def __call__(
        self, batch: npt.NDArray[np.float32], index: int, *, by_itself: bool = False
    ) -> npt.NDArray[np.float32]:
        """(N, C, [D,] H, W) and a class's index -> (N, [d,] h, w), 0 or more.

        ``by_itself``: what speaks for the class whatever the others do, as where an image may have several.
        """
        with torch.enable_grad(), _Outputs(self.network, [self._layer]) as outputs:
            score = _score(
                self.network(torch.from_numpy(np.ascontiguousarray(batch)).requires_grad_()), index, by_itself
            )
            answered = outputs.seen[self._layer]
            (gradient,) = torch.autograd.grad(score, answered)
        channels, slopes = (_channels(values.detach(), self._places) for values in (answered, gradient))
        weights = slopes.mean(dim=-1, keepdim=True)
        summed = (weights * channels).sum(dim=1).clamp(min=0)
        return summed.reshape(-1, *self._places).numpy().astype(np.float32)


class _Outputs:
    """Keeps what the named modules answer, in the order in which they finish."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self.seen: dict[str, torch.Tensor] = {}
        self._modules = {name: network.get_submodule(name) for name in names}

    def __enter__(self) -> _Outputs:
        self._handles = [
            module.register_forward_hook(self._keep(name), always_call=False) for name, module in self._modules.items()
        ]
        return self

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, answered: Any) -> None:
            if isinstance(answered, torch.Tensor):
                self.seen.pop(name, None)
                self.seen[name] = answered

        return hook

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()


def _score(logits: torch.Tensor, index: int, by_itself: bool = False) -> torch.Tensor:
    """The class's logit less the mean of the others, as exact evidence has it; images do not touch each other."""
    others = [] if by_itself else [k for k in range(logits.shape[1]) if k != index]
    return (logits[:, index] - logits[:, others].mean(dim=1)).sum() if others else logits[:, index].sum()


def _found(network: nn.Module, noise: torch.Tensor) -> tuple[str, tuple[int, ...]]:
    names = [name for name, _ in network.named_modules() if name]
    with torch.enable_grad(), _Outputs(network, names) as outputs:
        score = _score(network(noise.requires_grad_()), 0)
        seen = {name: answered for name, answered in outputs.seen.items() if answered.requires_grad}
        gradients = torch.autograd.grad(score, [*seen.values()], allow_unused=True)
    grids = [
        tuple(answered.shape[2:]) for name, answered in seen.items() if isinstance(network.get_submodule(name), _ConvNd)
    ]
    for (name, answered), gradient in reversed([*zip(seen.items(), gradients, strict=True)]):
        places = _places(answered, grids, noise.ndim)
        if gradient is None or not places:
            continue
        if int((_channels(gradient, places).abs().sum(dim=1) > 0).sum(dim=1).min()) > 1:
            return name, places
    raise ValueError(f"{type(network).__name__} has no map or tokens to explain it by")


def _places(answered: torch.Tensor, grids: Sequence[tuple[int, ...]], axes: int) -> tuple[int, ...]:
    """The grid of a map's or of tokens' places; () for something else, or a single place.

    It must be one on which a convolution answers: the weights of attention have four axes, too.
    """
    if len(answered) != _PROBE_BATCH:
        return ()
    if answered.ndim == axes:
        grid = tuple(answered.shape[2:])
        return grid if math.prod(grid) > 1 and grid in grids else ()
    if answered.ndim == 3:
        count = answered.shape[1]
        return next((grid for grid in grids if math.prod(grid) > 1 and math.prod(grid) in (count, count - 1)), ())
    return ()


def _channels(values: torch.Tensor, places: tuple[int, ...]) -> torch.Tensor:
    """A map or tokens (with or without one for the class before them) -> (N, F, number of places)."""
    if values.ndim == 3:
        return values[:, -math.prod(places) :].transpose(1, 2)
    return values.flatten(2)
