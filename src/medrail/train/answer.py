"""A torch network behind the same call as an exported one, so that both are judged by the same code."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medrail.bundle import Backend


def torch_backend(network: nn.Module, device: torch.device | str = "cpu") -> Backend:
    """(N, C, [D,] H, W) float32 -> logits float32, in full precision and evaluation mode.

    The network's mode is put back after every call, so that it can be judged in the middle of training.
    """

    def answer(batch: np.typing.NDArray[np.float32]) -> np.typing.NDArray[np.float32]:
        training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                logits = network(torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).to(device))
                result: np.typing.NDArray[np.float32] = logits.float().cpu().numpy()
                return result
        finally:
            network.train(training)

    return answer
