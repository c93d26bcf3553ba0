"""A step: divided among parts it is the same step; memory that does not suffice; deep supervision; the average."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric

from medrail.config import ModelConfig, TrainConfig
from medrail.errors import RunError
from medrail.models import MODELS, build_model
from medrail.train.average import Average
from medrail.train.loss import make_loss
from medrail.train.step import Step
from medrail.train.supervision import Supervised, supervised_loss

CPU = torch.device("cpu")
COUNTS = (6, 2)


def step_with(network: torch.nn.Module, parts: int, task: Any = "classification", **config: Any) -> Step:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    fabric = Fabric(accelerator="cpu", devices=1)
    loss_of = make_loss(TrainConfig(**config), task, COUNTS, CPU)
    return Step(fabric, *fabric.setup(network, optimizer), loss_of, parts)


def without_batch_norm() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig(name="vit", dims=2), "classification", 2, (16, 24))


def material(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(count, 1, 16, 24, generator=torch.Generator().manual_seed(1))
    return images, torch.tensor([0, 1, 0, 0, 0, 0, 1, 0][:count])


@pytest.mark.parametrize("class_weights", ["auto", "none"])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulated_batches_are_one_large_batch(parts: int, class_weights: str) -> None:
    """Also where classes have weights and the parts hold different numbers of them."""
    networks, losses = [], []
    for divided in (1, parts):
        network = without_batch_norm()
        losses.append(step_with(network, divided, class_weights=class_weights)(*material()))
        networks.append(network)
    torch.testing.assert_close(losses[0], losses[1])
    before = without_batch_norm().state_dict()
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert any(not torch.equal(value, before[name]) for name, value in networks[0].state_dict().items())


class Hungry(torch.nn.Module):
    """Runs out of memory with more than ``most`` samples at once, as CUDA says it."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.inner, self.most = without_batch_norm(), most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise self.error
        answer: torch.Tensor = self.inner(images)
        return answer


def test_a_lack_of_memory_halves_the_batch_and_the_step_stays_the_same() -> None:
    plain, hungry = without_batch_norm(), Hungry(most=3)
    wanted = step_with(plain, 1)(*material())
    step = step_with(hungry, 1)
    torch.testing.assert_close(step(*material()), wanted)
    assert hungry.seen == [8, 4, 2, 2, 2, 2]
    assert step.parts == 4
    told = step.new_notes()
    assert told == {"memory": "memory did not suffice for more: each step computes 2 samples at a time"}, "the last"
    assert step.new_notes() == {}
    for one, other in zip(plain.parameters(), hungry.inner.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    step(*material())
    assert hungry.seen[6:] == [2] * 4, "the next step begins with what was found"


def test_memory_for_not_even_one_sample_says_what_to_do() -> None:
    with pytest.raises(RunError, match=r"train\.accumulate"):
        step_with(Hungry(most=0), 1)(*material())


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="sizes of tensors"):
        step_with(Hungry(0, RuntimeError("sizes of tensors must match")), 1)(*material())


# --- the average


@given(decay=st.floats(0, 0.999), values=st.lists(st.floats(-10, 10), min_size=1, max_size=30))
@settings(deadline=None)
def test_the_average_is_the_one_of_the_formula(decay: float, values: list[float]) -> None:
    network = torch.nn.Linear(1, 1, bias=False).double()
    network.weight.data.fill_(3.0)
    average, wanted = Average(network, decay), 3.0
    for step, value in enumerate(values):
        network.weight.data.fill_(value)
        average.follow(network, step)
        used = min(decay, (1 + step) / (10 + step))
        wanted = used * wanted + (1 - used) * value
    assert float(average.network.weight.detach()) == pytest.approx(wanted, abs=1e-9)
    assert float(network.weight.detach()) == values[-1], "the trained network is left alone"
    assert not average.network.weight.requires_grad


def test_the_average_of_a_network_that_stands_still_is_that_network_with_its_statistics() -> None:
    network = build_model(ModelConfig(name="tiny_cnn", dims=2), "classification", 2)
    average = Average(network, 0.99)
    network(torch.randn(4, 1, 16, 16) + 5)  # moves the running statistics
    for step in range(3000):
        average.follow(network, step)
    for one, other in zip(network.state_dict().values(), average.network.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


# --- deep supervision


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.maps])
@pytest.mark.parametrize("dims", [2, 3])
def test_supervised_maps_are_coarser_and_coarser_and_vanish_in_evaluation(name: Any, dims: Any) -> None:
    size = (32, 48) if dims == 2 else (32, 48, 32)
    network = build_model(ModelConfig(name=name, dims=dims, width=8), "segmentation", 3, size)
    maps = MODELS[name].maps
    assert maps is not None
    own = set(network.state_dict())
    supervised = Supervised(network, maps, 3, (1, *size))
    answers = supervised.train()(torch.randn(2, 1, *size))
    assert [tuple(answer.shape) for answer in answers] == [
        (2, 3, *(length // factor for length in size)) for factor in (1, 2, 4)
    ]
    sum(answer.square().mean() for answer in answers).backward()
    assert all(parameter.grad is not None for parameter in supervised.parameters())
    images = torch.randn(2, 1, *size)
    with torch.inference_mode():
        torch.testing.assert_close(supervised.eval()(images), network.eval()(images))
    assert set(network.state_dict()) == own, "what is kept and exported is the network alone"
    assert not any(module._forward_hooks for module in network.modules())


def test_the_loss_of_several_answers_is_their_weighted_mean() -> None:
    loss_of = make_loss(TrainConfig(), "segmentation", (), CPU)
    targets = torch.zeros(1, 4, 8, dtype=torch.int64)
    targets[:, :2, :4] = 1
    coarse = targets[:, ::2, ::2]
    answers = [torch.randn(1, 2, 4, 8), torch.randn(1, 2, 2, 4)]
    wanted = (loss_of(answers[0], targets) + 0.5 * loss_of(answers[1], coarse)) / 1.5
    torch.testing.assert_close(supervised_loss(loss_of, answers, targets), wanted)
    torch.testing.assert_close(supervised_loss(loss_of, answers[0], targets), loss_of(answers[0], targets))
