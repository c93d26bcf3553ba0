"""DeLong's interval and test: against all pairs one by one, scikit-learn, simulation, and where nothing can be said."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from medrail.evaluate.bootstrap import wilson
from medrail.evaluate.delong import auc_components, delong_difference, delong_interval, delong_method

Cases = tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]


@st.composite
def cases(draw: st.DrawFn) -> Cases:
    """Classes, two models' scores with many ties, and a few patients with several cases each."""
    n = draw(st.integers(2, 14))
    positive = draw(hnp.arrays(np.bool_, n))
    assume(positive.any() and not positive.all())
    scores = hnp.arrays(np.int64, n, elements=st.integers(0, 5))
    patients = draw(st.lists(st.sampled_from("abcdefgh"), min_size=n, max_size=n))
    return positive, draw(scores) / 4, draw(scores) / 4, patients


def psi(up: float, down: float) -> float:
    return 1.0 if up > down else 0.5 if up == down else 0.0


def by_the_book(positive: np.ndarray, columns: list[np.ndarray], patients: list[str]) -> tuple[float, float, float]:
    """Difference of the areas (or the area), its variance as Obuchowski writes it, and 1.96 for few patients.

    By loops over pairs and clusters.
    """
    signs, total, by_patient = [1, -1], 0.0, {name: [0.0, 0.0] for name in patients}
    up_cases = [i for i, label in enumerate(positive) if label]
    down_cases = [i for i, label in enumerate(positive) if not label]
    for sign, scores in zip(signs, columns, strict=False):
        area = np.mean([psi(scores[i], scores[j]) for i in up_cases for j in down_cases])
        total += sign * area
        for i in up_cases:
            by_patient[patients[i]][0] += sign * (np.mean([psi(scores[i], scores[j]) for j in down_cases]) - area)
        for j in down_cases:
            by_patient[patients[j]][1] += sign * (np.mean([psi(scores[i], scores[j]) for i in up_cases]) - area)
    sums = np.array(list(by_patient.values()))
    m, n = len(up_cases), len(down_cases)
    i10, i01 = len({patients[i] for i in up_cases}), len({patients[j] for j in down_cases})
    i = len(by_patient)
    if i10 < 2 or i01 < 2:
        return float(total), math.nan, math.nan
    s10 = i10 / ((i10 - 1) * m) * (sums[:, 0] ** 2).sum()
    s01 = i01 / ((i01 - 1) * n) * (sums[:, 1] ** 2).sum()
    s11 = i / (i - 1) * (sums[:, 0] * sums[:, 1]).sum()
    alone = s10 / m + s01 / n
    variance = float(alone + 2 * s11 / (m * n))
    if variance < 1e-12:
        return float(total), variance, math.nan
    freedom = alone**2 / ((s10 / m) ** 2 / (i10 - 1) + (s01 / n) ** 2 / (i01 - 1))
    return float(total), variance, float(stats.t.ppf(0.975, freedom))


@settings(deadline=None, max_examples=200)
@given(cases())
def test_interval_as_by_the_book(given_cases: Cases) -> None:
    positive, scores, _, patients = given_cases
    area, variance, quantile = by_the_book(positive, [scores], patients)
    found = delong_interval(positive, scores, patients)
    assert found.auc == pytest.approx(area)
    if 0 < area < 1 and variance > 1e-12:
        logits = [math.log(bound / (1 - bound)) for bound in found]
        half = quantile * math.sqrt(variance) / (area * (1 - area))
        assert [after - before for before, after in pairwise((logits[1], logits[0], logits[2]))] == pytest.approx(
            [half, half], rel=1e-5
        )
    elif 0 < area < 1:
        assert math.isnan(found.low)
        assert "no interval" in delong_method(positive, scores, patients)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_difference_as_by_the_book(given_cases: Cases) -> None:
    positive, first, second, patients = given_cases
    difference, variance, _ = by_the_book(positive, [first, second], patients)
    found = delong_difference(positive, first, second, patients)
    assert found.difference == pytest.approx(difference)
    if variance > 1e-12:
        assert (found.high - found.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-5)
        swapped = delong_difference(positive, second, first, patients)
        assert (swapped.difference, swapped.p) == pytest.approx((-difference, found.p))
    else:
        assert math.isnan(found.low)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_area_as_scikit_learn(given_cases: Cases) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    positive, scores, _, _ = given_cases
    found = auc_components(positive, scores)
    assert found.auc == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert found.of_negatives.mean() == pytest.approx(found.auc)
    assert len(found.of_positives) == positive.sum()


def test_p_and_interval_agree_on_one_case_a_patient() -> None:
    """The published example's form: z = difference / SE, and p is two-sided normal."""
    generator = np.random.default_rng(0)
    positive = np.arange(80) % 2 == 0
    first = positive + generator.normal(size=80)
    second = 0.5 * positive + generator.normal(size=80)
    found = delong_difference(positive, first, second, range(80))
    v10, v01 = (
        np.array([one, other])
        for one, other in zip(auc_components(positive, first)[1:], auc_components(positive, second)[1:], strict=True)
    )
    covariance = np.cov(v10) / 40 + np.cov(v01) / 40
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.difference) / error))
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, loc=found.difference, scale=error))


def test_repeated_cases_of_a_patient_are_no_new_witnesses() -> None:
    generator = np.random.default_rng(1)
    positive = generator.random(60) < 0.4
    scores = positive + generator.normal(size=60)
    alone = delong_interval(positive, scores, range(60))
    tenfold = delong_interval(np.repeat(positive, 10), np.repeat(scores, 10), np.repeat(np.arange(60), 10).tolist())
    assert tenfold == pytest.approx(alone)
    assert "clustered by patient" not in delong_method(positive, scores, range(60))


@pytest.mark.parametrize("clusters", [1, 3])
def test_interval_covers(clusters: int) -> None:
    """600 experiments with 60 patients: about 95 % hold the true area (SD of the share 0.9 %)."""
    truth = stats.norm.cdf(1.5 / math.sqrt(2))
    generator = np.random.default_rng(clusters)
    patients = np.repeat(np.arange(60), clusters)
    covered = 0
    for _ in range(600):
        positive = np.repeat(np.arange(60) % 3 == 0, clusters)
        shared = generator.normal(size=60)[patients] * math.sqrt(0.7)
        scores = 1.5 * positive + shared + generator.normal(size=len(patients)) * math.sqrt(0.3)
        found = delong_interval(positive, scores, patients.tolist())
        covered += found.low <= truth <= found.high
    assert 0.925 <= covered / 600 <= 0.975


def test_perfect_ranking_has_an_interval_by_separate_pairs() -> None:
    positive = np.arange(50) < 20
    found = delong_interval(positive, positive * 1.0, range(50))
    assert found == pytest.approx((1.0, *wilson(1.0, 20)))
    assert "20 separate pairs of patients" in delong_method(positive, positive * 1.0, range(50))
    assert delong_interval(positive, positive * -1.0, range(50)) == pytest.approx((0.0, *wilson(0.0, 20)))


def test_both_classes_in_each_patient_give_half_the_pairs() -> None:
    positive, patients = np.tile([True, False], 7), np.repeat(np.arange(7), 2).tolist()
    assert delong_interval(positive, positive * 1.0, patients).low == pytest.approx(wilson(1.0, 3)[0])


@pytest.mark.parametrize(
    ("positive", "scores", "patients", "why"),
    [
        ([True, True], [0.1, 0.2], "ab", "one of the classes has no case"),
        ([], [], "", "one of the classes has no case"),
        ([True, False, True, False], [0.1, 0.2, 0.4, 0.3], "aabb", ""),
        ([True, False, False, True], [0.1, 0.2, 0.0, 0.2], "abca", "one patient only"),
        ([True, True, False, False], [0.5] * 4, "abcd", "the scores rank nothing"),
    ],
)
def test_says_why_there_is_no_interval(positive: list[bool], scores: list[float], patients: str, why: str) -> None:
    said = delong_method(positive, scores, list(patients))
    assert why in said
    assert math.isnan(delong_interval(positive, scores, list(patients)).low) == ("no interval" in said) == bool(why)


def test_alike_and_incomparable_models() -> None:
    positive = np.array([True, True, True, False, False])
    perfect, constant = positive * 1.0, np.zeros(5)
    assert delong_difference(positive, perfect, perfect * 3, range(5)).p == 1
    apart = delong_difference(positive, perfect, constant, range(5))
    assert apart.difference == 0.5
    assert math.isnan(apart.p)
    assert math.isnan(apart.low)
    assert math.isnan(delong_difference([True], [1.0], [2.0], ["a"]).difference)
