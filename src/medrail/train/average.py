"""Average: the exponential moving average of the weights, which is what is validated, kept and exported.

Polyak and Juditsky, SIAM J. Control Optim. 30, 1992; in the form of Tarvainen and Valpola, NeurIPS 2017.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

WARM_UP_STEPS = 10
"""After t steps the decay is at most (1 + t) / (10 + t): an average over the last tenth of all steps so far, so that
the first, random weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage)."""


class Average:
    """A second network that follows the trained one.

    Running statistics of batch normalisation are averaged as the weights are: those of the trained network belong to
    its own weights. Whole numbers (how many batches were seen) are copied.

    Parameters
    ----------
    network:
        The trained one; it is copied, hooks and all.
    decay:
        Of one step, in 0..1; 0.99 is an average over about the last 100 steps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.decay = decay

    def follow(self, network: nn.Module, step: int) -> None:
        """After step number ``step`` (from 0) of the training."""
        share = 1 - min(self.decay, (1 + step) / (WARM_UP_STEPS + step))
        with torch.no_grad():
            mine, others = _floats(self.network), _floats(network)
            torch._foreach_lerp_(mine, others, share)
            for buffer, other in zip(self.network.buffers(), network.buffers(), strict=True):
                if not buffer.is_floating_point():
                    buffer.copy_(other)


def _floats(network: nn.Module) -> list[torch.Tensor]:
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    return [parameter.detach() for parameter in network.parameters()] + buffers
