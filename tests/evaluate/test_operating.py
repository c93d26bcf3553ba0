"""Thresholds: every one tried by brute force, scikit-learn, ties and missing classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medrail.evaluate.bootstrap import point
from medrail.evaluate.operating import (
    at_class_thresholds,
    at_threshold,
    class_thresholds,
    threshold_for_sensitivity,
    youden_threshold,
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 25))
    return draw(hnp.arrays(np.bool_, n)), draw(hnp.arrays(np.int64, n, elements=st.integers(0, 6))) / 6


def rates(positive: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    called = scores >= threshold
    return float(called[positive].mean()), float((~called)[~positive].mean())


@settings(deadline=None, max_examples=200)
@given(scored())
def test_youden_is_the_best_of_all(cases: tuple[np.ndarray, np.ndarray]) -> None:
    positive, scores = cases
    found = youden_threshold(positive, scores)
    if positive.all() or not positive.any():
        assert math.isnan(found)
        return
    gains = {float(s): sum(rates(positive, scores, s)) - 1 for s in np.unique(scores)}
    if max(gains.values()) <= 1e-12:
        assert math.isnan(found)
        return
    assert sum(rates(positive, scores, found)) - 1 == pytest.approx(max(gains.values()))
    best = min(s for s, gain in gains.items() if gain > max(gains.values()) - 1e-12)
    assert rates(positive, scores, found)[0] == rates(positive, scores, best)[0], "of equals the most sensitive"


@settings(deadline=None, max_examples=200)
@given(scored(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]))
def test_sensitivity_is_reached_and_no_higher_threshold_reaches_it(
    cases: tuple[np.ndarray, np.ndarray], target: float
) -> None:
    positive, scores = cases
    found = threshold_for_sensitivity(positive, scores, target)
    if not positive.any():
        assert math.isnan(found)
        return
    assert (scores[positive] >= found).mean() >= target - 1e-9
    higher = [s for s in np.unique(scores) if (scores >= s).sum() < (scores >= found).sum()]
    assert all((scores[positive] >= s).mean() < target for s in higher)


def test_the_threshold_lies_halfway() -> None:
    assert youden_threshold([False, False, True], [0.1, 0.2, 0.8]) == pytest.approx(0.5)
    assert threshold_for_sensitivity([False, True, True], [0.1, 0.5, 0.9], 0.5) == pytest.approx(0.7)
    close = [0.5, np.nextafter(0.5, 1)]
    assert youden_threshold([False, True], close) == close[1]


@settings(deadline=None, max_examples=100)
@given(scored(), st.floats(0, 1))
def test_rates_as_scikit_learn(cases: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    judge = pytest.importorskip("sklearn.metrics")
    positive, scores = cases
    found = {name: point(one, len(scores)) for name, one in at_threshold(positive, scores, threshold).items()}
    tn, fp, fn, tp = judge.confusion_matrix(positive, scores >= threshold, labels=[False, True]).ravel()
    with np.errstate(invalid="ignore"):
        expected = np.array([tp, tn, tp, tn]) / np.array([tp + fn, tn + fp, tp + fp, tn + fn])
    assert list(found.values()) == pytest.approx(list(expected), nan_ok=True)
    assert list(found) == ["sensitivity", "specificity", "ppv", "npv"]


def test_each_class_against_the_rest() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 90)
    given_ = generator.dirichlet(np.ones(3), 90) + np.eye(3)[truth] * 0.6
    given_ /= given_.sum(axis=1, keepdims=True)
    thresholds = class_thresholds(truth, given_, "abc")
    for index, name in enumerate("abc"):
        assert thresholds[name] == youden_threshold(truth == index, given_[:, index])
    sensitive = class_thresholds(truth, given_, "abc", sensitivity=0.95)
    found = {name: point(one, 90) for name, one in at_class_thresholds(truth, given_, "abc", sensitive).items()}
    assert len(found) == 12
    assert all(found[f"sensitivity@/{name}"] >= 0.95 for name in "abc")
    assert math.isnan(class_thresholds([0, 0], [[0.9, 0.1], [0.8, 0.2]], "ab")["b"])


def test_without_a_threshold_nothing_is_defined() -> None:
    assert all(math.isnan(point(one, 2)) for one in at_threshold([True, False], [0.2, 0.1], math.nan).values())
