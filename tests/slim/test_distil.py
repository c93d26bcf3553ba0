"""The distance of two networks' answers: 0 only where they are the same, and what the papers define."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medrail.models.classifiers import TinyCnn
from medrail.slim.distil import Distillation

KINDS: dict[Any, tuple[int, ...]] = {
    "classification": (6, 3),
    "multi_label": (6, 3),
    "segmentation": (2, 3, 5, 7),
}


def guide(kind: Any, share: float = 0.5, temperature: float = 2.0) -> Distillation:
    torch.manual_seed(0)
    return Distillation(TinyCnn(2, 1, 3), 2, kind, share, temperature)


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6), st.floats(0.5, 8))
@settings(max_examples=60, deadline=None)
def test_the_distance_is_zero_only_between_the_same_probabilities(kind: Any, seed: int, temperature: float) -> None:
    source = torch.Generator().manual_seed(seed)
    one, other = (3 * torch.randn(KINDS[kind], generator=source) for _ in range(2))
    distance = guide(kind, temperature=temperature).distance
    assert distance(one, one).item() == pytest.approx(0, abs=1e-5)
    assert distance(one, other) > 1e-3
    if kind != "multi_label":  # a constant added to all logits changes no softmax
        assert distance(one + 5, one).item() == pytest.approx(0, abs=1e-4)


def test_the_divergence_is_that_of_the_softened_probabilities() -> None:
    logits, wanted = torch.randn(5, 4), torch.randn(5, 4)
    p, q = (wanted / 3).softmax(1).double(), (logits / 3).softmax(1).double()
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    found = guide("classification", temperature=3).distance(logits, wanted)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_two_labels_of_one_logit_are_two_classes() -> None:
    """Yes and no of a label are a softmax over (logit, 0)."""
    logits, wanted = torch.randn(8, 1), torch.randn(8, 1)
    of_label = guide("multi_label").distance(logits, wanted)
    both = [torch.cat([one, torch.zeros_like(one)], dim=1) for one in (logits, wanted)]
    torch.testing.assert_close(of_label, guide("classification").distance(*both))


def test_the_share_divides_between_targets_and_teacher() -> None:
    images, logits = torch.randn(4, 1, 16, 24), torch.randn(4, 3)
    loss = functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(guide("classification", share=0.0)(images, logits, loss), loss)
    teacher = guide("classification", share=1.0)
    torch.testing.assert_close(teacher(images, logits, loss), teacher.distance(logits, teacher.teacher(images)))
    half = guide("classification", share=0.5)(images, logits, loss)
    torch.testing.assert_close(half, (loss + teacher(images, logits, loss)) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_following_it_brings_the_answers_together(kind: Any) -> None:
    torch.manual_seed(0)
    logits, wanted = torch.randn(KINDS[kind], requires_grad=True), torch.randn(KINDS[kind])
    optimizer, distance = torch.optim.Adam([logits], lr=0.1), guide(kind).distance
    first = float(distance(logits, wanted).detach())
    for _ in range(200):
        optimizer.zero_grad()
        distance(logits, wanted).backward()
        optimizer.step()
    assert distance(logits, wanted) < 0.01 * first


def test_the_teacher_never_learns() -> None:
    one = guide("classification")
    logits = torch.randn(4, 3, requires_grad=True)
    one(torch.randn(4, 1, 16, 24), logits, logits.sum()).backward()
    assert logits.grad is not None
    assert not one.teacher.training
    assert all(parameter.grad is None for parameter in one.teacher.parameters())
