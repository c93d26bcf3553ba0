"""What an answer costs is measured in a process that knows nothing but the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medrail.bundle.cost import answer_cost
from medrail.errors import BundleError
from medrail.export.onnx_file import write_onnx


@pytest.mark.slow
def test_a_larger_network_costs_more(tmp_path):
    costs = []
    for width in (4, 512):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.Flatten(1)).eval()
        path = tmp_path / f"{width}.onnx"
        write_onnx(network, (1, 24, 20), path)
        costs.append(answer_cost(path, (1, 24, 20)))
    small, large = costs
    assert 0 < small.latency_ms < large.latency_ms / 10
    assert 0 <= small.memory_mb < large.memory_mb
    assert large.memory_mb > 512 * 512 * 9 * 4 / 1e6, "the weights alone"
    assert min(small.n, large.n) >= 10


def test_what_does_not_answer_is_told(tmp_path):
    path = tmp_path / "network.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"network\.onnx"):
        answer_cost(path, (1, 8, 8))
