"""Start: a training that goes on from a given network, instead of random weights or a file of them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Guide = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(images, the network's logits, the loss against the targets) -> the loss that is minimised."""


@dataclass(frozen=True)
class Start:
    """Where a training begins, and by what it is guided besides the targets.

    given:
        The network, of the configured kind, whose layers may be narrower. It is not changed.
    made_of:
        What determines it and the guide, as text; part of the run's fingerprint.
    guide:
        None: only the targets count.
    """

    given: nn.Module
    made_of: str
    guide: Guide | None = None

    def network(self) -> nn.Module:
        """A copy of it, to be trained."""
        return copy.deepcopy(self.given).requires_grad_()

    def fingerprint(self, training: str) -> str:
        """SHA-256 (hex) of the training's own fingerprint and of where it begins."""
        return hashlib.sha256(f"{training}\0{self.made_of}".encode()).hexdigest()
