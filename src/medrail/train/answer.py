"""A torch network behind the same call as an exported one, so that both are judged by the same code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from medrail.bundle.backend import LOGITS, Batch, Engine
from medrail.models.evidence import WithEvidence


def torch_backend(
    network: nn.Module,
    device: torch.device | str = "cpu",
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Engine:
    """(N, C, [D,] H, W) float32 -> logits float32, in evaluation mode and, without ``precision``, in full precision.

    A network within ``WithEvidence`` can be asked for its features and evidence, too. The network's mode is put back
    after every call, so that it can be judged in the middle of training; ``precision`` makes the context in which it
    then computes (``Fabric.autocast``).
    """

    def answer(batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
        training = network.training
        network.eval()
        try:
            with torch.inference_mode(), precision():
                found = network(torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).to(device))
                by_name = dict(zip(outputs, found if isinstance(found, tuple) else (found,), strict=True))
                return {name: by_name[name].float().cpu().numpy() for name in names}
        finally:
            network.train(training)

    outputs = network.outputs if isinstance(network, WithEvidence) else (LOGITS,)
    return Engine(outputs, answer)
