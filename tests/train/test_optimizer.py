"""The optimizer that is faster must be the optimizer that it replaces, to the bit, and go on from its state."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from medrail.train.optimizer import AdamW


class Small(nn.Module):
    """Weights of every number of axes; the 3-D ones lie with the channels last where ``last`` says so."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.plane, self.volume, self.linear = nn.Conv2d(3, 4, 3), nn.Conv3d(2, 4, (1, 2, 3)), nn.Linear(5, 2)
        if last:
            for layer, layout in ((self.plane, torch.channels_last), (self.volume, torch.channels_last_3d)):
                layer.weight.data = layer.weight.data.contiguous(memory_format=layout)

    def forward(self, factor: float) -> torch.Tensor:
        total = torch.zeros(())
        for number, weight in enumerate(self.parameters(), 1):
            total = total + (weight * weight * torch.sin(weight * number)).sum() * factor
        return total


def trained(optimizer_of: type[torch.optim.Optimizer], *, last: bool, steps: range, state: bytes = b"") -> bytes:
    torch.manual_seed(0)
    network = Small(last=last)
    options = {"lr": 0.1, "weight_decay": 0.05}
    fused = {} if optimizer_of is AdamW else {"fused": True}
    optimizer = optimizer_of(network.parameters(), **options, **fused)  # type: ignore[arg-type]
    if state:
        kept = torch.load(io.BytesIO(state), weights_only=True)
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
    for step in steps:
        optimizer.zero_grad()
        network(0.5 + step).backward()
        optimizer.step()
    content = io.BytesIO()
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, content)
    return content.getvalue()


def assert_same(one: bytes, other: bytes) -> None:
    ours, theirs = (torch.load(io.BytesIO(content), weights_only=True) for content in (one, other))
    assert ours["network"].keys() == theirs["network"].keys()
    for key, value in ours["network"].items():
        assert torch.equal(value, theirs["network"][key])
    for number, state in theirs["optimizer"]["state"].items():
        for key, value in state.items():
            assert torch.equal(ours["optimizer"]["state"][number][key], value)


@pytest.mark.parametrize("last", [False, True])
def test_the_weights_and_the_state_are_those_of_torchs_own_step(last: bool) -> None:
    ours = trained(AdamW, last=last, steps=range(5))
    theirs = trained(torch.optim.AdamW, last=last, steps=range(5))
    assert_same(ours, theirs)


def test_a_state_that_was_written_and_read_goes_on_as_if_nothing_had_happened() -> None:
    half = trained(AdamW, last=True, steps=range(3))
    assert_same(trained(AdamW, last=True, steps=range(3, 6), state=half), trained(AdamW, last=True, steps=range(6)))


def test_weights_with_channels_last_are_met_without_a_copy() -> None:
    network = Small(last=True)
    optimizer = AdamW(network.parameters(), lr=0.1, weight_decay=0.0)
    network(1.0).backward()
    lists: list[list[torch.Tensor]] = [[] for _ in range(6)]
    optimizer._init_group(optimizer.param_groups[0], *lists)
    for met in lists[:4]:
        assert all(tensor.is_contiguous() for tensor in met)
    assert [w.data_ptr() for w in lists[0]] == [w.data_ptr() for w in network.parameters()]


def test_a_gradient_in_another_layout_is_not_mixed_up() -> None:
    network = Small(last=True)
    other = copy.deepcopy(network)
    ours = AdamW(network.parameters(), lr=0.1, weight_decay=0.0)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.1, weight_decay=0.0, fused=True)
    for one, optimizer in ((network, ours), (other, theirs)):
        for weight in one.parameters():
            weight.grad = torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.shape)  # plain rows
        optimizer.step()
    for one, another in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, another)
