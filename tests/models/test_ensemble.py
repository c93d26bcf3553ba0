"""An ensemble answers with the mean of its members' probabilities, whatever the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from torch import nn

from medrail.models.ensemble import Ensemble


class Says(nn.Module):
    """Answers with the same logits whatever it is shown."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("logits", torch.from_numpy(logits))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def said(logits: np.ndarray, *, several: bool = False) -> np.ndarray:
    """(M, N, K, ...) of the members -> what the ensemble answers."""
    return Ensemble([Says(one) for one in logits], several=several)(torch.zeros(1)).numpy()


@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 1, 3, 5, 7), (5, 2, 2, 3, 4, 5)])
def test_the_softmax_of_the_answer_is_the_mean_of_the_softmaxes(shape: tuple[int, ...]) -> None:
    logits = np.random.default_rng(0).normal(0, 5, shape).astype(np.float32)
    assert softmax(said(logits), axis=1) == pytest.approx(softmax(logits, axis=2).mean(axis=0), abs=1e-6)


def test_the_answer_is_the_logarithm_of_a_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (3, 2, 4)).astype(np.float32)
    assert np.exp(said(logits)).sum(axis=1) == pytest.approx(1, abs=1e-5)


@given(st.lists(st.lists(st.floats(-80, 80, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_extreme_logits_stay_finite(values: list[list[float]]) -> None:
    logits = np.array(values, dtype=np.float32)[:, None]
    answer = said(logits)
    assert np.isfinite(answer).all()
    assert softmax(answer, axis=1) == pytest.approx(softmax(logits, axis=2).mean(axis=0), abs=1e-5)
    several = said(logits, several=True)
    assert np.isfinite(several).all()
    assert expit(several) == pytest.approx(expit(logits).mean(axis=0), abs=1e-5)


def test_one_very_sure_member_does_not_outvote_the_others() -> None:
    logits = np.array([[[40.0, 0.0]], [[0.0, 2.0]], [[0.0, 2.0]]], dtype=np.float32)
    assert logits.mean(axis=0).argmax() == 0
    assert said(logits).argmax() == 1


def test_a_member_alone_answers_as_itself() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (1, 2, 4)).astype(np.float32)
    assert softmax(said(logits), axis=1) == pytest.approx(softmax(logits[0], axis=1), abs=1e-6)
