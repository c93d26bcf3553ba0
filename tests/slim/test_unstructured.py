"""Single weights set to zero: as many as were asked for, the smallest, and nothing of the work is saved."""

from __future__ import annotations

import pytest
import torch

from medrail.models.classifiers import TinyCnn
from medrail.slim import evaluate_sparsity
from medrail.slim.size import size_of
from medrail.slim.unstructured import zero_smallest


@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.9])
def test_the_smallest_weights_become_zero_and_the_work_stays(ratio: float) -> None:
    torch.manual_seed(0)
    network = TinyCnn(2, 1, 3).eval()
    sparse = zero_smallest(network, ratio)
    assert evaluate_sparsity(network).share == 0
    found = evaluate_sparsity(sparse)
    assert found.share == pytest.approx(ratio, abs=1e-3)
    assert found.weights == sum(p.numel() for name, p in network.named_parameters() if p.ndim > 1)
    assert size_of(sparse, (1, 16, 24)) == size_of(network, (1, 16, 24))
    assert sparse.state_dict().keys() == network.state_dict().keys()
    weights = [
        tuple(one.get_submodule(name).get_parameter("weight").detach() for one in (network, sparse))
        for name in found.by_layer
    ]
    largest_gone = max(float(was[now == 0].abs().max()) for was, now in weights if (now == 0).any())
    smallest_left = min(float(was[now != 0].abs().min()) for was, now in weights if (now != 0).any())
    assert largest_gone <= smallest_left
    assert all(torch.equal(was[now != 0], now[now != 0]) for was, now in weights)
