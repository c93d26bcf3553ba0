"""Abstaining and conformal sets: by hand, by weights, and the promised coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from answers import answers
from medrail.evaluate.bootstrap import point
from medrail.evaluate.calibration import named_class, softmax
from medrail.evaluate.coverage import (
    abstention_curve,
    accuracy_above,
    area_under_risk_coverage,
    conformal_quantile,
    conformal_sets,
    covered_by_chance,
    set_statistics,
)


def test_the_curve_by_hand() -> None:
    curve = abstention_curve([0.9, 0.6, 0.9, 0.7], [True, False, False, True])
    assert curve == [(0.5, 0.5), (0.75, pytest.approx(2 / 3)), (1.0, 0.5)]
    area = area_under_risk_coverage([0.9, 0.6, 0.9, 0.7], [True, False, False, True])
    assert point(area, 4) == pytest.approx((0.5 + 0.5 + 1 / 3 + 0.5) / 4)
    assert abstention_curve([], []) == []
    assert math.isnan(point(area_under_risk_coverage([], []), 0))


@settings(deadline=None, max_examples=100)
@given(answers(), st.data())
def test_laws_of_abstaining(answer: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    sure, right = named_class(answer[1], answer[0])
    n = len(right)
    curve = abstention_curve(sure, right)
    assert curve[-1] == (1.0, pytest.approx(right.mean()))
    for (coverage, accuracy), limit in zip(curve, np.unique(sure)[::-1], strict=True):
        found = {name: point(one, n) for name, one in accuracy_above(sure, right, limit).items()}
        assert found == {"coverage": pytest.approx(coverage), "accuracy": pytest.approx(accuracy)}
    times = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3)))
    repeated = area_under_risk_coverage(np.repeat(sure, times), np.repeat(right, times))
    weighted = float(area_under_risk_coverage(sure, right)(times[None].astype(float))[0])
    assert weighted == pytest.approx(point(repeated, int(times.sum())), nan_ok=True)


def test_the_quantile_is_that_of_the_finite_sample() -> None:
    """Of 9 cases at alpha 0.1 the 9th smallest of 10; of 8 none is safe."""
    p = np.linspace(0.1, 0.9, 9)
    given_ = np.stack([p, 1 - p], axis=1)
    assert conformal_quantile(given_, np.zeros(9, int), 0.1) == pytest.approx(0.9)
    assert conformal_quantile(given_, np.zeros(9, int), 0.2) == pytest.approx(0.8)
    assert conformal_quantile(given_[:8], np.zeros(8, int), 0.1) == 1
    assert conformal_sets(given_, 1.0).all()
    assert conformal_quantile(np.empty((0, 2)), [], 0.1) == 1


def test_copies_of_a_patients_case_do_not_count_twice() -> None:
    generator = np.random.default_rng(0)
    given_, truth = generator.dirichlet(np.ones(3), 40), generator.integers(0, 3, 40)
    alone = conformal_quantile(given_, truth, 0.1)
    many = conformal_quantile(
        np.repeat(given_, 4, axis=0), np.repeat(truth, 4), 0.1, np.repeat(np.arange(40), 4).tolist()
    )
    assert many == alone
    sets = conformal_sets(given_, alone)
    assert sets[np.arange(40), truth].mean() >= 0.9


@pytest.mark.parametrize(("cases_of_a_patient", "alpha"), [(1, 0.1), (4, 0.2)])
def test_sets_hold_the_truth_as_often_as_promised(cases_of_a_patient: int, alpha: float) -> None:
    """500 experiments: 39 patients to fit, one case of a new one to judge. At least 1 - alpha, and hardly more."""
    generator, held, sizes = np.random.default_rng(0), [], []
    for _ in range(500):
        members = np.repeat(np.arange(40), cases_of_a_patient)
        truth = generator.integers(0, 3, 40)[members]
        logits = (
            np.eye(3)[truth] * 2
            + generator.normal(size=(40, 3))[members]
            + 0.5 * generator.normal(size=(len(members), 3))
        )
        given_ = softmax(logits)
        fitted = members < 39
        quantile = conformal_quantile(given_[fitted], truth[fitted], alpha, members[fitted].tolist())
        new = len(members) - 1
        statistics = set_statistics(given_[[new]], truth[[new]], quantile)
        held.append(point(statistics["set_coverage"], 1))
        sizes.append(point(statistics["set_size"], 1))
    assert 1 - alpha - 0.03 <= np.mean(held) <= 1 - alpha + 0.06
    assert 0.9 <= np.mean(sizes) <= 2


def test_sets_are_counted() -> None:
    given_ = np.array([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05], [0.4, 0.3, 0.3], [0.1, 0.8, 0.1]])
    found = {name: point(one, 4) for name, one in set_statistics(given_, [0, 1, 2, 0], 0.56).items()}
    assert found == {"set_coverage": 0.5, "set_size": 1.0, "set_single": 0.5, "set_empty": 0.25}


@pytest.mark.parametrize(("held_out", "n"), [(30, 180), (200, 60)])
def test_how_often_chance_alone_covers_so_little(held_out: int, n: int) -> None:
    """Against the drawing of it: quantiles from held-out scores, new scores of the same kind."""
    rng, alpha, share = np.random.default_rng(0), 0.1, 0.86
    rank = math.ceil((held_out + 1) * (1 - alpha))
    cut = np.sort(rng.random((20_000, held_out)), axis=1)[:, rank - 1 : rank]
    few = np.mean((rng.random((20_000, n)) <= cut).mean(axis=1) <= round(share * n) / n)
    assert covered_by_chance(share, n, held_out, alpha) == pytest.approx(few, abs=0.02)
    assert covered_by_chance(1.0, n, held_out, alpha) == pytest.approx(1.0)
