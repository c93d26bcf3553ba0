"""Ensemble: several networks as one, which answers with the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class Ensemble(nn.Module):
    """(N, C, [D,] H, W) -> logits (N, K, ...) whose softmax is the mean of the members' softmax.

    That is the logarithm of the mean probability, taken without leaving the logarithms, so that a probability of 1e-30
    is none of 0. Averaging probabilities, not logits, lets no member that is very sure outvote the others
    (Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation using deep ensembles, NeurIPS 2017).

    Parameters
    ----------
    members:
        Networks for the same input and classes.
    several:
        Several labels an image: the sigmoids are averaged, and the logits are those whose sigmoid the mean is.
    """

    def __init__(self, members: Sequence[nn.Module], *, several: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.several = several

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([member(images).float() for member in self.members])
        if self.several:
            return _log_mean(functional.logsigmoid(logits)) - _log_mean(functional.logsigmoid(-logits))
        return _log_mean(functional.log_softmax(logits, dim=2))


def _log_mean(logarithms: torch.Tensor) -> torch.Tensor:
    """The logarithm of the mean over the first axis, from logarithms."""
    return torch.logsumexp(logarithms, dim=0) - math.log(len(logarithms))
