"""The score of unlikeness: scikit-learn's Ledoit-Wolf, other data told apart, and small samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medrail.errors import InputError
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.ood import fit_ood, ledoit_wolf, threshold_at
from medrail.evaluate.patients_needed import halving_sentence, more_patients


@pytest.mark.parametrize(("n", "n_features"), [(200, 12), (15, 40), (3, 6), (60, 1), (500, 3)])
def test_as_scikit_learn(n: int, n_features: int) -> None:
    judge = pytest.importorskip("sklearn.covariance")
    generator = np.random.default_rng(n)
    features = generator.normal(size=(n, n_features)) @ generator.normal(size=(n_features, n_features)) + 3
    expected = judge.LedoitWolf().fit(features)
    covariance, shrinkage = ledoit_wolf(features - features.mean(axis=0))
    np.testing.assert_allclose(covariance, expected.covariance_, rtol=1e-8, atol=1e-10)
    assert shrinkage == pytest.approx(expected.shrinkage_, abs=1e-10)
    new = generator.normal(size=(7, n_features)) * 3
    np.testing.assert_allclose(
        fit_ood(features).scores(new) ** 2 * n_features, expected.mahalanobis(new), rtol=1e-5, atol=1e-8
    )


def test_other_data_are_told_apart_and_the_same_are_not() -> None:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(64, 64))
    train, validation, same = (np.maximum(generator.normal(size=(n, 64)) @ mixing, 0) for n in (300, 200, 1000))
    model = fit_ood(train).with_threshold(fit_ood(train).scores(validation), 0.95)
    other = np.maximum(generator.normal(size=(200, 64)) @ generator.normal(size=(64, 64)) * 1.5 + 6, 0)
    assert (model.scores(other) > model.threshold).mean() > 0.95
    assert 0.02 < (model.scores(same) > model.threshold).mean() < 0.09
    assert model.quantile == 0.95
    assert model.scores(train).mean() == pytest.approx(1, abs=0.15)


def test_more_features_than_cases() -> None:
    generator = np.random.default_rng(0)
    model = fit_ood(generator.normal(size=(10, 500)))
    assert np.isfinite(model.whitening).all()
    assert model.scores(np.full(500, 10.0))[0] > 2 * model.scores(generator.normal(size=(1, 500)))[0]


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((1, 3)),
        np.eye(2, 3),
        np.ones((5, 3)),
        np.zeros(4),
        np.zeros((3, 0)),
        np.array([[1.0, math.nan], [0, 1]]),
    ],
)
def test_refuses_what_cannot_be_fitted(features: np.ndarray) -> None:
    with pytest.raises(InputError, match="needed"):
        fit_ood(features)


def test_threshold_of_few_cases_says_what_it_reaches() -> None:
    assert threshold_at(np.arange(1.0, 100), 0.99) == (99.0, 0.99)
    assert threshold_at(np.arange(1.0, 100), 0.95) == (95.0, 0.95)
    assert threshold_at([3.0, 1.0, 2.0], 0.99) == (3.0, 0.75)
    assert all(math.isnan(value) for value in threshold_at([], 0.99))


def test_to_halve_an_interval_takes_three_times_as_many_more() -> None:
    assert more_patients(50) == 150
    assert more_patients(100, 1.0) == 0
    said = halving_sentence(Measured(0.9, 0.87, 0.93, 400, ""), 90)
    assert said == "To halve this interval (now 0.06 wide) you need about 270 more patients like these 90."
    assert "1900 more" in halving_sentence(Measured(0.9, 0.87, 0.93, 624, ""), 624)


@pytest.mark.parametrize(
    ("low", "high", "patients", "part"),
    [
        (math.nan, math.nan, 50, "There is no interval"),
        (0.9, 0.9, 50, "has no width"),
        (0.7, 0.92, 50, "lopsided"),
        (0.85, 0.95, 6, "the width itself is a guess"),
    ],
)
def test_halving_is_honest(low: float, high: float, patients: int, part: str) -> None:
    assert part in halving_sentence(Measured(0.9, low, high, 400, ""), patients)


def test_the_interval_really_halves() -> None:
    """With four times as many patients the interval of a mean is about half as wide."""
    from medrail.evaluate.bca import bca_bootstrap
    from medrail.evaluate.scoring import mean_of

    generator = np.random.default_rng(0)
    widths = []
    for n in (60, 60 + more_patients(60)):
        bounds = [
            bca_bootstrap({"m": mean_of(generator.beta(8, 2, n))}, range(n), resamples=400, seed=seed)["m"]
            for seed in range(20)
        ]
        widths.append(np.mean([high - low for low, high in bounds]))
    assert widths[1] / widths[0] == pytest.approx(0.5, abs=0.06)


def test_one_patient_says_nothing_of_others() -> None:
    assert "One patient" in halving_sentence(Measured(0.96, 0.95, 0.97, 1, "over slices"), 1)
    assert "more patients like" not in halving_sentence(Measured(0.96, 0.95, 0.97, 1, "over slices"), 1)
